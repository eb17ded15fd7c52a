"""Tokens kept fresh: early, once, whatever the site does and however many want one."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.databases import database_of
from tests.gateway_under_test import until
from tests.security.oauth_world import World, world
from trunkline.downstream.server_config import ServerConfig
from trunkline.errors import TrunklineError
from trunkline.security.oauth.failures import LoginRequired, OAuthInvalid, OAuthUnavailable
from trunkline.security.oauth.oauth import LoginState
from trunkline.security.oauth.refresh import is_due
from trunkline.security.oauth.tokens import numbered
from trunkline.security.oauth.turns import holder_of
from trunkline.security.vault.vault import Secret

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as made:
        yield made


async def age(here: World, mail: ServerConfig, *, left: float) -> None:
    """Let the token of Ada have so many seconds left."""
    holder = holder_of(None, "ada", mail)
    secret = await here.first.vault.get(None, "ada", holder.name)
    assert secret is not None
    ends = datetime.now(UTC) + timedelta(seconds=left)
    await here.first.vault.put(None, "ada", holder.name, replace(secret, expires_at=ends))


async def test_a_hundred_who_want_a_token_that_has_ended_cause_one_refresh(here: World) -> None:
    mail = here.server()
    old = await here.logged_in(mail)
    here.site.expire()
    await age(here, mail, left=-1)

    tokens = await asyncio.gather(*(here.oauth.token(None, "ada", mail, None) for _ in range(100)))

    assert len(set(tokens)) == 1
    assert tokens[0] != old
    assert tokens[0] in here.site.access
    assert here.site.counts["refresh_token"] == 1
    assert here.site.bodies[-1]["resource"] == here.site.mcp


async def test_a_token_about_to_end_is_given_out_while_the_next_one_is_fetched(
    here: World,
) -> None:
    mail = here.server()
    old = await here.logged_in(mail)
    await age(here, mail, left=30)
    here.site.faults.token_gate = asyncio.Event()

    assert await here.oauth.token(None, "ada", mail, None) == old
    await until(lambda: here.site.counts["refresh_token"])
    assert (await here.oauth.status(None, "ada", mail)).state is LoginState.REFRESHING
    assert await here.oauth.token(None, "ada", mail, None) == old
    here.site.faults.token_gate.set()

    await until(lambda: not here.oauth.refreshing.is_flying(holder_of(None, "ada", mail)))
    assert await here.oauth.token(None, "ada", mail, None) != old
    assert here.site.counts["refresh_token"] == 1


async def test_processes_that_refresh_at_once_use_every_refresh_token_once(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)
    command = [sys.executable, "-m", "tests.security.oauth_worker"]
    arguments = [database_of(here.home), str(here.home), here.site.mcp]
    pipes: dict[str, Any] = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    workers = [
        await asyncio.create_subprocess_exec(*command, *arguments, **pipes) for _ in range(2)
    ]

    async def ask(worker: asyncio.subprocess.Process) -> str:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        return await hear(worker)

    async def hear(worker: asyncio.subprocess.Process) -> str:
        assert worker.stdout is not None
        return (await worker.stdout.readline()).decode().strip()

    try:
        with anyio.fail_after(90):
            assert await asyncio.gather(*map(hear, workers)) == ["ready", "ready"]
            for turn in range(1, 6):
                await age(here, mail, left=-1)
                answers = set(await asyncio.gather(*map(ask, workers)))
                assert len(answers) == 1, "all of both processes have one and the same"
                assert here.site.counts["refresh_token"] == turn
    finally:
        for worker in workers:
            worker.kill()
            await worker.wait()

    assert here.site.counts["reuse"] == 0


async def test_who_has_not_heard_of_the_newest_token_waits_for_it_and_refreshes_nothing(
    here: World,
) -> None:
    mail = here.server()
    await here.logged_in(mail)
    await age(here, mail, left=-1)
    holder, database = holder_of(None, "ada", mail), here.first.database
    old = await here.first.vault.get(None, "ada", holder.name)
    assert old is not None
    newest = replace(old, access_token="newest", expires_at=None)
    await database.execute("UPDATE mcp.oauth_grants SET generation = 5")
    tokens: list[str] = []

    async def want() -> None:
        tokens.append(await here.oauth.token(None, "ada", mail, None))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(want)
            while not await database.fetchval("SELECT refreshing_by FROM mcp.oauth_grants"):
                await anyio.lowlevel.checkpoint()
            await here.first.vault.put(None, "ada", holder.name, numbered(newest, 5))

    assert tokens == ["newest"]
    assert here.site.counts["refresh_token"] == 0


async def test_a_refresh_goes_on_when_whoever_wanted_it_has_left(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)
    await age(here, mail, left=-1)
    here.site.faults.token_gate = asyncio.Event()

    with anyio.move_on_after(0.5) as patience:
        await here.oauth.token(None, "ada", mail, None)
    assert patience.cancelled_caught
    here.site.faults.token_gate.set()

    assert await here.oauth.token(None, "ada", mail, None) in here.site.access
    assert here.site.counts["refresh_token"] == 1


async def test_a_process_that_dies_in_the_middle_leaves_the_turn_to_the_next(
    here: World,
) -> None:
    mail = here.server()
    await here.logged_in(mail)
    await age(here, mail, left=-1)
    await here.first.database.execute(
        "UPDATE mcp.oauth_grants SET refreshing_by = 'the dead',"
        " refreshing_until = now() + interval '1 second'"
    )

    with anyio.fail_after(30):
        assert await here.oauth.token(None, "ada", mail, None) in here.site.access


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_site_that_fails_for_a_moment_is_asked_again(here: World, status: int) -> None:
    mail = here.server()
    await here.logged_in(mail)
    await age(here, mail, left=-1)
    here.site.faults.token_status, here.site.faults.token_failures = status, 2

    assert await here.oauth.token(None, "ada", mail, None) in here.site.access
    assert here.site.counts["refresh_token"] == 3


async def test_a_site_that_stays_away_is_a_sentence_and_the_login_stays(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)
    await age(here, mail, left=-1)
    here.site.faults.token_status = 500

    with pytest.raises(OAuthUnavailable, match="status 500"):
        await here.oauth.token(None, "ada", mail, None)

    here.site.faults.token_status = None
    assert await here.oauth.token(None, "ada", mail, None) in here.site.access


async def test_a_site_that_is_away_does_not_end_a_token_that_is_still_good(here: World) -> None:
    mail = here.server()
    old = await here.logged_in(mail)
    await age(here, mail, left=30)
    here.site.faults.token_status = 500

    for _ in range(3):
        assert await here.oauth.token(None, "ada", mail, None) == old
    await until(lambda: not here.oauth.refreshing.is_flying(holder_of(None, "ada", mail)))
    assert await here.oauth.token(None, "ada", mail, None) == old
    assert here.site.counts["refresh_token"] == 3, "one refresh, of three attempts"


async def test_a_site_that_hangs_is_given_up_on_and_nobody_hangs_with_it(tmp_path: Path) -> None:
    async with world(tmp_path, timeout=0.2) as here:
        mail = here.server()
        await here.logged_in(mail)
        await age(here, mail, left=-1)
        here.site.faults.token_gate = asyncio.Event()

        with anyio.fail_after(20), pytest.raises(OAuthUnavailable, match="did not answer"):
            await here.oauth.token(None, "ada", mail, None)
        here.site.faults.token_gate.set()


@pytest.mark.parametrize(
    "token",
    [
        {"access_token": None},
        {"access_token": 7},
        {"access_token": "a\r\nX-Evil: 1"},
        {"access_token": "x" * 100_000},
        {"token_type": "mac"},
    ],
)
async def test_an_answer_that_is_no_bearer_token_is_refused(
    here: World, token: dict[str, Any]
) -> None:
    mail = here.server()
    await here.logged_in(mail)
    await age(here, mail, left=-1)
    here.site.faults.token = token

    with pytest.raises(OAuthInvalid, match="no bearer token"):
        await here.oauth.token(None, "ada", mail, None)


async def test_a_page_in_the_place_of_a_token_is_a_sentence(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)
    await age(here, mail, left=-1)
    here.site.faults.token_html = True

    with pytest.raises(OAuthInvalid, match="no bearer token"):
        await here.oauth.token(None, "ada", mail, None)


@pytest.mark.parametrize("expires_in", [None, 0, -5, "soon", "3600", 3600.5, 1e30, True, [1]])
async def test_however_long_a_token_is_said_to_live_it_is_used(
    here: World, expires_in: object
) -> None:
    here.site.faults.token = {"expires_in": expires_in}

    assert await here.logged_in(here.server()) in here.site.access
    assert here.site.counts["refresh_token"] == 0


async def test_a_refresh_token_that_is_not_renewed_is_kept(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)
    (again,) = here.site.refresh
    here.site.faults.token = {"refresh_token": None}
    await age(here, mail, left=-1)

    await here.oauth.token(None, "ada", mail, None)

    secret = await here.first.vault.get(None, "ada", holder_of(None, "ada", mail).name)
    assert secret is not None
    assert secret.refresh_token == again


async def test_a_grant_that_was_taken_back_wants_a_login_and_says_why(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)
    await age(here, mail, left=-1)
    here.site.revoke()

    with pytest.raises(LoginRequired):
        await here.oauth.token(None, "ada", mail, None)

    async with here.process() as other:
        await other.database.wait_available(20)
        await here.first.database.execute("DELETE FROM mcp.oauth_logins")
        status = await other.oauth.status(None, "ada", mail)
    assert status.state is LoginState.FAILED
    assert "No good" in status.reason
    await here.logged_in(mail)
    assert (await here.oauth.status(None, "ada", mail)).state is LoginState.VALID


async def test_a_token_that_the_server_refuses_is_refreshed_once_and_then_wants_a_login(
    here: World,
) -> None:
    mail = here.server()
    first = await here.logged_in(mail)

    second = await here.oauth.renew(None, "ada", mail, None, refused=first)
    assert second != first
    assert await here.oauth.renew(None, "ada", mail, None, refused=first) == second

    with pytest.raises(LoginRequired):
        await here.oauth.renew(None, "ada", mail, None, refused=second)
    assert here.site.counts["refresh_token"] == 1
    assert here.oauth.kept(None, "ada", mail) is None


async def test_without_the_database_a_good_token_serves_on_and_no_other_is_fetched(
    here: World,
) -> None:
    mail = here.server()
    good = await here.logged_in(mail)
    async with here.process() as other:
        await other.oauth.token(None, "ada", mail, None)
        await other.database.pool.close()

        assert await other.oauth.token(None, "ada", mail, None) == good
        with pytest.raises(TrunklineError):
            await other.oauth.renew(None, "ada", mail, None, refused=good)

    assert here.site.counts["refresh_token"] == 0


@pytest.mark.parametrize(
    ("life", "left", "due"),
    [
        (3600, 721, False),
        (3600, 719, True),
        (100, 61, False),
        (100, 49, True),
        (10, 6, False),
        (10, 4, True),
        (None, 61, False),
        (None, 59, True),
        (3600, -1, True),
    ],
)
def test_a_token_is_due_when_a_fifth_of_its_life_or_a_minute_remains(
    life: float | None, left: float, *, due: bool
) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=left)

    assert is_due(Secret(access_token="x", expires_at=ends, extra={"life": life})) is due


def test_a_token_of_unknown_life_is_never_due() -> None:
    assert not is_due(Secret(access_token="x"))

"""Keys over the API: shown once, never more than whoever makes them, gone when revoked."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from tests.api.office import Office
from trunkline.models import Role
from trunkline.security.identity.credentials import CredentialInvalid
from trunkline.security.identity.keys import Keys
from trunkline.storage.repositories.keys import AllKeys

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def let_in(office: Office) -> AsyncGenerator[Keys]:
    """The keys as another process knows them, which lets their holders in."""
    keys = Keys(office.database, office.app.registry.wait_usable)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keys.run)
        with anyio.fail_after(20):
            await keys.known.wait()
        yield keys
        tasks.cancel_scope.cancel()


async def made(office: Office, person: str, **wanted: Any) -> Any:
    """The answer to somebody who makes a key."""
    answer = await office.ask(person, "POST", "/keys", json={"name": "ci", **wanted})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def refused(office: Office, person: str, **wanted: Any) -> str:
    """Why somebody may not make a key."""
    answer = await office.ask(person, "POST", "/keys", json={"name": "ci", **wanted})
    assert answer.status_code == 403, answer.text
    assert answer.json()["code"] == "forbidden"
    return answer.json()["detail"]


async def known(keys: Keys, secret: str, *, good: bool) -> None:
    """Return when a secret is good, or not, to whoever follows the database."""
    with anyio.fail_after(20):
        while True:
            try:
                keys.credential(secret)
                if good:
                    return
            except CredentialInvalid:
                if not good:
                    return
            await asyncio.sleep(0.02)


async def test_a_key_lets_its_holder_in_until_it_is_revoked(office: Office) -> None:
    async with let_in(office) as keys:
        answer = await made(office, "admin", role="operator", user="bob", allow=["github/*"])
        await known(keys, answer["secret"], good=True)
        principal = keys.credential(answer["secret"]).principal
        gone = await office.ask("admin", "DELETE", f"/keys/{answer['key']['id']}")
        await known(keys, answer["secret"], good=False)

    assert (principal.org, principal.user, principal.role) == ("acme", "bob", Role.OPERATOR)
    assert principal.scope.allow == ("github/*",)
    assert gone.status_code == 204
    assert gone.content == b""


async def test_a_secret_is_in_one_answer_and_nowhere_else(
    office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    first = await made(office, "admin")
    path = f"/keys/{first['key']['id']}"
    again = (await office.ask("admin", "POST", f"{path}/rotate")).json()
    await office.ask("admin", "DELETE", path)
    secrets = [one["secret"].rpartition("_")[2] for one in (first, again)]

    listed = (await office.ask("admin", "GET", "/keys")).text
    described = (await office.ask("admin", "GET", "/openapi.json")).text
    everywhere = "".join((listed, described, repr(office.events), *capsys.readouterr()))

    assert len(set(secrets)) == 2
    assert [secret for secret in secrets if secret in everywhere] == []


async def test_the_answer_with_a_secret_is_kept_by_nobody(office: Office) -> None:
    answer = await office.ask("admin", "POST", "/keys", json={"name": "ci"})

    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


async def test_a_rotated_key_keeps_its_old_secret_for_the_grace(office: Office) -> None:
    async with let_in(office) as keys:
        first = await made(office, "admin")
        path = f"/keys/{first['key']['id']}/rotate"
        second = (await office.ask("admin", "POST", path, json={"grace_seconds": 60})).json()
        await known(keys, second["secret"], good=True)
        keys.credential(first["secret"])
        third = (await office.ask("admin", "POST", path, json={"grace_seconds": 0})).json()
        await known(keys, third["secret"], good=True)

        for old in (first, second):
            with pytest.raises(CredentialInvalid):
                keys.credential(old["secret"])


async def test_a_name_that_is_taken_is_refused(office: Office) -> None:
    await made(office, "admin")

    answer = await office.ask("admin", "POST", "/keys", json={"name": "ci"})

    assert (answer.status_code, answer.json()["code"]) == (409, "key_name_taken")


async def test_what_is_left_out_is_what_its_maker_has(office: Office) -> None:
    key = (await made(office, "limited", deny=["mail/delete"]))["key"]

    assert key["org"] == "acme"
    assert key["allow"] == ["github/*", "mail"]
    assert key["deny"] == ["mail/delete", "github/delete_*"]


async def test_nobody_makes_a_key_that_goes_beyond_them(office: Office) -> None:
    assert "allowed '*'" in await refused(office, "limited", allow=["*"])
    assert "allowed 'jira/*'" in await refused(office, "limited", allow=["github/x", "jira/*"])
    assert "cannot act for 'globex'" in await refused(office, "limited", orgs=["globex"])
    assert "another organisation" in await refused(office, "limited", org="globex")
    assert await AllKeys(office.database).list_all() == []


async def test_within_their_own_they_make_what_they_like(office: Office) -> None:
    key = (
        await made(
            office,
            "limited",
            role="admin",
            allow=["github/list_*", "mail"],
            orgs=["acme", "acme-labs"],
        )
    )["key"]

    assert (key["role"], key["orgs"]) == ("admin", ["acme", "acme-labs"])


async def test_the_secret_of_a_key_that_goes_beyond_somebody_is_not_shown_to_them(
    office: Office,
) -> None:
    wide = await office.key("acme", role=Role.ADMIN)

    answer = await office.ask("limited", "POST", f"/keys/{wide.id}/rotate")

    assert answer.status_code == 403
    assert "secret" not in answer.json()
    (kept,) = await AllKeys(office.database).list_all()
    assert kept == wide


async def test_whoever_is_unknown_over_loopback_cannot_come_to_run_commands(
    office: Office,
) -> None:
    strong = await office.key(None, role=Role.ADMIN)

    assert "run commands" in await refused(office, "loopback", role="admin")
    rotated = await office.ask("loopback", "POST", f"/keys/{strong.id}/rotate")
    harmless = await made(office, "loopback", role="operator")

    assert rotated.status_code == 403
    assert harmless["key"]["role"] == "operator"


async def test_a_global_administrator_makes_the_first_key_of_an_organisation(
    office: Office,
) -> None:
    key = (await made(office, "root", org="umbrella", role="admin", orgs=["acme"]))["key"]

    assert (key["org"], key["orgs"]) == ("umbrella", ["acme"])


async def test_an_organisation_without_a_row_has_no_keys_until_it_makes_one(
    office: Office,
) -> None:
    before = (await office.ask("newcomer", "GET", "/keys")).json()
    await made(office, "newcomer")
    afterwards = (await office.ask("newcomer", "GET", "/keys")).json()

    assert before["items"] == []
    assert [key["org"] for key in afterwards["items"]] == ["initech"]


async def test_a_key_does_not_end_before_it_begins(office: Office) -> None:
    now = datetime.now(UTC)

    for moment in (now - timedelta(hours=1), datetime(9999, 12, 31, tzinfo=UTC)):
        wanted = {"name": "ci", "expires_at": moment.isoformat()}
        answer = await office.ask("admin", "POST", "/keys", json=wanted)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_arguments")
    until = (await made(office, "admin", expires_at=(now + timedelta(1)).isoformat()))["key"]
    assert datetime.fromisoformat(until["expires_at"]) == now + timedelta(1)


async def test_keys_are_told_a_page_at_a_time(office: Office) -> None:
    ids = [(await office.key("acme")).id for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None

    for _ in range(3):
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await office.ask("admin", "GET", "/keys", params=params)).json()
        seen += [key["id"] for key in page["items"]]
        cursor = page["next"]
        await office.key("acme")  # what comes meanwhile moves nothing

    assert seen == [*ids, seen[-1]]
    assert len(set(seen)) == 6

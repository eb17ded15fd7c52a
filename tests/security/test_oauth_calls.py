"""Calls to a server that people log in at: over sessions of their own, with their own tokens."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.gateway_under_test import until
from tests.security.oauth_world import MUTE, Asker, World, world
from trunkline.catalog.view import View
from trunkline.downstream.config import parse_config
from trunkline.downstream.http import HttpClient
from trunkline.gateway.exposure import Exposure
from trunkline.gateway.oauth_tool import LoginTool
from trunkline.models import Caller, Principal, Scope
from trunkline.providers.downstream import DownstreamProvider
from trunkline.providers.transports import connect_to
from trunkline.security.masking.masking import Secrets
from trunkline.security.oauth.failures import LoginRequired
from trunkline.security.vault.tokens import PeoplesTokens
from trunkline.settings import DownstreamSettings
from trunkline.wire import encode

pytestmark = pytest.mark.anyio

EMPTY = View(())
ADA = Principal(subject="key:1", org="acme", user="ada")
BOB = Principal(subject="key:2", org="acme", user="bob")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as made:
        yield made


@asynccontextmanager
async def provider(here: World) -> AsyncGenerator[DownstreamProvider]:
    """The server as mcp.json names it, reached as it is when all is wired."""
    text = encode({"mcpServers": {"mail": {"url": here.site.mcp, "auth": "oauth"}}}).decode()
    (config,) = parse_config(text, {}, here.home).servers
    here.configs[config.id] = config
    tokens = PeoplesTokens(here.first.vault, here.oauth, secrets=Secrets())
    settings = DownstreamSettings(connect_timeout=10, call_timeout=10, list_timeout=10)
    async with HttpClient() as client:
        connect = connect_to(config, settings, client, tokens)
        made = DownstreamProvider(config, connect, settings, asyncio.Semaphore(8))
        async with made.running():
            made.start(None)
            yield made


async def whoami(mail: DownstreamProvider, caller: Caller) -> str:
    """The digest of the token that a call came with."""
    params = {"name": "whoami", "arguments": {}}
    with anyio.fail_after(40):
        result = await mail.request("tools/call", params, caller, repeatable=True)
    return result["content"][0]["text"]


async def log_in_when_asked(here: World, asker: Asker) -> None:
    page = await here.browser().log_in(await asker.link())
    assert page.status_code == 200, page.text


def digest(token: str | None) -> str:
    return hashlib.sha256((token or "").encode()).hexdigest()


async def test_a_call_sends_its_person_to_log_in_and_then_goes_through(here: World) -> None:
    async with provider(here) as mail, anyio.create_task_group() as tasks:
        asker = Asker(ADA)
        tasks.start_soon(log_in_when_asked, here, asker)

        seen = await whoami(mail, asker)

        assert seen == digest(here.oauth.kept("acme", "ada", mail.config))
        await until(lambda: mail.listing is not None and mail.listing.tools)


async def test_two_people_call_at_once_and_each_with_their_own_token(here: World) -> None:
    askers = Asker(ADA), Asker(BOB)
    async with provider(here) as mail, anyio.create_task_group() as tasks:
        for asker in askers:
            tasks.start_soon(log_in_when_asked, here, asker)
        first = await asyncio.gather(*(whoami(mail, asker) for asker in askers))
        for _ in range(20):
            assert await asyncio.gather(*(whoami(mail, asker) for asker in askers)) == first
        assert len(set(first)) == 2


async def test_a_call_of_who_cannot_be_shown_a_link_fails_with_it_in_the_sentence(
    here: World,
) -> None:
    async with provider(here) as mail:
        with pytest.raises(LoginRequired, match="/oauth/start/"):
            await whoami(mail, MUTE)

    assert here.site.counts["mcp"] == 1, "only the question who gives out tokens"


async def test_a_token_that_ends_early_is_replaced_within_the_call(here: World) -> None:
    async with provider(here) as mail, anyio.create_task_group() as tasks:
        asker = Asker(ADA)
        tasks.start_soon(log_in_when_asked, here, asker)
        before = await whoami(mail, asker)
        here.site.expire()

        after = await whoami(mail, asker)

        assert after != before
        assert after == digest(here.oauth.kept("acme", "ada", mail.config))
        assert here.site.counts["refresh_token"] == 1
        assert len(asker.asked) == 1


async def test_a_grant_that_was_taken_back_sends_the_person_to_log_in_within_the_call(
    here: World,
) -> None:
    async with provider(here) as mail, anyio.create_task_group() as tasks:
        asker = Asker(ADA)
        tasks.start_soon(log_in_when_asked, here, asker)
        await whoami(mail, asker)
        here.site.revoke()
        again = Asker(ADA)
        tasks.start_soon(log_in_when_asked, here, again)

        seen = await whoami(mail, again)

        assert seen == digest(here.oauth.kept("acme", "ada", mail.config))
        assert len(again.asked) == 1


async def test_the_token_goes_to_its_server_and_nowhere_else(here: World) -> None:
    async with provider(here) as mail, anyio.create_task_group() as tasks:
        asker = Asker(ADA)
        tasks.start_soon(log_in_when_asked, here, asker)
        await whoami(mail, asker)

        token = here.oauth.kept("acme", "ada", mail.config)

        assert token is not None
        assert token not in repr(mail.config)
        assert token not in str(here.site.bodies)


async def test_who_sees_no_tools_yet_has_one_that_sends_them_to_log_in(here: World) -> None:
    async with provider(here) as mail, anyio.create_task_group() as tasks:
        tool, asker = LoginTool(here.oauth, lambda: [mail], Exposure()), Asker(ADA)
        tasks.start_soon(log_in_when_asked, here, asker)

        (listed,) = tool.listed(asker.client, EMPTY)
        assert listed["inputSchema"]["properties"]["server"]["enum"] == ["mail"]
        result = await tool.call("log_in", {"server": "mail"}, asker)

        assert "isError" not in result
        assert await whoami(mail, asker) == digest(here.oauth.kept("acme", "ada", mail.config))
        await until(lambda: mail.listing is not None and mail.listing.tools)


async def test_who_cannot_log_in_is_not_offered_to(here: World) -> None:
    nobody = Principal(subject="key:3", org="acme", user=None)
    narrow = Principal(subject="key:5", org="acme", user="eve", scope=Scope(allow=("time",)))
    async with provider(here) as mail:
        tool = LoginTool(here.oauth, lambda: [mail], Exposure())

        assert tool.listed(Asker(nobody).client, EMPTY) == ()
        assert tool.listed(Asker(narrow).client, EMPTY) == ()
        assert tool.listed(Asker(ADA).client, EMPTY)
        for arguments in ({"server": "mial"}, {}, {"server": 7}, None):
            result = await tool.call("log_in", arguments, Asker(ADA))
            assert result["isError"] is True
        assert (await tool.call("log_in", {"server": "mail"}, Asker(narrow)))["isError"] is True

"""
People who log in at a server behind the gateway, each in a browser and each for themselves.

The way is whole: keys of an organisation at the gateway, clients of both eras over HTTP, the pages
at the gateway's own URL, an authorization server, and a server that says which token it was shown.
Whose token that is, the authorization server knows: from the login that it was given out for.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from anyio.abc import TaskGroup

from tests.gateway_under_test import Gateway, gateway, until
from tests.journeys.conftest import ERAS
from tests.journeys.raw_client import LIMIT, RawClient, Refused
from tests.journeys.test_canaries import everything_stored
from tests.security.oauth_world import Browser
from tests.servers.authorization_server import Grant, Site, authorization_server
from tests.tenants import add_key, bearer, is_good
from trunkline.models import Role

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

WHOAMI = "mail__whoami"
SHOWS_LINKS: Json = {"elicitation": {"form": {}, "url": {}}}
SHOWS_NO_LINKS: Json = {"elicitation": {"form": {}}}
LOGGED_IN = {"server": "mail", "state": "valid"}


class Someone:
    """A person with a key, a client and a browser, who follows every link that is shown."""

    def __init__(self, site: Site, name: str, key: str, tasks: TaskGroup) -> None:
        self.site, self.name, self.key = site, name, key
        self.shown: list[str] = []
        """The links, in their order."""

        self.grants: list[Grant] = []
        """What they have allowed."""

        self._tasks = tasks

    @asynccontextmanager
    async def client(
        self, running: Gateway, era: str, capabilities: Json = SHOWS_LINKS
    ) -> AsyncGenerator[RawClient]:
        """Their client, connected with their key."""
        timeout = aiohttp.ClientTimeout(total=LIMIT)
        headers = bearer(self.key)
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as http:
            client = RawClient(http, running.mcp, era, self.answer)
            client.capabilities = capabilities
            await client.open()
            try:
                yield client
            finally:
                await client.close()

    async def answer(self, method: str, params: Json) -> Json:
        """Agree to be sent to a page, and go there meanwhile."""
        assert method == "elicitation/create"
        assert params["mode"] == "url"
        self.shown.append(params["url"])
        self._tasks.start_soon(self.log_in, params["url"])
        return {"action": "accept"}

    async def log_in(self, link: str) -> None:
        """Go the whole way in a browser that was never here before and has no key."""
        browser = Browser()
        async with browser.client:
            page = await browser.open(link)
            assert page.status_code == 200, page.text
            assert f"<b>{self.name} of acme</b>" in page.text
            back = await browser.allowed(link)
            code = browser.client.build_request("GET", back).url.params["code"]
            self.grants.append(self.site.codes[code])
            page = await browser.open(back)
            assert page.status_code == 200, page.text
            assert "You are logged in" in page.text

    def has(self, digest: str) -> bool:
        """Whether a token that the server was shown is one of theirs."""
        theirs = [token for token, (grant, _) in self.site.access.items() if grant in self.grants]
        return digest in {hashlib.sha256(token.encode()).hexdigest() for token in theirs}


class Company:
    """The people of one organisation, and the server that they log in at."""

    def __init__(self, site: Site, folder: Path, tasks: TaskGroup) -> None:
        self.site = site
        self._folder, self._tasks = folder, tasks
        self._people: dict[str, Someone] = {}

    @asynccontextmanager
    async def gateway(self) -> AsyncGenerator[Gateway]:
        """Their gateway, on the same database every time. It knows the keys it has given out."""
        mail = {"url": self.site.mcp, "auth": "oauth"}
        async with gateway(
            {"mail": mail}, self._folder, identified=True, admin_tools=True
        ) as running:
            for person in self._people.values():
                await until(lambda key=person.key: is_good(running, key))
            yield running

    async def hire(self, running: Gateway, name: str, **values: Any) -> Someone:
        """Give a key to somebody new."""
        key = await add_key(running, "acme", f"of {name}", user=name, **values)
        person = self._people[name] = Someone(self.site, name, key, self._tasks)
        return person

    async def opened_by(self, running: Gateway, name: str = "eve") -> Someone:
        """Have somebody log in first, so that the server's tools are known to everybody."""
        person = await self.hire(running, name)
        async with person.client(running, "handshake") as client:
            await client.call("log_in", {"server": "mail"})
            await until(lambda: running.report("mail").tools)
        return person

    def secrets(self) -> set[str]:
        """Every token, code, verifier and client secret that there has been so far."""
        site = self.site
        sent = ("code", "code_verifier", "refresh_token")
        return {
            *site.access,
            *site.refresh,
            *site.spent,
            *(one["client_secret"] for one in site.clients.values() if "client_secret" in one),
            *(body[what] for body in site.bodies for what in sent if what in body),
        }


@pytest.fixture
async def acme(tmp_path: Path) -> AsyncGenerator[Company]:
    async with authorization_server() as site, anyio.create_task_group() as tasks:
        yield Company(site, tmp_path, tasks)


def said(result: Json) -> str:
    """What the server said: the digest of the token that it was shown."""
    assert not result.get("isError"), result
    return result["content"][0]["text"]


def link_in(result: Json) -> str:
    """The link of a result that says that a login is required."""
    assert result["isError"] is True
    assert result["_meta"]["trunkline/error"]["code"] == "login_required"
    (link,) = [word for word in result["content"][0]["text"].split() if "/oauth/start/" in word]
    return link


@pytest.mark.parametrize("era", ERAS)
async def test_two_people_are_each_sent_to_log_in_and_call_with_their_own_token(
    acme: Company, era: str
) -> None:
    async with acme.gateway() as running, AsyncExitStack() as stack:
        await acme.opened_by(running)
        people = [await acme.hire(running, name) for name in ("ada", "bob")]
        clients = [
            await stack.enter_async_context(person.client(running, era)) for person in people
        ]

        first = await asyncio.gather(*(client.call(WHOAMI) for client in clients))
        again = [
            await asyncio.gather(*(client.call(WHOAMI) for client in clients)) for _ in range(5)
        ]

    ada, bob = people
    for adas, bobs in (first, *again):
        assert ada.has(said(adas))
        assert bob.has(said(bobs))
        assert not ada.has(said(bobs))
    for person, client in zip(people, clients, strict=True):
        assert len(person.shown) == len(client.asked) == 1
        assert person.shown[0].startswith(running.url)


async def test_a_call_that_waits_for_its_person_is_nobody_elses_to_go_on_with(
    acme: Company,
) -> None:
    params: Json = {"name": WHOAMI, "arguments": {}}
    async with acme.gateway() as running:
        await acme.opened_by(running)
    async with acme.gateway() as running:  # which knows the tools, and has spoken to nobody yet
        ada, bob = [await acme.hire(running, name) for name in ("ada", "bob")]
        async with ada.client(running, "modern") as adas, bob.client(running, "modern") as bobs:
            asked = await adas.request("tools/call", params)
            ((key, question),) = asked["inputRequests"].items()
            accepted = {key: await ada.answer(question["method"], question["params"])}
            retry = {
                **params,
                "inputResponses": accepted,
                "requestState": asked["requestState"],
            }

            with pytest.raises(Refused, match="belongs to another request"):
                await bobs.request("tools/call", retry)
            result = await adas.request("tools/call", retry)
            with pytest.raises(Refused, match="has expired or was used"):
                await adas.request("tools/call", retry)

    assert ada.has(said(result))


@pytest.mark.parametrize("era", ERAS)
async def test_who_cannot_be_shown_a_link_is_told_it_and_calls_again(
    acme: Company, era: str
) -> None:
    async with acme.gateway() as running:
        await acme.opened_by(running)
        ada = await acme.hire(running, "ada")
        async with ada.client(running, era, SHOWS_NO_LINKS) as client:
            refused = await client.call(WHOAMI)
            await ada.log_in(link_in(refused))
            result = await client.call(WHOAMI)

    assert ada.has(said(result))
    assert ada.shown == []


@pytest.mark.parametrize("era", ERAS)
async def test_log_in_is_the_way_to_tools_that_nobody_has_seen_yet(acme: Company, era: str) -> None:
    async with acme.gateway() as running:
        ada = await acme.hire(running, "ada")
        async with ada.client(running, era) as client:
            before = await names(client)
            result = await client.call("log_in", {"server": "mail"})
            await until(lambda: running.report("mail").tools)
            after = await names(client)
            seen = said(await client.call(WHOAMI))

    assert "log_in" in before
    assert WHOAMI not in before
    assert result["structuredContent"] == LOGGED_IN
    assert WHOAMI in after
    assert ada.has(seen)
    assert len(ada.shown) == 1


@pytest.mark.parametrize("era", ERAS)
async def test_log_in_tells_the_link_to_who_cannot_be_shown_it(acme: Company, era: str) -> None:
    async with acme.gateway() as running:
        ada = await acme.hire(running, "ada")
        async with ada.client(running, era, SHOWS_NO_LINKS) as client:
            refused = await client.call("log_in", {"server": "mail"})
            await ada.log_in(link_in(refused))
            result = await client.call("log_in", {"server": "mail"})
            await until(lambda: running.report("mail").tools)
            seen = said(await client.call(WHOAMI))

    assert result["structuredContent"] == LOGGED_IN
    assert ada.has(seen)


async def names(client: RawClient) -> set[str]:
    return {tool["name"] for tool in (await client.request("tools/list"))["tools"]}


async def test_after_a_restart_nobody_has_to_log_in_again(acme: Company) -> None:
    async with acme.gateway() as running:
        ada = await acme.opened_by(running, "ada")

    async with acme.gateway() as running:
        async with ada.client(running, "handshake") as old, ada.client(running, "modern") as new:
            before = [said(await client.call(WHOAMI)) for client in (old, new)]
            acme.site.expire()
            after = said(await new.call(WHOAMI))

    assert len(set(before)) == 1
    assert ada.has(before[0])
    assert ada.has(after)
    assert after != before[0], "what was stored refreshes it, too"
    assert len(ada.shown) == acme.site.counts["authorization_code"] == 1


async def test_a_login_that_was_taken_back_is_said_and_no_secret_is_shown_or_stored(
    acme: Company, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with acme.gateway() as running:
        ada = await acme.opened_by(running, "ada")
        boss = await acme.hire(running, "boss", role=Role.OPERATOR)
        secrets = acme.secrets()
        found = await everything_stored(tmp_path)
        acme.site.revoke()

        async with ada.client(running, "modern", SHOWS_NO_LINKS) as client:
            refused = await client.call(WHOAMI)
            found["refused"] = json.dumps(refused)
        async with boss.client(running, "modern") as client:
            for tool, arguments in (("list_servers", {}), ("server_status", {"name": "mail"})):
                found[tool] = json.dumps(await client.call(tool, arguments))
        found["GET"] = await answer_of(running, boss, "/api/v1/servers")
        later = await everything_stored(tmp_path)
    printed = capsys.readouterr()

    assert link_in(refused).startswith(running.url)
    assert acme.site.counts["refresh_token"] == 1, "the token of which the answer repeats"
    for shown in ("list_servers", "server_status", "GET"):
        assert '"mail"' in found[shown]
    assert "oauth.logged_in" in printed.out
    assert len(secrets) >= 4
    found |= {"printed": printed.out + printed.err}
    found |= {f"{where}, later": text for where, text in later.items()}
    assert [where for where, text in found.items() if any(one in text for one in secrets)] == []


async def answer_of(running: Gateway, person: Someone, path: str) -> str:
    async with (
        aiohttp.ClientSession(headers=bearer(person.key)) as http,
        http.get(running.url + path) as response,
    ):
        assert response.status == 200
        return await response.text()

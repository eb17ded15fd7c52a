"""What servers are told of whoever calls: from mcp.json to the wire, and to nobody else's."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gateway_under_test import until
from tests.servers.raw_http import RawServer, Reply, Request, serve

from trunkline.downstream.config import Config, ServerConfig, read_entry
from trunkline.downstream.credentials import (
    CredentialMissing,
    CredentialRefused,
    Credentials,
    Reference,
)
from trunkline.downstream.http import HttpClient
from trunkline.errors import InteractionRefused
from trunkline.models import Caller, Client, Era, Json, Principal, State
from trunkline.providers.downstream import DownstreamProvider
from trunkline.providers.transports import connect_to
from trunkline.settings import DownstreamSettings

pytestmark = pytest.mark.anyio

GITHUB = "Bearer ${user.token:github}"


def person(user: str | None, org: str | None = None, authorization: str | None = None) -> Principal:
    subject = f"key:{user or 'robot'}"
    return Principal(subject=subject, org=org, user=user, authorization=authorization)


ADA, BOB, EVE = person("ada"), person("bob"), person("eve")


class Somebody:
    """A client that can be asked nothing."""

    def __init__(self, principal: Principal, era: Era = Era.HANDSHAKE, client: str = "") -> None:
        self.client = Client(
            id=client or f"client of {principal}",
            principal=principal,
            era=era,
            protocol_version="2025-11-25" if era is Era.HANDSHAKE else "2026-07-28",
        )
        self.log_level: str | None = None
        self.standing = None

    async def ask(self, method: str, params: Json | None) -> Json:
        raise AssertionError(method)

    async def tell(self, method: str, params: Json | None) -> None:
        raise AssertionError(method)


class Wallets:
    """The tokens of people. Every other look has to ask, as after a restart."""

    def __init__(self, **tokens: str) -> None:
        self.tokens: dict[tuple[str | None, str | None, str], str] = {
            (None, user, "github"): token for user, token in tokens.items()
        }
        self.fresh: dict[tuple[str | None, str], str] = {}
        """What there is in the place of a token that was refused."""

        self.refused: list[tuple[str, str | None]] = []
        self.asked = 0
        self.told: list[str] = []

    def kept(self, principal: Principal, config: ServerConfig, which: Reference) -> str | None:
        self.asked += 1
        return self._find(principal, which.name) if self.asked % 2 else None

    async def fetch(
        self, principal: Principal, config: ServerConfig, which: Reference, caller: Caller | None
    ) -> str | None:
        await asyncio.sleep(0)
        return self._find(principal, which.name)

    async def renew(
        self, config: ServerConfig, which: Reference, caller: Caller, refused: CredentialRefused
    ) -> bool:
        """There is one new token for each that was refused."""
        user = caller.client.user
        self.refused.append((refused.credentials.values[which], refused.challenge))
        fresh = self.fresh.pop((user, which.name), None)
        if fresh is None:
            return False
        self.tokens[None, user, which.name] = fresh
        return True

    def used(self, credentials: Credentials) -> None:
        self.told += credentials.secrets

    def _find(self, principal: Principal, name: str) -> str | None:
        return self.tokens.get((principal.org, principal.user, name))


class Echo:
    """An MCP server over HTTP whose tool says with which header it was called."""

    def __init__(self) -> None:
        self.sessions = 0
        self.tools = ["who"]
        self.refused: set[str] = set()
        """The `Authorization` headers that are not taken."""

        self.streams: list[Reply] = []
        self.seen: dict[str, set[str]] = {}
        """Session -> the `Authorization` headers that came in it."""

    async def handle(self, request: Request, reply: Reply) -> None:
        authorization = request.headers.get("authorization", "")
        session = request.headers.get("mcp-session-id")
        if session is not None:
            self.seen.setdefault(session, set()).add(authorization)
        if authorization in self.refused:
            await reply.whole(401, headers={"www-authenticate": 'Bearer scope="more"'})
        elif request.method == "GET":
            await reply.start_events()
            self.streams.append(reply)
            await reply.closed.wait()
        elif request.method != "POST" or "id" not in request.message:
            await reply.whole(202)
        elif request.message["method"] == "initialize":
            self.sessions += 1
            await reply.result(request, GREETING, mcp_session_id=f"s{self.sessions}")
        else:
            await self._answer(request, reply, authorization, session)

    async def _answer(
        self, request: Request, reply: Reply, authorization: str, session: str | None
    ) -> None:
        match request.message["method"]:
            case "tools/list":
                tools = [{"name": name, "inputSchema": {"type": "object"}} for name in self.tools]
                await reply.result(request, {"tools": tools})
            case "resources/list":
                await reply.result(request, {"resources": [{"uri": "x://of-ada", "name": "x"}]})
            case "tools/call":
                text = json.dumps([authorization, session, dict(request.headers)])
                await reply.result(request, {"content": [{"type": "text", "text": text}]})
            case method:
                error = {"code": -32601, "message": f"no {method}"}
                await reply.json({"jsonrpc": "2.0", "id": request.message["id"], "error": error})


GREETING: Json = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {"listChanged": True}, "resources": {"subscribe": True}},
    "serverInfo": {"name": "echo", "version": "1"},
}


@pytest.fixture(params=[Era.HANDSHAKE, Era.MODERN])
def era(request: pytest.FixtureRequest) -> Era:
    """The era of the client."""
    return request.param


def read(entry: Json, environ: Mapping[str, str] | None = None) -> Config:
    return read_entry("github", entry, environ or {}, Path.cwd())


def configured(entry: Json) -> ServerConfig:
    config = read(entry)
    assert config.problems == ()
    return config.servers[0]


@asynccontextmanager
async def provided(
    config: ServerConfig, wallets: Wallets, **settings: Any
) -> AsyncGenerator[DownstreamProvider]:
    """The server as a provider."""
    chosen = DownstreamSettings(stop_grace=0.5, **settings)
    async with asyncio.timeout(60), HttpClient() as client:
        connect = connect_to(config, chosen, client, wallets)
        provider = DownstreamProvider(config, connect, chosen, asyncio.Semaphore(8))
        async with provider.running():
            provider.start(None)
            yield provider


@asynccontextmanager
async def echoing(
    wallets: Wallets, headers: Json | None = None, more: Json | None = None, **settings: Any
) -> AsyncGenerator[tuple[Echo, RawServer, DownstreamProvider]]:
    echo = Echo()
    async with serve(echo.handle) as server:
        entry = {"url": server.url, "headers": headers or {"Authorization": GITHUB}, **(more or {})}
        async with provided(configured(entry), wallets, **settings) as provider:
            yield echo, server, provider


async def who(provider: DownstreamProvider, caller: Somebody) -> tuple[str, str, Json]:
    """Which header the server saw, in which session, and all of them."""
    result = await provider.request("tools/call", {"name": "who", "arguments": {}}, caller)
    authorization, session, headers = json.loads(result["content"][0]["text"])
    return authorization, session, headers


# -- mcp.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("${client.authorization}", "Basic abc"),
        ("${user.token:github}", "token-of-ada"),
        ("Bearer ${user.token:github}!", "Bearer token-of-ada!"),
        ("${user.name}@${org.name}", "ada@acme"),
    ],
)
def test_a_reference_stands_for_what_the_caller_has(reference: str, expected: str) -> None:
    config = configured({"url": "http://127.0.0.1/", "headers": {"X-Who": reference}})
    values = {
        "client.authorization": "Basic abc",
        "user.token": "token-of-ada",
        "user.name": "ada",
        "org.name": "acme",
    }

    told = config.told(Credentials.of({one: values[one.kind] for one in config.mapped.references}))

    assert config.headers == {}
    assert told.headers == {"X-Who": expected}


def test_what_only_looks_like_a_reference_is_none() -> None:
    config = read(
        {
            "url": "http://127.0.0.1/",
            "headers": {"A": "$${user.name}", "B": "${VARIABLE}", "C": "${MISSING:-x}"},
        },
        {"VARIABLE": "${user.token:github}"},
    ).servers[0]

    assert config.headers == {"A": "${user.name}", "B": "${user.token:github}", "C": "x"}
    assert not config.mapped


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ({"url": "http://${user.name}.example.com/"}, '"headers", "env" or "args"'),
        ({"url": "http://x/", "headers": {"A": "${user.id}"}}, "nothing that is known of a caller"),
        ({"url": "http://x/", "headers": {"A": "${user.token:}"}}, "nothing that is known"),
        ({"url": "http://x/", "headers": {"A": "${client.header:X}"}}, "nothing that is known"),
        ({"command": "x", "cwd": "/${org.name}"}, '"headers", "env" or "args"'),
        ({"command": "x", "headers": {"A": "${user.name}"}}, "never sees"),
        ({"url": "http://x/", "env": {"A": "${user.name}"}}, "never sees"),
        ({"url": "http://x/", "args": ["${user.name}"]}, "never sees"),
        (
            {"url": "http://x/", "headers": {"A": "${user.name}"}, "sharing": "org"},
            'Make it "user" or "client"',
        ),
        (
            {"command": "x", "env": {"A": "${user.token:github}"}, "sharing": "global"},
            'Make it "user" or "client"',
        ),
        (
            {"url": "http://x/", "headers": {"A": "${org.name}"}, "sharing": "global"},
            'Make it "org", "user" or "client"',
        ),
    ],
)
def test_a_reference_that_cannot_be_honoured_is_a_problem(entry: Json, complaint: str) -> None:
    config = read(entry)

    assert config.servers == ()
    assert complaint in str(config.problems[0])


def test_what_is_told_decides_who_shares() -> None:
    def sharing(value: str, **more: str) -> str:
        entry = {"url": "http://127.0.0.1/", "headers": {"A": value}, **more}
        return configured(entry).sharing

    assert sharing("plain") == "org"
    assert sharing("${org.name}") == "org"
    assert sharing("${user.name}") == "user"
    assert sharing("${client.authorization}", sharing="client") == "client"


def test_another_reference_is_another_server() -> None:
    one = configured({"url": "http://127.0.0.1/", "headers": {"A": "${user.token:a}"}})
    two = configured({"url": "http://127.0.0.1/", "headers": {"A": "${user.token:b}"}})

    assert one.fingerprint != two.fingerprint
    assert not one.connection_equals(two)


def test_a_configuration_does_not_show_its_secrets() -> None:
    config = read(
        {
            "url": "https://me:password@example.com/?key=query-secret",
            "headers": {"A": "header-secret", "B": "fixed-secret ${user.name}"},
        }
    ).servers[0]
    program = read({"command": "x", "args": ["--key=arg-secret"], "env": {"A": "env-secret"}})

    shown = repr(config) + repr(program) + repr(config.mapped)

    for secret in ("password", "query-secret", "header-secret", "fixed-secret", "arg-secret"):
        assert secret not in shown
    assert "env-secret" not in shown


# -- who gets what ----------------------------------------------------------------------------


async def test_everybody_calls_with_their_own_token_at_once(era: Era) -> None:
    wallets = Wallets(ada="token-of-ada", bob="token-of-bob")
    async with echoing(wallets) as (echo, _, provider):
        callers = [Somebody(ADA, era), Somebody(BOB, era)] * 40

        answers = await asyncio.gather(*(who(provider, caller) for caller in callers))

        for caller, (authorization, _, _) in zip(callers, answers, strict=True):
            assert authorization == f"Bearer token-of-{caller.client.user}"
        _, again, _ = await who(provider, Somebody(ADA, era))
        assert (await who(provider, Somebody(ADA, era)))[1] == again
        assert len({session for _, session, _ in answers}) == 2
        assert all(len(headers) == 1 for headers in echo.seen.values())


async def test_who_has_no_token_is_told_so_and_nothing_is_sent() -> None:
    async with echoing(Wallets(ada="token-of-ada")) as (_, server, provider):
        with pytest.raises(CredentialMissing, match="your own token 'github'") as missing:
            await who(provider, Somebody(EVE))
        with pytest.raises(CredentialMissing):
            await who(provider, Somebody(person(None)))

        assert server.requests == []
        assert missing.value.code == "credential_missing"


async def test_a_token_is_good_in_its_own_organisation_alone() -> None:
    wallets = Wallets()
    wallets.tokens = {
        ("acme", "ada", "github"): "of-acme",
        ("globex", "ada", "github"): "of-globex",
    }
    async with echoing(wallets) as (_, _, provider):
        acme, _, _ = await who(provider, Somebody(person("ada", "acme")))
        globex, _, _ = await who(provider, Somebody(person("ada", "globex")))
        with pytest.raises(CredentialMissing):
            await who(provider, Somebody(person("ada")))

        assert (acme, globex) == ("Bearer of-acme", "Bearer of-globex")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (person("ada"), person("bob")),
        (person("b:c", "a"), person("c", "a:b")),
        (person("c", "a%3Ab"), person("c", "a:b")),
        (person("x", None), person("x", "")),
    ],
)
async def test_even_the_same_token_makes_no_two_people_share_a_session(
    one: Principal, other: Principal
) -> None:
    wallets = Wallets()
    wallets.tokens = {(who.org, who.user, "github"): "the-same" for who in (one, other)}
    async with echoing(wallets) as (_, _, provider):
        _, first, _ = await who(provider, Somebody(one))
        _, second, _ = await who(provider, Somebody(other))
        _, again, _ = await who(provider, Somebody(one))

        if (one.org or "", one.user) != (other.org or "", other.user):
            assert first != second
        assert again == first


async def test_a_changed_token_counts_from_the_next_call_and_the_old_session_ends() -> None:
    wallets = Wallets(ada="old-token")
    async with echoing(wallets, spare_idle_timeout=0.2) as (_, server, provider):
        assert (await who(provider, Somebody(ADA)))[0] == "Bearer old-token"

        wallets.tokens[None, "ada", "github"] = "new-token"

        assert (await who(provider, Somebody(ADA)))[0] == "Bearer new-token"
        await until(lambda: len([one for one in server.requests if one.method == "DELETE"]) == 2)


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_refused_token_is_renewed_once_and_the_call_goes_on(is_open: bool) -> None:
    wallets = Wallets(ada="old-token")
    async with echoing(wallets) as (echo, _, provider):
        if is_open:
            await who(provider, Somebody(ADA))
        echo.refused.add("Bearer old-token")
        wallets.fresh["ada", "github"] = "new-token"

        authorization, _, _ = await who(provider, Somebody(ADA))

        assert authorization == "Bearer new-token"
        assert wallets.refused == [("old-token", 'Bearer scope="more"')]


@pytest.mark.parametrize("is_open", [False, True])
async def test_a_refused_token_that_is_not_renewed_is_said_to_its_owner(is_open: bool) -> None:
    wallets = Wallets(ada="old-token", bob="token-of-bob")
    async with echoing(wallets) as (echo, _, provider):
        if is_open:
            await who(provider, Somebody(ADA))
        echo.refused.add("Bearer old-token")

        with pytest.raises(CredentialRefused, match="refused your token 'github'") as refused:
            await who(provider, Somebody(ADA))

        assert refused.value.code == "credential_refused"
        assert "old-token" not in str(refused.value)
        assert (await who(provider, Somebody(BOB)))[0] == "Bearer token-of-bob"


async def test_a_new_token_that_is_refused_as_well_is_the_last(era: Era) -> None:
    wallets = Wallets(ada="old-token")
    async with echoing(wallets) as (echo, server, provider):
        echo.refused |= {"Bearer old-token", "Bearer new-token"}
        wallets.fresh["ada", "github"] = "new-token"

        with pytest.raises(CredentialRefused):
            await who(provider, Somebody(ADA, era))

        assert wallets.refused == [("old-token", 'Bearer scope="more"')]
        assert server.messages("tools/call") == []


async def test_a_token_that_was_taken_away_closes_an_open_session_to_its_user() -> None:
    wallets = Wallets(ada="token-of-ada")
    async with echoing(wallets) as (_, server, provider):
        await who(provider, Somebody(ADA))
        del wallets.tokens[None, "ada", "github"]
        before = len(server.messages("tools/call"))

        with pytest.raises(CredentialMissing):
            await who(provider, Somebody(ADA))

        assert len(server.messages("tools/call")) == before


async def test_the_authorization_of_a_client_goes_where_mcp_json_says_and_nowhere_else() -> None:
    ada = person("ada", authorization="Bearer from-the-client")
    async with echoing(Wallets(), {"Authorization": "${client.authorization}"}) as (_, _, mapped):
        assert (await who(mapped, Somebody(ada)))[0] == "Bearer from-the-client"
        with pytest.raises(CredentialMissing, match="came without one"):
            await who(mapped, Somebody(ADA))
    async with echoing(Wallets(), {"X-Static": "fixed"}) as (_, _, plain):
        _, _, headers = await who(plain, Somebody(ada))
        assert "from-the-client" not in str(headers)


async def test_names_are_told_and_who_has_none_is_refused() -> None:
    names = {"X-User": "${user.name}", "X-Org": "${org.name}"}
    async with echoing(Wallets(), names) as (_, server, provider):
        _, _, headers = await who(provider, Somebody(person("ada", "acme")))
        sent = len(server.requests)

        with pytest.raises(CredentialMissing, match="belongs to no person"):
            await who(provider, Somebody(person(None, "acme")))
        with pytest.raises(CredentialMissing, match="belongs to none"):
            await who(provider, Somebody(person("ada")))

        assert (headers["x-user"], headers["x-org"]) == ("ada", "acme")
        assert len(server.requests) == sent


async def test_each_client_has_a_session_of_its_own_where_mcp_json_wants_that() -> None:
    wallets = Wallets(ada="token-of-ada")
    async with echoing(wallets, more={"sharing": "client"}) as (_, _, provider):
        _, one, _ = await who(provider, Somebody(ADA, client="one"))
        _, two, _ = await who(provider, Somebody(ADA, client="two"))
        _, again, _ = await who(provider, Somebody(ADA, client="one"))

        assert one != two
        assert again == one


async def test_a_redirect_does_not_carry_a_token_to_another_origin() -> None:
    async def trap(request: Request, reply: Reply) -> None:
        await reply.whole(200)

    async with serve(trap) as elsewhere:

        async def redirect(request: Request, reply: Reply) -> None:
            await reply.whole(307, headers={"location": elsewhere.url})

        async with serve(redirect) as server:
            entry = {"url": server.url, "headers": {"Authorization": GITHUB}}
            async with provided(configured(entry), Wallets(ada="token-of-ada")) as provider:
                with pytest.raises(Exception, match="redirects to"):
                    await who(provider, Somebody(ADA))

        assert server.requests != []
        assert elsewhere.requests == []


async def test_a_value_that_no_header_can_carry_is_refused_without_being_shown() -> None:
    wallets = Wallets(ada="token\r\nX-Injected: yes")
    async with echoing(wallets) as (_, server, provider):
        with pytest.raises(Exception, match="line break") as refused:
            await who(provider, Somebody(ADA))

        assert "Injected" not in str(refused.value)
        assert server.requests == []


async def test_what_a_session_is_opened_with_is_made_known_to_be_masked() -> None:
    wallets = Wallets(ada="token-of-ada")
    async with echoing(wallets, {"A": GITHUB, "B": "${user.name}"}) as (_, _, provider):
        await who(provider, Somebody(ADA))

    assert wallets.told == ["token-of-ada"]


async def test_a_result_is_good_for_the_same_person_with_the_same_token_alone() -> None:
    wallets = Wallets(ada="token-of-ada", bob="token-of-ada")
    async with echoing(wallets) as (_, _, provider):

        def scope(principal: Principal) -> object:
            wallets.asked = 0  # in memory
            return provider.result_scope(Somebody(principal).client)

        ada = scope(ADA)
        assert ada is not None
        assert scope(ADA) == ada
        assert scope(BOB) != ada
        assert scope(person("ada", "acme")) is None
        assert scope(EVE) is None
        wallets.tokens[None, "ada", "github"] = "another"
        assert scope(ADA) != ada


# -- lists ------------------------------------------------------------------------------------


async def test_a_server_waits_for_somebody_whose_session_it_can_list_over() -> None:
    wallets = Wallets(ada="token-of-ada")
    async with echoing(wallets) as (_, server, provider):
        assert provider.status.state is State.DISCONNECTED
        assert provider.status.reason == "It waits for somebody with a token 'github' of their own."
        assert provider.settled

        provider.offer_credentials(Somebody(EVE))
        await until(lambda: provider.settled)
        assert not provider.is_heard
        assert server.requests == []

        provider.offer_credentials(Somebody(ADA))
        await until(lambda: provider.listing is not None)

        assert provider.status.state is State.CONNECTED
        assert provider.listing is not None
        assert [tool["name"] for tool in provider.listing.tools] == ["who"]
        lists = server.messages("tools/list")
        assert {one.headers["authorization"] for one in lists} == {"Bearer token-of-ada"}


async def test_a_server_that_does_not_answer_whoever_comes_is_in_error() -> None:
    config = configured({"url": "http://127.0.0.1:1/", "headers": {"Authorization": GITHUB}})
    async with provided(config, Wallets(ada="token-of-ada")) as provider:
        provider.offer_credentials(Somebody(ADA))

        await until(lambda: provider.status.state is State.ERROR)

        assert "nothing answers" in provider.status.reason


async def test_of_many_who_come_at_once_somebody_with_a_token_is_found() -> None:
    nobodies = [Somebody(person(f"nobody{rank}")) for rank in range(100)]
    async with echoing(Wallets(ada="token-of-ada")) as (echo, _, provider):
        for caller in (*nobodies, Somebody(ADA), *nobodies):
            provider.offer_credentials(caller)

        await until(lambda: provider.listing is not None)

        assert echo.sessions == 1


async def test_what_one_person_has_there_is_shown_to_nobody() -> None:
    async with echoing(Wallets(ada="token-of-ada")) as (_, server, provider):
        provider.offer_credentials(Somebody(ADA))
        await until(lambda: provider.listing is not None)

        assert server.messages("resources/list") != []
        assert provider.listing is not None
        assert provider.listing.resources == ()
        assert provider.listing is provider.listing


async def test_one_session_lists_however_many_come() -> None:
    wallets = Wallets(ada="token-of-ada", bob="token-of-bob")
    async with echoing(wallets) as (echo, _, provider):
        provider.offer_credentials(Somebody(ADA))
        await until(lambda: provider.listing is not None)

        for _ in range(50):
            provider.offer_credentials(Somebody(BOB))
        await asyncio.sleep(0)

        assert provider.settled
        assert echo.sessions == 1


async def test_when_who_listed_has_gone_the_next_one_lists_and_the_lists_stay() -> None:
    wallets = Wallets(ada="token-of-ada", bob="token-of-bob")
    async with echoing(wallets, spare_idle_timeout=0.2) as (echo, server, provider):
        provider.offer_credentials(Somebody(ADA))
        await until(lambda: provider.listing is not None)
        await until(lambda: provider.status.state is State.DISCONNECTED)
        assert provider.listing is not None
        echo.tools = ["who", "new"]

        provider.offer_credentials(Somebody(BOB))
        await until(lambda: provider.listing and len(provider.listing.tools) == 2)

        assert server.messages("tools/list")[-1].headers["authorization"] == "Bearer token-of-bob"


async def test_a_changed_list_is_noticed_whoever_s_session_says_so() -> None:
    wallets = Wallets(ada="token-of-ada", bob="token-of-bob")
    async with echoing(wallets) as (echo, server, provider):
        await who(provider, Somebody(ADA))
        await who(provider, Somebody(BOB))
        await until(lambda: len(echo.streams) == 2 and provider.listing)
        echo.tools = ["who", "new"]

        news = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
        await echo.streams[1].event(news)
        await until(lambda: provider.listing and len(provider.listing.tools) == 2)

        lists = server.messages("tools/list")
        assert {one.headers["authorization"] for one in lists} == {"Bearer token-of-ada"}


async def test_reports_on_a_resource_are_refused_where_they_cannot_be_kept_apart() -> None:
    async with echoing(Wallets(ada="token-of-ada")) as (_, server, provider):
        with pytest.raises(InteractionRefused, match="Read the resource again"):
            await provider.subscribe("x://of-ada", Somebody(ADA))

        assert server.messages("resources/subscribe") == []


# -- programs ---------------------------------------------------------------------------------

PROGRAM = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    if request["method"] == "initialize":
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                  "serverInfo": {"name": "program", "version": "1"}}
    elif request["method"] == "tools/list":
        result = {"tools": [{"name": "who", "inputSchema": {"type": "object"}}]}
    elif request["method"] == "tools/call":
        said = [os.environ.get("GITHUB_TOKEN"), sys.argv[1:], os.getpid()]
        result = {"content": [{"type": "text", "text": json.dumps(said)}]}
    else:
        error = {"code": -32601, "message": "no"}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
"""


def program(folder: Path, **more: Any) -> ServerConfig:
    (folder / "program.py").write_text(PROGRAM)
    return configured(
        {
            "command": sys.executable,
            "args": [str(folder / "program.py"), "--user", "${user.name}"],
            "env": {"GITHUB_TOKEN": "${user.token:github}"},
            **more,
        }
    )


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_program_runs_once_for_each_person_and_ends_when_it_is_idle(tmp_path: Path) -> None:
    wallets = Wallets(ada="token-of-ada", bob="token-of-bob")
    async with provided(program(tmp_path), wallets, spare_idle_timeout=1.0) as provider:
        callers = [Somebody(ADA), Somebody(BOB)] * 5

        answers = await asyncio.gather(*(who(provider, caller) for caller in callers))

        told = {(token, tuple(args)) for token, args, _ in answers}
        assert told == {
            ("token-of-ada", ("--user", "ada")),
            ("token-of-bob", ("--user", "bob")),
        }
        pids = {int(str(pid)) for _, _, pid in answers}
        assert len(pids) == 2
        await until(lambda: not any(is_running(pid) for pid in pids))
        assert provider.status.state is State.DISCONNECTED


async def test_nobody_elses_program_is_started_without_a_token(tmp_path: Path) -> None:
    started = tmp_path / "started"
    (tmp_path / "program.py").write_text(f"open({str(started)!r}, 'w')")
    config = replace(program(tmp_path), args=(str(tmp_path / "program.py"),))
    async with provided(config, Wallets()) as provider:
        provider.offer_credentials(Somebody(ADA))

        with pytest.raises(CredentialMissing):
            await who(provider, Somebody(ADA))

    assert not os.path.exists(started)  # noqa: ASYNC240, PTH110 - nothing else is to be done meanwhile


async def test_the_only_client_there_is_starts_its_program_at_once(tmp_path: Path) -> None:
    config, settings = program(tmp_path), DownstreamSettings(stop_grace=0.5)
    connect = connect_to(config, settings, HttpClient(), Wallets(local="token-of-mine"))
    provider = DownstreamProvider(config, connect, settings, asyncio.Semaphore(8))
    async with asyncio.timeout(60), provider.running():
        provider.start(Somebody(person("local")))
        await until(lambda: provider.listing is not None)

        token, _, _ = await who(provider, Somebody(person("local")))

        assert token == "token-of-mine"
        assert provider.status.state is State.CONNECTED

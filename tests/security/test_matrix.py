"""
Everything that can be asked, by everybody who should not be told: one gateway, over HTTP, for all.

What can be asked is in `matrix.py`. A test here fails as soon as the gateway has a route, a method
or a tool of its own that is not in there.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from typing import Any, Final

import httpx2
import pytest

from tests.gateway_under_test import Gateway, gateway, until
from tests.journeys.raw_client import Refused, envelope, routing_headers
from tests.security.issuing import ISSUER, IssuerUnderTest, claims, issuing, make_key, sign
from tests.security.matrix import (
    CLOSED,
    DEAD,
    GHOST,
    METHODS,
    OPEN,
    OPERATIONS,
    OWN_TOOLS,
    Method,
    Named,
    Operation,
    OwnTool,
    Route,
)
from tests.servers.marked import marked
from tests.tenants import (
    ID,
    SOON,
    WatchedClient,
    add_key,
    bearer,
    is_good,
    revoke_key,
    watched_client,
)
from trunkline.cli.serve import http_face, identify
from trunkline.gateway.adapter import Adapter
from trunkline.plugin.server import low_level
from trunkline.settings import AuthSettings, ClaimSettings, OutboundSettings
from trunkline.storage.repositories.approvals import ApprovalRepository, NewApproval
from trunkline.storage.repositories.orgs import OrgRepository

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

BAD: Final = {
    "nothing": "identity_required",
    "an unknown key": "credential_invalid",
    "an expired key": "credential_expired or credential_invalid",
    "a revoked key": "credential_invalid",
    "an expired token": "credential_expired",
    "a token without a signature": "credential_invalid",
    "a token signed with another key": "credential_invalid",
    "a token for another audience": "credential_invalid",
    "a token of another issuer": "credential_invalid",
}
"""What lets nobody in, and the code of the refusal. An expired key is forgotten after a while."""

STRANGERS: Final = {
    "of another organisation": ("acme", "zephyr", "globex"),
    "with too little scope": ("narrow", "aurora", "acme"),
    "with a token and too little scope": ("narrow token", "aurora", "acme"),
    "of no organisation": ("clerk", "zephyr", "globex"),
}
"""Who asks, about whose server, and who owns that."""

OF_USE: Final = {
    **STRANGERS,
    "with a high role and too little scope": ("narrow boss", "aurora", "acme"),
}
"""A scope is about the use of tools: who administers an organisation does so for all of it."""

VARYING: Final = ("date", "etag", "content-length")
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)")

_places = count(1)


@dataclass
class World:
    """A gateway with servers of two organisations and of everybody."""

    gateway: Gateway
    http: httpx2.AsyncClient
    credentials: dict[str, str]
    named: dict[str, Named]
    """By the mark."""

    clients: dict[tuple[str, str], WatchedClient]
    """By who and era."""

    async def ask(self, method: str, path: str, who: str, **more: Any) -> httpx2.Response:
        """Ask over HTTP. Each time from another place, so that no failure counts for another."""
        headers = dict(more.pop("headers", {}))
        headers["X-Forwarded-For"] = f"2001:db8:{next(_places):x}::1"
        if credential := self.credentials[who]:
            headers |= bearer(credential)
        return await self.http.request(method, path, headers=headers, **more)

    @property
    def secrets(self) -> list[str]:
        """Words that only those may read who are let in."""
        words = [word for one in self.named.values() for word in (one.mark, one.key, one.approval)]
        return [*words, "acme", "globex", *filter(None, self.credentials.values())]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[World]:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(issuing())
        servers = {
            mark: await stack.enter_async_context(marked(mark, shared=shared))
            for mark, shared in (("common", "common"), ("aurora", "note"), ("zephyr", "note"))
        }
        running = await stack.enter_async_context(
            gateway(
                {"common": {"url": servers["common"].url}},
                tmp_path_factory.mktemp("matrix"),
                identified=True,
                admin_tools=True,
                auth=AuthSettings(
                    tokens=(issuer.settings(claims=CLAIMS),), authorization_servers=(ISSUER,)
                ),
                outbound=OutboundSettings(allow=("127.0.0.1",)),
            )
        )
        credentials = {**await people(running), **await strangers(running, issuer)}
        http = httpx2.AsyncClient(base_url=running.url, timeout=30, trust_env=False)
        await stack.enter_async_context(http)
        world = World(running, http, credentials, {}, {})
        for who, mark in (("acme", "aurora"), ("globex", "zephyr")):
            for name, url in ((mark, servers[mark].url), (f"{mark}-dead", DEAD)):
                new = {"name": name, "config": {"url": url}}
                answer = await world.ask("POST", "/api/v1/servers", who, json=new)
                assert answer.status_code == 201, answer.text
            key = await add_key(running, who, f"of {mark}")
            approval = await put_approval(running, who, mark)
            world.named[mark] = Named(mark=mark, org=who, key=key[ID], approval=approval)
        for who in {"globex", *(who for who, _, _ in OF_USE.values())}:
            for era in ("handshake", "modern"):
                client = watched_client(running, era, credentials[who])
                world.clients[who, era] = await stack.enter_async_context(client)
        yield world


CLAIMS: Final = ClaimSettings(org="org", role="role", allow="allow")


async def people(running: Gateway) -> dict[str, str]:
    """Keys that let somebody in."""
    return {
        "acme": await add_key(running, "acme", "boss", role="admin", user="ada"),
        "globex": await add_key(running, "globex", "boss", role="admin", user="gus"),
        "narrow": await add_key(running, "acme", "narrow", user="nan", allow=("common",)),
        "narrow boss": await add_key(
            running, "acme", "narrow boss", user="nel", role="admin", allow=("common",)
        ),
        "clerk": await add_key(running, None, "clerk", role="operator", user="carl"),
    }


async def strangers(running: Gateway, issuer: IssuerUnderTest) -> dict[str, str]:
    """What lets nobody in, by the names of `BAD`; and one token that does."""
    good: Json = {"org": "acme", "role": "admin", "allow": "*"}
    revoked = await add_key(running, "acme", "revoked", role="admin")
    await revoke_key(running, "acme", revoked)
    soon = datetime.now(UTC) + SOON
    expired = await add_key(running, "acme", "expired", role="admin", expires_at=soon)
    await until(lambda: not is_good(running, expired))
    return {
        "narrow token": issuer.token(**{**good, "role": "user", "allow": "common"}),
        "nothing": "",
        "an unknown key": revoked[:-8] + "AAAAAAAA",
        "an expired key": expired,
        "a revoked key": revoked,
        "an expired token": issuer.token(**good, exp=1_700_000_000),
        "a token without a signature": sign(issuer.key, claims(**good), alg="none"),
        "a token signed with another key": sign(make_key(issuer.key.kid or ""), claims(**good)),
        "a token for another audience": issuer.token(**good, aud="https://other.example"),
        "a token of another issuer": issuer.token(**good, iss="https://other.example"),
    }


async def put_approval(running: Gateway, org: str, mark: str) -> str:
    """The id of a call that waits for a person."""
    database = running.app.standing.database
    new = NewApproval(
        id=mark[:2] * 4,
        call_hash=sha256(mark.encode()).digest(),
        subject="key:caller",
        user="cleo",
        server=mark,
        tool="whose",
        arguments="{}",
        risk="HIGH",
        four_eyes=False,
        valid_for=600,
        pending_for=600,
    )
    scope = await OrgRepository(database).put(org)
    row = await ApprovalRepository(database).put(scope, new, most=100)
    assert row is not None
    return row.id


# -- nothing is left out --------------------------------------------------------------------------


async def test_every_route_has_a_row(world: World) -> None:
    running = world.gateway
    face = http_face(running.app, identify(running.app, running.identities))
    paths = {getattr(route, "path", repr(route)) for route in face.routes}

    assert paths == {row.path for row in (*CLOSED, *OPEN) if row.path != "nothing"}


async def test_every_operation_of_the_api_has_a_row(world: World) -> None:
    described = (await world.ask("GET", "/api/v1/openapi.json", "acme")).json()

    there = {
        (one["operationId"], method.upper(), path)
        for path, methods in described["paths"].items()
        for method, one in methods.items()
    }
    assert there == {(row.id, row.method, row.path.partition("?")[0]) for row in OPERATIONS}


async def test_every_method_and_every_own_tool_has_a_row(world: World) -> None:
    core = low_level(world.gateway.app.server)
    adapter = core.middleware[0]
    assert isinstance(adapter, Adapter)
    tables = vars(adapter)
    ours = {*tables["_requests"], *tables["_handshake"], *tables["_modern"]}
    own = {name for tools in tables["_own_tools"] for name in tools.names}

    assert ours | set(vars(core)["_request_handlers"]) | {"initialize"} == {
        row.name for row in METHODS
    }
    assert own == {row.name for row in OWN_TOOLS}


# -- who is not let in ----------------------------------------------------------------------------


def check_refused(world: World, answer: httpx2.Response, status: int, code: str) -> None:
    """That somebody is refused in the form of the place, and told nothing."""
    assert answer.status_code == status, answer.text
    assert answer.headers["cache-control"] == "no-store"
    if answer.request.method != "HEAD":
        said = answer.json()
        is_api = answer.request.url.path.startswith("/api/")
        assert (said["code"] if is_api else said["error"]["data"]["code"]) in code.split(" or ")
    check_silent(world, answer)


def check_silent(world: World, answer: httpx2.Response) -> None:
    shown = answer.text + repr(answer.headers)
    assert [word for word in world.secrets if word in shown] == []
    assert "Traceback" not in shown


@pytest.mark.parametrize("who", BAD)
@pytest.mark.parametrize("row", CLOSED, ids=str)
async def test_nobody_comes_in(world: World, row: Route, who: str) -> None:
    for method, path in row.asked:
        answer = await world.ask(method, path, who)

        check_refused(world, answer, 401, BAD[who])
        assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("who", BAD)
async def test_nobody_reaches_the_api(world: World, who: str) -> None:
    for row in OPERATIONS:
        for named in (world.named["aurora"], GHOST):
            body = None if row.body is None else row.body(named)
            answer = await world.ask(row.method, row.place(named), who, json=body)

            check_refused(world, answer, 401, BAD[who])


@pytest.mark.parametrize("who", BAD)
async def test_nobody_reaches_a_method_even_in_a_session_that_is_there(
    world: World, who: str
) -> None:
    for row in METHODS:
        for era in row.eras:
            headers, params = {"Accept": "application/json, text/event-stream"}, row.ask(GHOST)
            if era == "modern":
                headers |= routing_headers(row.name, params)
                params = {**params, "_meta": envelope({})}
            else:
                headers["Mcp-Session-Id"] = session_of(world.clients["acme", era])
            message = {"jsonrpc": "2.0", "id": 1, "method": row.name, "params": params}
            answer = await world.ask("POST", "/mcp", who, json=message, headers=headers)

            check_refused(world, answer, 401, BAD[who])


def session_of(client: WatchedClient) -> str:
    return vars(client)["_headers"]["Mcp-Session-Id"]


@pytest.mark.parametrize("who", [*BAD, "acme"])
@pytest.mark.parametrize("row", OPEN, ids=str)
async def test_what_is_open_tells_nobody_of_anybody(world: World, row: Route, who: str) -> None:
    for method, path in row.asked:
        expected = await world.ask(method, path, "nothing")
        answer = await world.ask(method, path, who)

        assert (answer.status_code, answer.text) == (expected.status_code, expected.text)
        assert answer.status_code < 500
        check_silent(world, answer)


async def test_no_other_organisation_can_be_named_and_whoever_tries_is_audited(
    world: World,
) -> None:
    asked = [one for row in CLOSED for one in row.asked]
    asked += [(row.method, row.place(world.named["zephyr"])) for row in OPERATIONS]
    for org in ("globex", "nobody"):
        for method, path in asked:
            headers = {"X-Organization-Id": org}
            answer = await world.ask(method, path, "acme", headers=headers)

            assert answer.status_code == 403, (path, answer.text)
            assert "org_refused" in answer.text or method == "HEAD"
            assert "www-authenticate" not in answer.headers

    async def audited() -> int:
        query = "/api/v1/audit?what=identity.refused&limit=500"
        entries = (await world.ask("GET", query, "acme")).json()["items"]
        return sum(one["code"] == "org_refused" and one["org"] == "acme" for one in entries)

    async with asyncio.timeout(20):
        while await audited() < 2 * len(asked):  # noqa: ASYNC110 - it is written behind
            await asyncio.sleep(0.05)


# -- who is let in, and is not told ---------------------------------------------------------------


@pytest.mark.parametrize("stranger", OF_USE)
@pytest.mark.parametrize("row", METHODS, ids=str)
async def test_what_is_not_theirs_is_answered_like_what_is_not_there(
    world: World, row: Method, stranger: str
) -> None:
    who, mark, owner = OF_USE[stranger]
    theirs = world.named[mark]
    for era in row.eras:
        told = await asked(world.clients[who, era], row, theirs)
        nothing = await asked(world.clients[who, era], row, GHOST)

        assert theirs.as_ghost(told) == nothing
        assert mark not in nothing
        if row.tells:
            of_owner = await asked(world.clients[owner, era], row, theirs)
            assert theirs.as_ghost(of_owner) != nothing


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("row", OWN_TOOLS, ids=str)
async def test_the_own_tools_know_nothing_of_what_is_not_theirs(
    world: World, row: OwnTool, stranger: str
) -> None:
    who, mark, owner = STRANGERS[stranger]
    theirs = world.named[mark]
    for era in ("handshake", "modern"):
        for through in ("tools/call", "call_tool"):
            told = await called(world.clients[who, era], row, theirs, through)
            nothing = await called(world.clients[who, era], row, GHOST, through)

            assert mark not in nothing
            assert theirs.as_ghost(told) == nothing or not row.compares
            assert mark not in told or row.compares
            if row.tells:
                of_owner = await called(world.clients[owner, era], row, theirs, through)
                assert theirs.as_ghost(of_owner) != nothing


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("row", OPERATIONS, ids=str)
async def test_the_api_knows_nothing_of_what_is_not_theirs(
    world: World, row: Operation, stranger: str
) -> None:
    who, mark, _ = STRANGERS[stranger]
    theirs = world.named[mark]

    told = await fetched(world, row, who, theirs)
    nothing = await fetched(world, row, who, GHOST)

    assert theirs.as_ghost(told) == theirs.as_ghost(nothing)
    assert [word for word in (mark, theirs.key, theirs.approval) if word in nothing] == []


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_no_name_that_is_not_theirs_is_suggested_to_who_mistypes_it(
    world: World, era: str
) -> None:
    mistyped = world.named["zephyr"].tool[:-1]
    for method in ("tools/call", "prompts/get"):
        row = Method(method, ask=lambda _: {"name": mistyped, "arguments": {}})
        told = {who: await asked(world.clients[who, era], row, GHOST) for who in ("acme", "globex")}

        assert "zephyr__zephyr_zephyr" in told["globex"]
        assert "zephyr__zephyr_zephyr" not in told["acme"]


async def asked(client: WatchedClient, row: Method, named: Named) -> str:
    """What somebody is answered, as text."""
    if row.name in ("initialize", "server/discover"):
        return json.dumps(client.greeting)
    if row.name == "subscriptions/listen":
        return await acknowledged(client, row.ask(named))
    try:
        return json.dumps(await client.request(row.name, row.ask(named)))
    except Refused as refused:
        return json.dumps([refused.code, refused.message, refused.data, refused.status])


async def acknowledged(client: WatchedClient, params: Json) -> str:
    """What a stream says that it will tell of."""
    async with asyncio.TaskGroup() as tasks:
        stream = tasks.create_task(client.request("subscriptions/listen", params))
        said = await client.hear("notifications/subscriptions/acknowledged")
        stream.cancel()
    return json.dumps(said["notifications"])


async def called(client: WatchedClient, row: OwnTool, named: Named, through: str) -> str:
    """What a tool answers, called directly or through `call_tool`."""
    params: Json = {"name": row.name, "arguments": row.ask(named)}
    if through == "call_tool" and row.name != "call_tool":
        params = {"name": "call_tool", "arguments": params}
    try:
        answer = json.dumps(await client.request("tools/call", params))
    except Refused as refused:
        answer = json.dumps([refused.code, refused.message, refused.data])
    if row.undo is not None:
        await client.request("tools/call", {"name": row.undo, "arguments": {"name": named.mark}})
    return TIME.sub("a time", answer)


async def fetched(world: World, row: Operation, who: str, named: Named) -> str:
    """What the API answers: status, headers and body."""
    body = None if row.body is None else row.body(named)
    answer = await world.ask(row.method, row.place(named), who, json=body)
    if answer.status_code < 300 and (undo := row.undone(named)) is not None:
        await world.ask("DELETE", undo, who)
    headers = {name: value for name, value in answer.headers.items() if name not in VARYING}
    return TIME.sub("a time", json.dumps([answer.status_code, headers, answer.text]))

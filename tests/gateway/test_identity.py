"""Who is let in over HTTP, and what is said to whoever is not."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.databases import database_of
from tests.gateway_under_test import until
from tests.security.issuing import ISSUER, IssuerUnderTest, issuing
from tests.servers.face_server import BOTH, build_face, serving

from trunkline.gateway.health import health_routes
from trunkline.gateway.identity import Identity
from trunkline.models import PRINCIPAL, Principal
from trunkline.security.identity.credentials import Unprotected
from trunkline.security.identity.identities import Identities, is_loopback, open_identities
from trunkline.security.identity.keys import make_secret
from trunkline.settings import AuthSettings, DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.keys import AllKeys, KeyRepository, NewKey
from trunkline.storage.repositories.orgs import OrgRepository

pytestmark = pytest.mark.anyio

NOWHERE = "postgresql:///nothing?host=/nonexistent"


@dataclass
class Entrance:
    """A server that asks who comes, and how it did."""

    url: str
    http: httpx2.AsyncClient
    identities: Identities
    database: Database
    refused: list[tuple[str, Principal | None, str, str]] = field(
        default_factory=list[tuple[str, Principal | None, str, str]]
    )

    async def key(self, name: str = "laptop", org: str | None = None, **described: Any) -> str:
        """A key that is good, and known to be."""
        org_id = None if org is None else await OrgRepository(self.database).put(org)
        secret, new = make_secret(), NewKey(name=name, **described)
        await KeyRepository(self.database).add(org_id, secret.id, secret.hash, new)
        await until(lambda: secret.id in self.identities.keys._keys)  # pyright: ignore[reportPrivateUsage]
        return secret.key

    async def revoke(self, key: str) -> None:
        (row,) = [row for row in await AllKeys(self.database).list_all() if row.id in key]
        await KeyRepository(self.database).revoke(row.org_id, row.id)

    async def ask(
        self, key: str | None = None, *, query: str = "", **headers: str
    ) -> httpx2.Response:
        """Ask who we are."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        return await self.http.get(f"/who?{query}" if query else "/who", headers=sent)


async def who(request: Request) -> JSONResponse:
    principal: Principal = request.scope[PRINCIPAL]
    said = {"subject": principal.subject, "org": principal.org, "id": id(principal)}
    return JSONResponse(said | {"authorization": principal.authorization})


@asynccontextmanager
async def entrance(
    home: Path | None,
    *,
    host: str = "127.0.0.1",
    settings: AuthSettings | None = None,
    has_no_database: bool = False,
) -> AsyncGenerator[Entrance]:
    """
    The server on loopback, with a database of *home*'s or with one that is away.

    *host* is what it takes itself to listen on.
    """
    settings = settings or AuthSettings()
    address = NOWHERE if home is None else database_of(home)
    limits = DatabaseSettings(connect_timeout=0.2 if home is None else 10, max_connections=3)

    async def at_once(_: float) -> None:
        pass

    async with (
        open_pool(address, limits) as database,
        open_identities(
            settings,
            database,
            host=host,
            wait_migrated=at_once,
            has_no_database=lambda: has_no_database,
        ) as identities,
    ):
        refused: list[tuple[str, Principal | None, str, str]] = []
        identity = Identity(
            identities,
            settings,
            on_refused=lambda *said: refused.append(said),
            open_paths=("/open", "/below/"),
        )
        routes = [Route("/who", who, methods=["GET", "POST"])]
        routes += health_routes(lambda: True, lambda: ())  # pyright: ignore[reportArgumentType]
        face = build_face()
        async with (
            serving(face, identity=identity, routes=[*routes]) as url,
            httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as http,
        ):
            yield Entrance(url, http, identities, database, refused)


def code(response: httpx2.Response) -> str:
    """The error of an answer, which says nothing else."""
    body = response.json()
    assert set(body) == {"jsonrpc", "id", "error"}
    assert body["error"]["message"].endswith(".")
    return body["error"]["data"]["code"]


# -- while nobody is asked ------------------------------------------------------------------------


async def test_on_loopback_everybody_is_the_local_user_until_a_key_is_made(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        before = await door.ask()
        key = await door.key()
        after = await door.ask()
        with_key = await door.ask(key)

    assert before.json()["subject"] == "loopback"
    assert (after.status_code, code(after)) == (401, "identity_required")
    assert with_key.json()["subject"].startswith("key:")


async def test_the_open_streams_of_the_local_user_end_with_the_first_key(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door, door.http.stream("GET", "/sse") as stream:
        lines = stream.aiter_lines()
        assert await anext(lines) == "event: endpoint"
        await door.key()
        with anyio.fail_after(10):
            rest = [line async for line in lines]

    assert rest[0].startswith("data: /messages/")


async def test_what_a_proxy_forwards_for_others_is_not_the_local_users(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        ours = await door.ask(X_Forwarded_For="127.0.0.1")
        theirs = await door.ask(X_Forwarded_For="203.0.113.9")
    async with entrance(tmp_path, settings=AuthSettings(required=False)) as door:
        told = await door.ask(X_Forwarded_For="203.0.113.9")

    assert (ours.status_code, theirs.status_code, told.status_code) == (200, 401, 200)


async def test_the_local_users_header_may_be_passed_on_but_never_a_key(tmp_path: Path) -> None:
    async with entrance(tmp_path, settings=AuthSettings(required=False)) as door:
        key = await door.key()
        with_token = await door.ask("somebodys-token")
        with_key = await door.ask(key)

    assert with_token.json()["subject"] == with_key.json()["subject"] == "loopback"
    assert with_token.json()["authorization"] == "Bearer somebodys-token"
    assert with_key.json()["authorization"] is None


async def test_switched_off_means_off_on_loopback_alone(tmp_path: Path) -> None:
    off = AuthSettings(required=False)
    async with entrance(tmp_path, settings=off) as door:
        await door.key()
        assert (await door.ask()).status_code == 200
        await door.identities.check_protected()
    async with entrance(tmp_path, settings=off, host="0.0.0.0") as door:
        with pytest.raises(Unprotected, match="Take TRUNKLINE_AUTH__REQUIRED=false back"):
            await door.identities.check_protected()
        assert (await door.ask()).status_code == 401


async def test_switched_on_means_on_before_there_is_a_key(tmp_path: Path) -> None:
    async with entrance(tmp_path, settings=AuthSettings(required=True)) as door:
        assert (await door.ask()).status_code == 401


# -- where others can connect ---------------------------------------------------------------------


async def test_strangers_need_something_to_be_told_by(tmp_path: Path) -> None:
    async with entrance(tmp_path, host="0.0.0.0") as door:
        with pytest.raises(Unprotected, match=r"trunkline key create.*TRUNKLINE_AUTH__TOKENS"):
            await door.identities.check_protected()
        assert (await door.ask()).status_code == 401
        await door.key()
        await door.identities.check_protected()
    async with entrance(tmp_path, host="0.0.0.0", settings=AuthSettings(required=True)) as door:
        await door.identities.check_protected()


async def test_strangers_are_not_let_in_while_it_is_not_known_whether_there_are_keys() -> None:
    async with entrance(None, host="0.0.0.0") as door:
        door.identities._patience = 0.1  # pyright: ignore[reportPrivateUsage]
        await door.identities.check_protected()
        nobody = await door.ask()
        somebody = await door.ask(make_secret().key)

    assert nobody.status_code == 401
    assert (somebody.status_code, code(somebody)) == (503, "identity_unavailable")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_addresses_of_this_machine_are_known(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.7", "example.com", "*", "", "127.0.0.1.example.com"]
)
def test_addresses_that_others_can_reach_are_known(host: str) -> None:
    assert not is_loopback(host)


# -- while the database is away -------------------------------------------------------------------


async def test_nobody_is_let_in_while_it_is_not_known_whether_there_are_keys() -> None:
    async with entrance(None) as door:
        door.identities._patience = 0.1  # pyright: ignore[reportPrivateUsage]
        refused = await door.ask()
        health = await door.http.get("/health")

    assert (refused.status_code, code(refused)) == (503, "identity_unavailable")
    assert "www-authenticate" not in refused.headers
    assert health.status_code == 200


async def test_requests_wait_until_it_is_known(tmp_path: Path) -> None:
    async with entrance(None) as door:
        waiting = asyncio.ensure_future(door.ask())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        door.identities.keys.take([])
        async with asyncio.timeout(10):
            assert (await waiting).json()["subject"] == "loopback"


async def test_where_there_can_be_no_database_there_can_be_no_keys() -> None:
    async with entrance(None, has_no_database=True) as door:
        assert (await door.ask()).json()["subject"] == "loopback"


async def test_tokens_are_taken_while_the_keys_are_not_known() -> None:
    async with issuing() as issuer:
        settings = AuthSettings(tokens=(issuer.settings(),))
        async with entrance(None, settings=settings) as door:
            assert (await door.ask(issuer.token())).status_code == 200


# -- every route ----------------------------------------------------------------------------------


ROUTES = (
    "GET /mcp", "POST /mcp", "DELETE /mcp", "POST /mcp/", "PUT /mcp", "OPTIONS /mcp", "GET /sse",
    "POST /messages/", "POST /messages/?session_id=1", "GET /who", "POST /who", "HEAD /who",
    "GET /metrics", "GET /api/v1/servers", "GET /console", "GET /nowhere", "GET /health/",
    "GET //health", "GET /ready/x", "GET /mcp/../health/../who", "GET /%2e%2e/health/who",
)  # fmt: skip


async def test_every_route_asks_before_it_does_anything(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        await door.key()
        answers = {
            route: await door.http.request(*route.split(), content=b"{" * 100) for route in ROUTES
        }

    assert {route: answer.status_code for route, answer in answers.items()} == dict.fromkeys(
        ROUTES, 401
    )
    assert all("www-authenticate" in answer.headers for answer in answers.values())


async def test_what_a_load_balancer_looks_at_asks_nobody(tmp_path: Path) -> None:
    paths = ("/health", "/ready", "/open", "/below/x", "/below/x/y", "/open/x", "/below")
    async with entrance(tmp_path) as door:
        await door.key()
        statuses = [(await door.http.get(path)).status_code for path in paths]

    assert statuses == [200, 200, 404, 404, 404, 401, 401]


async def test_the_last_use_of_a_key_is_written_before_the_end(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        await door.ask(await door.key())
    async with open_pool(database_of(tmp_path), DatabaseSettings()) as database:
        (row,) = await AllKeys(database).list_all()

    assert row.last_used_at is not None


async def test_a_body_is_not_read_of_whoever_is_not_let_in(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        await door.key()
        host = door.url.removeprefix("http://")
        reader, writer = await asyncio.open_connection(*host.split(":"))
        head = f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head.encode() + b"5\r\nhello\r\n")
        async with asyncio.timeout(5):
            status = await reader.readline()
        writer.close()

    assert b" 401 " in status


# -- what is shown --------------------------------------------------------------------------------


async def test_a_key_comes_in_either_of_two_headers(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        key = await door.key()
        answers = [
            await door.ask(key),
            await door.ask(Authorization=f"bearer   {key}"),
            await door.ask(X_API_Key=key),
            await door.ask(X_API_Key=key, Authorization="Bearer for-a-server"),
            await door.ask(X_API_Key=key, Authorization="Basic Zm9yOmE="),
        ]

    assert {answer.json()["subject"] for answer in answers} == {f"key:{key[3:15]}"}
    assert [answer.json()["authorization"] for answer in answers] == [
        None, None, None, "Bearer for-a-server", "Basic Zm9yOmE=",
    ]  # fmt: skip


async def test_the_same_credential_is_the_same_somebody(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        key = await door.key(org="acme", orgs=("globex",))
        own = {(await door.ask(key)).json()["id"] for _ in range(3)}
        switched = {
            (await door.ask(key, X_Organization_Id="globex")).json()["id"] for _ in range(3)
        }

    assert len(own) == len(switched) == 1
    assert own != switched


NOTHING = (
    (b"authorization", b"Bearer"),
    (b"authorization", b"Basic dGs6dGs="),
    (b"authorization", b""),
    (b"x-api-key", b""),
    (b"cookie", b"authorization=Bearer x"),
)


async def test_what_shows_nothing_is_asked_to_show_something(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        await door.key()
        answers = [await door.http.get("/who", headers=[header]) for header in NOTHING]

    for refused in answers:
        assert (refused.status_code, code(refused)) == (401, "identity_required")
        assert refused.headers["www-authenticate"] == 'Bearer realm="trunkline"'
    assert door.refused == [], "nothing was claimed"


UNKNOWN = (
    b"tk_aaaaaaaaaaaa_" + b"a" * 52,
    b"tk_",
    b"tk_aaaaaaaaaaaa_" + b"a" * 51 + "\u00e9".encode(),
    "tk_\u0430aaaaaaaaaaa_".encode() + b"a" * 52,
    b"\xff\xfe",
    b"x" * 20_000,
    b"a.b.c",
    b"12345678",
    b"Bearer tk_aaaaaaaaaaaa_" + b"a" * 52,
)


async def test_what_is_not_known_is_refused(tmp_path: Path) -> None:
    async with issuing() as issuer:
        settings = AuthSettings(tokens=(issuer.settings(),))
        async with entrance(tmp_path, settings=settings) as door:
            await door.key()
            answers = [
                await door.http.get("/who", headers=[(b"authorization", b"Bearer " + shown)])
                for shown in UNKNOWN
            ]
            in_the_other = await door.ask(X_API_Key=issuer.token())

    for refused, shown in zip([*answers, in_the_other], [*UNKNOWN, b"eyJ"], strict=True):
        assert (refused.status_code, code(refused)) == (401, "credential_invalid")
        assert 'error="invalid_token"' in refused.headers["www-authenticate"]
        assert shown[:40] not in refused.content
    told = {(kind, principal, address) for kind, principal, _, address in door.refused}
    assert told == {("credential_invalid", None, "127.0.0.1")}


async def test_a_header_that_comes_twice_counts_for_nothing(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        key = await door.key(org="acme", orgs=("globex",))
        shown = ("Authorization", f"Bearer {key}")
        answers = {
            "Authorization": await door.http.get(
                "/who", headers=[shown, ("authorization", "Bearer x")]
            ),
            "X-API-Key": await door.http.get("/who", headers=2 * [("X-API-Key", key)]),
            "X-Organization-Id": await door.http.get(
                "/who",
                headers=[shown, ("X-Organization-Id", "acme"), ("x-organization-id", "globex")],
            ),
        }

    for name, refused in answers.items():
        assert (refused.status_code, code(refused)) == (400, "header_repeated")
        assert name in refused.json()["error"]["message"]


async def test_a_credential_in_the_url_is_refused_even_with_a_good_one(tmp_path: Path) -> None:
    queries = ("key={}", "x=1&api_key={}", "access_token=anything", "API-KEY=x", "a={}&b")
    async with entrance(tmp_path) as door:
        key = await door.key()
        answers = [await door.ask(key, query=query.format(key)) for query in queries]

    for refused in answers:
        assert (refused.status_code, code(refused)) == (400, "credential_misplaced")
        assert key not in refused.text
        assert 'error="invalid_request"' in refused.headers["www-authenticate"]


async def test_what_ended_is_refused_and_said_so(tmp_path: Path) -> None:
    async with issuing() as issuer:
        settings = AuthSettings(tokens=(issuer.settings(skew=0),))
        async with entrance(tmp_path, settings=settings) as door:
            expired = await door.ask(issuer.token(exp=int(time.time()) - 5))
            key = await door.key()
            await door.revoke(key)
            await until(lambda: not door.identities.keys._keys)  # pyright: ignore[reportPrivateUsage]
            revoked = await door.ask(key)

    assert (expired.status_code, code(expired)) == (401, "credential_expired")
    assert (revoked.status_code, code(revoked)) == (401, "credential_invalid")


# -- organisations --------------------------------------------------------------------------------


async def test_a_key_acts_in_its_own_organisation_or_one_it_is_authorized_for(
    tmp_path: Path,
) -> None:
    async with entrance(tmp_path) as door:
        key = await door.key(org="acme", orgs=("globex", "caf\u00e9"))
        orgs = [
            (await door.ask(key)).json()["org"],
            (await door.ask(key, X_Organization_Id="acme")).json()["org"],
            (await door.ask(key, X_Organization_Id="globex")).json()["org"],
        ]
        named = [
            (b"authorization", f"Bearer {key}".encode()),
            (b"x-organization-id", "caf\u00e9".encode()),
        ]
        orgs.append((await door.http.get("/who", headers=named)).json()["org"])

    assert orgs == ["acme", "acme", "globex", "caf\u00e9"]


async def test_any_other_organisation_is_refused_and_told(tmp_path: Path) -> None:
    orgs = (b"initech", b"Globex", b"*", b"", b"globex\xff", b"None", b"a" * 999)
    async with entrance(tmp_path) as door:
        key = await door.key(org="acme", orgs=("globex",))
        shown = (b"authorization", f"Bearer {key}".encode())
        answers = [
            await door.http.get("/who", headers=[shown, (b"x-organization-id", org)])
            for org in orgs
        ]

    for refused in answers:
        assert (refused.status_code, code(refused)) == (403, "org_refused")
    assert len(door.refused) == len(orgs)
    for kind, principal, _, address in door.refused:
        assert (kind, address) == ("org_refused", "127.0.0.1")
        assert principal is not None
        assert principal.subject == f"key:{key[3:15]}"


async def test_the_local_user_has_no_organisation_to_switch_to(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        assert (await door.ask(X_Organization_Id="acme")).status_code == 403


# -- OAuth ----------------------------------------------------------------------------------------


@pytest.fixture
async def issuer() -> AsyncGenerator[IssuerUnderTest]:
    async with issuing() as running:
        yield running


def parameters(response: httpx2.Response) -> dict[str, str]:
    """The challenge of a refusal, read as a client would."""
    scheme, _, rest = response.headers["www-authenticate"].partition(" ")
    assert scheme == "Bearer"
    return dict(re.findall(r'([a-z_]+)="([^"\\]*)"', rest))


async def test_a_client_finds_out_where_tokens_are_to_be_had(
    tmp_path: Path, issuer: IssuerUnderTest
) -> None:
    settings = AuthSettings(
        tokens=(issuer.settings(required_scopes=("mcp", "tools")),),
        authorization_servers=(ISSUER,),
    )
    async with entrance(tmp_path, settings=settings) as door:
        asked = parameters(await door.ask())
        found = (await door.http.get(asked["resource_metadata"])).json()
        root = (await door.http.get("/.well-known/oauth-protected-resource")).json()
        wrong = parameters(await door.ask("nonsense"))
        lacking = await door.ask(issuer.token(scope="mcp"))
        good = await door.ask(issuer.token(scope="mcp tools"))

    assert found == root
    assert found == {
        "resource": f"{door.url}/mcp",
        "authorization_servers": [ISSUER],
        "scopes_supported": ["mcp", "tools"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Trunkline",
    }
    assert asked["resource_metadata"] == f"{door.url}/.well-known/oauth-protected-resource/mcp"
    assert (asked["scope"], asked.get("error")) == ("mcp tools", None)
    assert (wrong["error"], wrong["resource_metadata"]) == (
        "invalid_token",
        asked["resource_metadata"],
    )
    assert wrong["error_description"].endswith(".")
    assert (lacking.status_code, code(lacking)) == (403, "scope_insufficient")
    assert parameters(lacking)["error"] == "insufficient_scope"
    assert parameters(lacking)["scope"] == "mcp tools"
    assert good.status_code == 200


async def test_the_resource_is_the_one_that_clients_know(
    tmp_path: Path, issuer: IssuerUnderTest
) -> None:
    settings = AuthSettings(
        tokens=(issuer.settings(),),
        authorization_servers=(ISSUER,),
        resource="https://mcp.example.com/gateway/mcp",
    )
    async with entrance(tmp_path, settings=settings) as door:
        asked = parameters(await door.ask())
        found = (await door.http.get("/.well-known/oauth-protected-resource/gateway/mcp")).json()

    url = "https://mcp.example.com/.well-known/oauth-protected-resource/gateway/mcp"
    assert asked["resource_metadata"] == url
    assert found["resource"] == "https://mcp.example.com/gateway/mcp"


async def test_without_authorization_servers_there_is_no_metadata(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        await door.key()
        assert (await door.http.get("/.well-known/oauth-protected-resource")).status_code == 404


# -- trying ---------------------------------------------------------------------------------------


async def test_whoever_tries_too_often_waits_and_nobody_else_does(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        key = await door.key()
        tried = [(await door.ask(make_secret().key)).status_code for _ in range(25)]
        waiting = await door.ask(make_secret().key)
        good = await door.ask(key)
        nothing = await door.ask()
        elsewhere = await door.ask(make_secret().key, X_Forwarded_For="203.0.113.9")

    assert tried == [401] * 20 + [429] * 5
    assert code(waiting) == "too_many_failures"
    assert 0 < int(waiting.headers["retry-after"]) <= 60
    assert (good.status_code, nothing.status_code, elsewhere.status_code) == (200, 401, 401)
    assert len(door.refused) == 21


async def test_tokens_are_not_verified_for_whoever_tries_too_often(
    tmp_path: Path, issuer: IssuerUnderTest
) -> None:
    token = issuer.token()
    async with entrance(tmp_path, settings=AuthSettings(tokens=(issuer.settings(),))) as door:
        before = await door.ask(token)
        for _ in range(20):
            await door.ask("nonsense")
        fresh = await door.ask(issuer.token(sub="bob"))
        known = await door.ask(token)

    assert (before.status_code, fresh.status_code, known.status_code) == (200, 429, 200)


# -- sessions and streams -------------------------------------------------------------------------

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    },
}
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}


async def post(door: Entrance, message: Any, key: str, **headers: str) -> httpx2.Response:
    sent = {"Accept": BOTH, "Authorization": f"Bearer {key}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return await door.http.post("/mcp", json=message, headers=sent)


async def test_a_session_does_not_exist_for_another_key_or_organisation(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        ann = await door.key("ann", org="acme", orgs=("globex",))
        bob = await door.key("bob", org="acme")
        session = (await post(door, HELLO, ann)).headers["mcp-session-id"]
        statuses = [
            (await post(door, PING, key, Mcp_Session_Id=session, **org)).status_code
            for key, org in (
                (ann, {}),
                (ann, {"X_Organization_Id": "acme"}),
                (ann, {"X_Organization_Id": "globex"}),
                (bob, {}),
            )
        ]

    assert statuses == [200, 200, 404, 404]


async def test_a_session_goes_on_with_the_rotated_secret_of_its_key(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        old = await door.key()
        session = (await post(door, HELLO, old)).headers["mcp-session-id"]
        new = make_secret(old[3:15])
        await KeyRepository(door.database).rotate(None, new.id, new.hash, grace=timedelta(hours=1))
        async with asyncio.timeout(10):
            while (await post(door, PING, new.key, Mcp_Session_Id=session)).status_code != 200:
                pass
        still = await post(door, PING, old, Mcp_Session_Id=session)

    assert still.status_code == 200


@pytest.mark.parametrize("path", ["/mcp", "/sse"])
async def test_the_open_stream_of_a_revoked_key_ends(tmp_path: Path, path: str) -> None:
    async with entrance(tmp_path) as door:
        key = await door.key()
        shown = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
        if path == "/mcp":
            shown["Mcp-Session-Id"] = (await post(door, HELLO, key)).headers["mcp-session-id"]
        async with door.http.stream("GET", path, headers=shown) as stream:
            assert stream.status_code == 200
            await door.revoke(key)
            with anyio.fail_after(5):
                _ = [line async for line in stream.aiter_lines()]
        after = await door.ask(key)

    assert after.status_code == 401


async def test_the_open_stream_of_a_token_ends_when_it_expires(
    tmp_path: Path, issuer: IssuerUnderTest
) -> None:
    settings = AuthSettings(tokens=(issuer.settings(skew=0),))
    async with entrance(tmp_path, settings=settings) as door:
        token = issuer.token(exp=int(time.time()) + 4)
        shown = {"Authorization": f"Bearer {token}"}
        async with door.http.stream("GET", "/sse", headers=shown) as stream:
            assert stream.status_code == 200
            with anyio.fail_after(10):
                _ = [line async for line in stream.aiter_lines()]


async def test_a_stream_outlives_a_rotation_with_grace(tmp_path: Path) -> None:
    async with entrance(tmp_path) as door:
        key = await door.key()
        shown = {"Authorization": f"Bearer {key}"}
        async with door.http.stream("GET", "/sse", headers=shown) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: endpoint"
            path = (await anext(lines)).removeprefix("data: ")
            new = make_secret(key[3:15])
            await KeyRepository(door.database).rotate(
                None, new.id, new.hash, grace=timedelta(hours=1)
            )
            fresh = {"Authorization": f"Bearer {new.key}"}
            async with asyncio.timeout(10):
                while (await door.http.post(path, json=PING, headers=fresh)).status_code == 401:
                    pass
                assert await anext(lines) == ""
                assert await anext(lines) == "event: message"

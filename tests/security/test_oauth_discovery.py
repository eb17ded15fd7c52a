"""Who gives out tokens for a server: found out step by step, none of them believed by itself."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.security.oauth_world import World, world
from tests.servers.authorization_server import hosted
from trunkline.downstream.oauth_entry import OAuthConfig
from trunkline.security.oauth.discovery import AuthorizationServer, Challenge, discover
from trunkline.security.oauth.failures import OAuthInvalid, OAuthRefused, OAuthUnavailable
from trunkline.security.oauth.web import check_secure, open_web
from trunkline.security.outbound.guard import OutboundGuard, OutboundRefused
from trunkline.settings import OutboundSettings

pytestmark = pytest.mark.anyio

LOOPBACK = OutboundSettings(allow=("127.0.0.1",))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as made:
        yield made


async def found(
    url: str, config: OAuthConfig | None = None, outbound: OutboundSettings = LOOPBACK
) -> AuthorizationServer:
    async with open_web(OutboundGuard(outbound), timeout=2) as web:
        return await discover(web, url, config or OAuthConfig())


def answering(
    everything: Callable[[Request], Awaitable[Response]],
) -> AbstractAsyncContextManager[str]:
    """A site that answers every request like that."""
    route = Route("/{path:path}", everything, methods=["GET", "POST"])
    return hosted(Starlette(routes=[route]))


async def test_the_challenge_leads_to_the_authorization_server(here: World) -> None:
    here.site.faults.resource = {"scopes_supported": ["read", "write"]}

    server = await found(here.site.mcp)

    assert server.issuer == here.site.url
    assert server.resource == here.site.mcp
    assert server.scopes == ("read", "write")
    assert server.names_itself


async def test_a_challenge_that_names_nothing_leaves_the_well_known_places(here: World) -> None:
    here.site.faults.challenges = False

    assert (await found(here.site.mcp)).issuer == here.site.url


async def test_scopes_are_those_configured_else_those_of_the_challenge(here: World) -> None:
    here.site.faults.resource = {"scopes_supported": ["read", "write"]}
    here.site.faults.metadata = {"scopes_supported": ["read", "offline_access"]}
    asked = Challenge.of('Bearer error="insufficient_scope", scope="write admin"')

    assert (await found(here.site.mcp, OAuthConfig(scopes=("own",)))).scopes == ("own",)
    async with open_web(OutboundGuard(LOOPBACK), timeout=2) as web:
        server = await discover(web, here.site.mcp, OAuthConfig(), asked)
    assert server.scopes == ("write", "admin", "offline_access")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"issuer": "https://evil.example"}, "pretends"),
        ({"code_challenge_methods_supported": None}, "PKCE"),
        ({"code_challenge_methods_supported": ["plain"]}, "PKCE"),
        ({"token_endpoint": "http://auth.example/token"}, "not secure"),
        ({"authorization_endpoint": "http://auth.example/authorize"}, "not secure"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "no metadata that can be used"),
        ({"token_endpoint": None}, "no metadata that can be used"),
    ],
)
async def test_an_authorization_server_that_cannot_be_trusted_is_refused(
    here: World, changes: dict[str, Any], sentence: str
) -> None:
    here.site.faults.metadata = changes

    with pytest.raises(OAuthInvalid, match=sentence):
        await found(here.site.mcp)


@pytest.mark.parametrize("resource", ["https://other.example/mcp", "/other", "/mcp2"])
async def test_metadata_about_another_server_are_refused(here: World, resource: str) -> None:
    said = resource if "://" in resource else here.site.url + resource
    here.site.faults.resource = {"resource": said}

    with pytest.raises(OAuthInvalid, match="another server"):
        await found(here.site.mcp)


async def test_an_issuer_of_mcp_json_wins_over_the_one_that_is_named(here: World) -> None:
    here.site.faults.resource = {"authorization_servers": ["https://evil.example"]}

    server = await found(here.site.mcp, OAuthConfig(issuer=here.site.url))

    assert server.issuer == here.site.url


@pytest.mark.parametrize(
    "place",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1",
        "https://[::1]",
        "https://192.168.0.1:8443",
    ],
)
async def test_a_server_cannot_send_us_into_the_network(here: World, place: str) -> None:
    here.site.faults.resource = {"authorization_servers": [place]}

    with pytest.raises(OutboundRefused) as raised:
        await found(here.site.mcp)

    assert raised.value.code == "outbound_refused"


async def test_without_leave_not_even_loopback_is_asked_unless_mcp_json_names_it(
    here: World,
) -> None:
    closed = OutboundGuard(OutboundSettings())

    async with open_web(closed, timeout=2) as web:
        with pytest.raises(OutboundRefused):
            await discover(web, here.site.mcp, OAuthConfig())
        server = await discover(web.trusting([here.site.mcp]), here.site.mcp, OAuthConfig())

    assert server.issuer == here.site.url


async def test_a_registration_endpoint_inside_the_network_is_refused(here: World) -> None:
    here.site.faults.metadata = {"registration_endpoint": "https://10.0.0.1/register"}

    with pytest.raises(OutboundRefused):
        await here.oauth.begin(None, "ada", here.server())


async def test_redirects_are_not_followed() -> None:
    reached: list[str] = []

    async def redirect(request: Request) -> Response:
        if request.url.path == "/secret":
            reached.append("secret")
        return RedirectResponse("/secret", 302)

    async with hosted(
        Starlette(routes=[Route("/{path:path}", redirect, methods=["GET", "POST"])])
    ) as url:
        with pytest.raises(OAuthInvalid, match="could not be found out"):
            await found(f"{url}/mcp")

    assert not reached


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'"x"', b"{" * 100_000, b"\xff\xfe", b"{}"])
async def test_metadata_that_are_none_are_a_sentence(body: bytes) -> None:
    async def answer(_: Request) -> Response:
        return Response(body, media_type="application/json")

    async with hosted(
        Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    ) as url:
        with pytest.raises(OAuthInvalid, match="could not be found out"):
            await found(f"{url}/mcp")


async def test_an_answer_without_end_is_given_up_on() -> None:
    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(300):  # it has to end for the site to
            yield b" " * 10_000

    async def answer(_: Request) -> Response:
        return StreamingResponse(endless(), media_type="application/json")

    async with hosted(
        Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    ) as url:
        with anyio.fail_after(20), pytest.raises(OAuthInvalid, match="more than"):
            await found(f"{url}/mcp")


async def test_a_site_that_does_not_answer_is_given_up_on_in_time(here: World) -> None:
    async def hang(_: Request) -> Response:
        await anyio.sleep_forever()
        raise AssertionError

    async with hosted(
        Starlette(routes=[Route("/{path:path}", hang, methods=["GET", "POST"])])
    ) as url:
        async with open_web(OutboundGuard(LOOPBACK), timeout=0.2) as web:
            with anyio.fail_after(20), pytest.raises(OAuthUnavailable, match="did not answer"):
                await discover(web, f"{url}/mcp", OAuthConfig())


async def test_a_site_that_registers_nobody_is_a_sentence_that_says_what_to_do(
    here: World,
) -> None:
    here.site.faults.metadata = {"registration_endpoint": None}

    with pytest.raises(OAuthInvalid, match="client_id") as raised:
        await here.oauth.begin(None, "ada", here.server())

    assert f"{here.first.pages}/oauth/callback" in str(raised.value)


async def test_a_registration_that_is_refused_is_a_sentence(here: World) -> None:
    async def refuse(_: Request) -> Response:
        return JSONResponse({"error": "access_denied", "error_description": "Not\nyou."}, 403)

    async with hosted(Starlette(routes=[Route("/register", refuse, methods=["POST"])])) as other:
        here.site.faults.metadata = {"registration_endpoint": f"{other}/register"}
        with pytest.raises(OAuthRefused, match=r"Not you\."):
            await here.oauth.begin(None, "ada", here.server())


@pytest.mark.parametrize(
    "url",
    [
        "http://auth.example/token",
        "http://127.evil.example/token",
        "http://localhost.evil.example/token",
        "https://user:secret@auth.example/token",
        "https://auth.example/token#part",
        "ftp://auth.example/token",
        "//auth.example/token",
    ],
)
def test_what_would_carry_a_secret_in_the_clear_is_refused(url: str) -> None:
    with pytest.raises(OAuthInvalid) as raised:
        check_secure(url, "token endpoint")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://auth.example/token?a=b",
        "http://127.0.0.1:80/token",
        "http://[::1]/",
        "http://localhost",
    ],
)
def test_https_and_this_machine_are_secure(url: str) -> None:
    check_secure(url, "token endpoint")


def test_a_challenge_is_read_whatever_stands_around_it() -> None:
    header = 'Basic realm="x", Bearer error="a", resource_metadata="https://a/b", scope="r w"'

    assert Challenge.of(header) == Challenge(metadata_url="https://a/b", scopes=("r", "w"))
    assert Challenge.of("Bearer") == Challenge()
    assert Challenge.of(None) == Challenge()

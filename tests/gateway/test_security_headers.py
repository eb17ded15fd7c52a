"""Every answer says what a browser may do with it, and refusals are answers too."""

import asyncio

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.servers.face_server import build_face, serving

from trunkline.settings import HttpSettings

pytestmark = pytest.mark.anyio

EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
UNLESS_SAID = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}


async def page(_: Request) -> Response:
    """A page with rules of its own."""
    own = {"content-security-policy": "default-src 'self'", "cache-control": "max-age=60"}
    return PlainTextResponse("page", headers=own)


async def broken(_: Request) -> Response:
    raise RuntimeError("a bug")


ROUTES = [Route("/page", page), Route("/broken", broken)]


async def answer_to(
    method: str, path: str, headers: dict[str, str] | None = None, hsts: int = 0
) -> httpx2.Response:
    settings = HttpSettings(port=0, stop_grace=0.1, max_body=1000, hsts=hsts)
    async with (
        serving(build_face(), settings=settings, routes=[*ROUTES]) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        return await http.request(method, path, headers=headers)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/mcp", {"content-type": "application/json"}, 400),
        ("POST", "/mcp", {"content-type": "text/plain"}, 415),
        ("GET", "/mcp", {}, 400),
        ("POST", "/messages/", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("GET", "/mcp", {"host": "evil.com"}, 421),
        ("GET", "/mcp", {"origin": "http://evil.com"}, 403),
        ("POST", "/mcp", {"cookie": "a=b", "sec-fetch-site": "cross-site"}, 403),
        ("PUT", "/mcp", {"content-type": "application/json"}, 405),
    ],
)
async def test_every_answer_carries_the_headers(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    response = await answer_to(method, path, headers)

    assert response.status_code == status
    assert dict(response.headers).items() >= (EVERYWHERE | UNLESS_SAID).items()
    assert "strict-transport-security" not in response.headers


@pytest.mark.filterwarnings("ignore")
async def test_even_the_answer_to_a_bug_carries_them() -> None:
    response = await answer_to("GET", "/broken")

    assert response.status_code == 500
    assert "a bug" not in response.text
    assert dict(response.headers).items() >= (EVERYWHERE | UNLESS_SAID).items()


async def test_a_stream_carries_them() -> None:
    async with (
        asyncio.timeout(30),
        serving(build_face()) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
        http.stream("GET", "/sse") as response,
    ):
        assert response.headers["content-type"] == "text/event-stream"
        assert dict(response.headers).items() >= EVERYWHERE.items()
        assert "no-store" in response.headers["cache-control"]


async def test_what_a_route_says_of_itself_stands() -> None:
    response = await answer_to("GET", "/page")

    assert response.headers["content-security-policy"] == "default-src 'self'"
    assert response.headers["cache-control"] == "max-age=60"
    assert dict(response.headers).items() >= EVERYWHERE.items()


async def test_each_header_is_there_once() -> None:
    for path in ("/page", "/mcp"):
        names = [name for name, _ in (await answer_to("GET", path)).headers.multi_items()]

        assert len(names) == len(set(names)), path


async def test_https_is_insisted_on_where_that_was_asked_for() -> None:
    response = await answer_to("GET", "/mcp", hsts=31_536_000)

    assert response.headers["strict-transport-security"] == "max-age=31536000"

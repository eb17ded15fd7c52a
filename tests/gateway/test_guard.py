"""Host, Origin and size: what every HTTP request must pass."""

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.servers.face_server import build_face, serving

from trunkline.settings import HttpSettings

pytestmark = pytest.mark.anyio

SETTINGS = HttpSettings(
    port=0,
    stop_grace=0.1,
    allowed_hosts=("gateway.example.com", "*.internal", "[fd00::7]"),
    allowed_origins=("https://app.example.com", "https://*.partner.com"),
    max_body=1000,
)


async def size(request: Request) -> Response:
    """How many bytes arrived."""
    return PlainTextResponse(str(len(await request.body())))


async def request(method: str = "GET", **options: object) -> httpx2.Response:
    """One request to a guarded route of the caller's own."""
    routes = [Route("/size", size, methods=["GET", "POST"])]
    async with (
        serving(build_face(), settings=SETTINGS, routes=[*routes]) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        return await http.request(method, "/size", **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8080",
        "gateway.example.com",
        "Gateway.Example.com:443",
        "a.b.internal",
        "[fd00::7]:80",
    ],
)
async def test_a_host_that_is_ours_is_served(host: str) -> None:
    assert (await request(headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        "evil.com:80",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "internal",
        "",
        "[::2]",
    ],
)
async def test_any_other_host_is_refused_with_a_sentence(host: str) -> None:
    response = await request(headers={"Host": host})

    assert response.status_code == 421
    assert "ALLOWED_HOSTS" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:6274", "127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "localhost:8080"),
        ("http://[::1]:3000", "[::1]:8080"),
        ("https://app.example.com", "gateway.example.com"),
        ("https://eu.partner.com", "gateway.example.com"),
        ("https://gateway.example.com", "gateway.example.com"),
        ("https://gateway.example.com", "gateway.example.com:443"),
        ("http://gateway.example.com:8080", "gateway.example.com:8080"),
    ],
)
async def test_a_page_that_may_connect_may_also_read(origin: str, host: str) -> None:
    response = await request(headers={"Origin": origin, "Host": host})

    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == origin
    assert "Mcp-Session-Id" in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.com", "localhost:8080"),
        ("http://localhost.evil.com", "localhost:8080"),
        ("http://localhost@evil.com", "localhost:8080"),
        ("null", "localhost:8080"),
        ("", "localhost:8080"),
        ("file://", "localhost:8080"),
        ("http://app.example.com", "gateway.example.com"),
        ("https://partner.com", "gateway.example.com"),
        ("http://localhost:3000", "gateway.example.com"),
        ("http://gateway.example.com:8081", "gateway.example.com:8080"),
        ("https://gateway.example.com:x", "gateway.example.com"),
    ],
)
async def test_any_other_page_is_refused_with_a_sentence(origin: str, host: str) -> None:
    response = await request(headers={"Origin": origin, "Host": host})

    assert response.status_code == 403
    assert "ALLOWED_ORIGINS" in response.json()["error"]["message"]
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/sse", "/messages/", "/nowhere"])
async def test_every_route_is_guarded(path: str) -> None:
    async with (
        serving(build_face(), settings=SETTINGS) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        assert (await http.get(path, headers={"Host": "evil.com"})).status_code == 421
        assert (await http.post(path, headers={"Origin": "http://evil.com"})).status_code == 403


async def test_a_browser_may_ask_first() -> None:
    preflight = {
        "Origin": "http://localhost:6274",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "mcp-session-id,authorization",
    }

    response = await request("OPTIONS", headers=preflight)

    assert response.status_code == 200
    assert "authorization" in response.headers["access-control-allow-headers"]


async def chunks(count: int) -> object:
    for _ in range(count):
        yield b"x" * 100


async def test_a_body_up_to_the_limit_arrives_whole() -> None:
    assert (await request("POST", content=b"x" * 1000)).text == "1000"
    assert (await request("POST", content=chunks(10))).text == "1000"


async def test_a_body_beyond_the_limit_is_refused_with_a_sentence() -> None:
    declared = await request("POST", content=b"x" * 1001)
    chunked = await request("POST", content=chunks(11))

    assert declared.status_code == chunked.status_code == 413
    assert "MAX_BODY" in declared.json()["error"]["message"]


# -- other sites and our cookies --------------------------------------------------------------

OURS = {"Host": "gateway.example.com", "Origin": "https://gateway.example.com"}
SIGNED_IN = {"Cookie": "session=1"}


@pytest.mark.parametrize(
    "headers",
    [
        OURS | {"Sec-Fetch-Site": "same-origin"},
        OURS,
        {"Sec-Fetch-Site": "none"},
        {},
        {"Host": "localhost:8080", "Origin": "http://localhost:8080"},
    ],
)
async def test_our_own_pages_and_programs_may_use_our_cookie(headers: dict[str, str]) -> None:
    assert (await request("POST", headers=headers | SIGNED_IN)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        OURS | {"Sec-Fetch-Site": "cross-site"},
        {"Host": "gateway.example.com", "Origin": "https://app.example.com"},
        {"Host": "localhost:8080", "Origin": "http://localhost:3000"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_no_other_page_may_change_anything_with_our_cookie(
    method: str, headers: dict[str, str]
) -> None:
    response = await request(method, headers=headers | SIGNED_IN)

    assert response.status_code == 403
    assert "another site" in response.json()["error"]["message"]


async def test_a_page_that_may_connect_needs_no_cookie_to_do_so() -> None:
    headers = {
        "Host": "localhost:8080",
        "Origin": "http://localhost:6274",
        "Sec-Fetch-Site": "same-site",
    }

    assert (await request("POST", headers=headers)).status_code == 200


async def test_a_cookie_is_never_asked_for() -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "cookie"}
    for method, more in (("GET", {}), ("GET", SIGNED_IN), ("OPTIONS", asked)):
        response = await request(method, headers={"Origin": "http://localhost:6274", **more})

        assert response.headers["access-control-allow-origin"] == "http://localhost:6274"
        assert "Origin" in response.headers["vary"]
        assert "access-control-allow-credentials" not in response.headers


async def test_a_preflight_of_a_page_we_do_not_know_is_refused() -> None:
    headers = {"Origin": "http://evil.com", "Access-Control-Request-Method": "POST"}

    response = await request("OPTIONS", headers=headers)

    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control")]

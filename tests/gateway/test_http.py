"""One port for everything, and how it opens and closes."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.transports import SSETransport, StreamableHttpTransport
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from tests.servers.face_server import Face, RawClient, build_face, events, raw_client, serving

from trunkline.errors import ConfigError, PortInUse
from trunkline.gateway.http import base_url, build_app, listen, serve_http
from trunkline.gateway.identity import LOCAL_ONLY
from trunkline.models import PRINCIPAL, Principal
from trunkline.settings import HttpSettings

pytestmark = pytest.mark.anyio

SERVER = Path(__file__).parent.parent / "servers" / "face_server.py"


# -- the routes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/mcp", "/mcp/"])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_streamable_http_serves_clients_of_both_eras(path: str, mode: str) -> None:
    async with serving(build_face()) as url:
        transport = StreamableHttpTransport(url + path)
        async with Client(transport, mode=mode) as client:  # pyright: ignore[reportArgumentType]
            assert (await client.call_tool("talk", {"text": "hello"})).data == "hello"


async def test_sse_serves_clients_of_the_first_revision() -> None:
    async with serving(build_face()) as url, Client(SSETransport(url + "/sse")) as client:
        assert (await client.call_tool("talk", {"text": "hello"})).data == "hello"
        large = await client.call_tool("large", {"size": 300_000})
        assert len(large.data) == 300_000


async def test_the_callers_routes_are_served_beside_it() -> None:
    async def health(_: object) -> PlainTextResponse:
        return PlainTextResponse("well")

    async with (
        serving(build_face(), routes=[Route("/health", health)]) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        assert (await http.get("/health")).text == "well"


@asynccontextmanager
async def sse_stream(
    url: str, headers: dict[str, str] | None = None
) -> AsyncGenerator[tuple[httpx2.AsyncClient, str, AsyncIterator[str]]]:
    """A raw HTTP+SSE session: the client, the path to post to, and the lines that follow."""
    async with (
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
        http.stream("GET", "/sse", headers=headers) as stream,
    ):
        lines = aiter(stream.aiter_lines())
        assert await anext(lines) == "event: endpoint"
        yield http, (await anext(lines)).removeprefix("data: "), lines


async def test_sse_answers_what_is_no_message_with_a_sentence() -> None:
    async with serving(build_face()) as url, sse_stream(url) as (http, path, _):
        broken = await http.post(path, content=b"{")
        batch = await http.post(path, content=b"[]")
        elsewhere = await http.post("/messages/?session_id=0", content=b"{}")
        nowhere = await http.post("/messages/", content=b"{}")

    assert [r.status_code for r in (broken, batch, elsewhere, nowhere)] == [400, 400, 404, 404]
    assert "not JSON" in broken.json()["error"]["message"]
    assert "/sse" in elsewhere.json()["error"]["message"]


async def test_an_sse_session_ends_with_its_stream() -> None:
    face = build_face()
    async with serving(face) as url:
        async with Client(SSETransport(url + "/sse")) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "hold")
            with anyio.fail_after(10):
                await face.holding.wait()
            tasks.cancel_scope.cancel()

        with anyio.fail_after(10):
            await face.cancelled.wait()


async def test_sse_pings_while_nothing_happens_and_has_a_limit() -> None:
    settings = HttpSettings(port=0, stop_grace=0.1, max_sessions=1)
    async with (
        serving(build_face(), settings=settings, quiet=0.05) as url,
        sse_stream(url) as (http, _, lines),
    ):
        with anyio.fail_after(10):
            assert await anext(lines) == ""
            assert await anext(lines) == ": ping"
        refused = await http.get("/sse")

        assert refused.status_code == 503
        assert "in use" in refused.json()["error"]["message"]


class Somebody:
    """Everybody is who the header says: `name`, or `name@org`."""

    routes = ()

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def named(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                name, _, org = Headers(scope=scope).get("x-user", "nobody").partition("@")
                scope[PRINCIPAL] = Principal(subject=name, org=org or None, user=name)
            await app(scope, receive, send)

        return named


async def test_a_session_exists_only_for_whoever_opened_it() -> None:
    async with serving(build_face(), identity=Somebody()) as url, raw_client(url) as client:
        del client.headers["Mcp-Session-Id"]
        client.headers["X-User"] = "ann@acme"
        await client.initialize()

        statuses = {}
        for name in ("ann@acme", "bob@acme", "ann@globex", "ann", "nobody"):
            client.headers["X-User"] = name
            statuses[name] = (await client.call("echo", value="a")).status_code
        stream = client.headers | {"Accept": "text/event-stream"}
        listened = await client.http.get("/mcp", headers=stream)
        ended = await client.http.delete("/mcp", headers=client.headers)
        client.headers["X-User"] = "ann@acme"
        still = await client.call("echo", value="a")

    assert statuses.pop("ann@acme") == 200
    assert set(statuses.values()) == {404}
    assert (listened.status_code, ended.status_code, still.status_code) == (404, 404, 200)


async def test_an_sse_session_exists_only_for_whoever_opened_it() -> None:
    async with (
        serving(build_face(), identity=Somebody()) as url,
        sse_stream(url, {"X-User": "ann@acme"}) as (http, path, _),
    ):
        ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
        names = ("ann@acme", "bob@acme", "ann@globex", "ann", "nobody")
        answers = [await http.post(path, content=ping, headers={"X-User": name}) for name in names]

    assert [answer.status_code for answer in answers] == [202, 404, 404, 404, 404]


# -- opening --------------------------------------------------------------------------------------


def announce(_: str) -> None:
    raise AssertionError("it listens")


async def test_a_taken_port_is_said_before_anything_starts() -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        raise AssertionError("the application was started")
        yield

    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = HttpSettings(port=taken.getsockname()[1])
        app = build_app(build_face().server, settings, identity=LOCAL_ONLY, lifespan=lifespan)

        with pytest.raises(PortInUse, match="taken by another program"):
            await serve_http(app, settings, on_listening=announce)


async def test_a_port_is_taken_from_the_moment_a_server_starts() -> None:
    starting, started = anyio.Event(), anyio.Event()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        starting.set()
        await started.wait()
        yield

    with socket.create_server(("127.0.0.1", 0)) as found:
        settings = HttpSettings(port=found.getsockname()[1], stop_grace=0.1)
    first = build_app(build_face().server, settings, identity=LOCAL_ONLY, lifespan=lifespan)
    second = build_app(build_face().server, settings, identity=LOCAL_ONLY)
    listening, stop = anyio.Event(), asyncio.Event()

    async def serve() -> None:
        await serve_http(first, settings, on_listening=lambda _: listening.set(), stop=stop)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await starting.wait()
            with pytest.raises(PortInUse):
                await serve_http(second, settings, on_listening=announce)
            started.set()
            await listening.wait()
            stop.set()


async def test_the_lifespan_is_entered_once_around_the_servers_own() -> None:
    order: list[str] = []

    @asynccontextmanager
    async def outer(_: object) -> AsyncGenerator[None]:
        order.append("open app")
        yield
        order.append("close app")

    @asynccontextmanager
    async def inner(_: object) -> AsyncGenerator[dict[str, Any]]:
        order.append("open server")
        yield {}
        order.append("close server")

    face = Face(FastMCP("face", lifespan=inner))
    async with (
        serving(face, lifespan=outer) as url,
        raw_client(url),
        Client(SSETransport(url + "/sse")),
    ):
        assert order == ["open app", "open server"]

    assert order == ["open app", "open server", "close server", "close app"]


async def test_a_port_can_be_taken_before_there_is_an_application() -> None:
    settings = HttpSettings(port=0, stop_grace=0.1)
    listeners = listen(settings.host, settings.port)
    urls: list[str] = []
    stop = asyncio.Event()
    stop.set()

    app = build_app(build_face().server, settings, identity=LOCAL_ONLY)
    await serve_http(app, settings, on_listening=urls.append, stop=stop, listeners=listeners)

    assert urls[0].startswith("http://127.0.0.1:")
    assert listeners[0].fileno() == -1


async def test_no_answer_waits_for_the_acknowledgement_of_its_first_half() -> None:
    (listener,) = listen("127.0.0.1", 0)
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(connected, sock=listener), asyncio.timeout(5):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        undelayed = await accepted
        writer.close()

    assert undelayed


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.1"])
async def test_an_address_that_is_not_ours_is_said_in_a_sentence(host: str) -> None:
    settings = HttpSettings(host=host, port=0)

    app = build_app(build_face().server, settings, identity=LOCAL_ONLY)

    with pytest.raises(ConfigError, match=f"Cannot listen on {host}"):
        await serve_http(app, settings, on_listening=announce)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "0.0.0.0", "::"])
async def test_every_loopback_name_can_be_listened_on(host: str) -> None:
    settings = HttpSettings(host=host, port=0, stop_grace=0.1)

    async with serving(build_face(), settings=settings) as url, raw_client(url) as client:
        assert (await client.call("echo", value="a")).status_code == 200


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("[::1]", "http://[::1]:80"),
        ("gateway", "http://gateway:80"),
    ],
)
def test_the_base_url_can_be_opened(host: str, url: str) -> None:
    assert base_url(host, 80) == url


async def test_what_the_lifespan_raises_reaches_the_caller_and_frees_the_port() -> None:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        raise ConfigError("The database is elsewhere.")
        yield

    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    settings = HttpSettings(port=port)
    app = build_app(build_face().server, settings, identity=LOCAL_ONLY, lifespan=lifespan)

    with pytest.raises(ConfigError, match="elsewhere"):
        await serve_http(app, settings, on_listening=announce)

    socket.create_server(("127.0.0.1", port)).close()


# -- closing --------------------------------------------------------------------------------------


async def test_a_call_in_flight_is_finished_and_waiting_streams_are_closed() -> None:
    face, stop = build_face(), asyncio.Event()
    settings = HttpSettings(port=0, stop_grace=60)
    answers: list[httpx2.Response] = []

    async def hold(client: RawClient) -> None:
        answers.append(await client.call("hold"))

    with anyio.fail_after(60):
        async with serving(face, settings=settings, stop=stop) as url, raw_client(url) as client:
            accept = client.headers | {"Accept": "text/event-stream"}
            async with (
                anyio.create_task_group() as calls,
                client.http.stream("GET", "/mcp", headers=accept) as waiting,
                sse_stream(url) as (_, _, sse_lines),
            ):
                calls.start_soon(hold, client)
                await face.holding.wait()
                stop.set()
                assert [line async for line in waiting.aiter_lines()] == []
                assert [line async for line in sse_lines] == [""]
                face.release.set()

    assert answers[0].json()["result"]["content"][0]["text"] == "released"


async def test_an_sse_session_is_closed_when_it_has_its_answer() -> None:
    face, stop = build_face(), asyncio.Event()
    settings = HttpSettings(port=0, stop_grace=60)
    hello = {
        "protocolVersion": "2024-11-05",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }
    rest: list[str] = []

    with anyio.fail_after(60):
        async with (
            serving(face, settings=settings, stop=stop) as url,
            sse_stream(url) as (http, path, lines),
        ):
            client = RawClient(http)
            await http.post(path, content=client.message("initialize", hello))
            await http.post(path, content=client.tool("hold"))
            await face.holding.wait()
            stop.set()
            with pytest.raises(httpx2.ConnectError):
                await knock(url)
            face.release.set()
            rest = [line async for line in lines]

    assert events("\n".join(rest))[-1]["result"]["content"][0]["text"] == "released"


async def test_a_call_that_outlasts_the_grace_is_answered_with_an_error() -> None:
    face, stop = build_face(), asyncio.Event()
    settings = HttpSettings(port=0, stop_grace=0.2)
    answers: list[httpx2.Response] = []

    async def hold(client: RawClient) -> None:
        answers.append(await client.call("hold"))

    with anyio.fail_after(60):
        async with (
            serving(face, settings=settings, stop=stop) as url,
            raw_client(url) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(hold, client)
            await face.holding.wait()
            stop.set()

    assert "ended" in answers[0].json()["error"]["message"]
    assert face.cancelled.is_set()


@contextmanager
def program() -> Generator[tuple[subprocess.Popen[str], str]]:
    """The server as a process, and its URL."""
    command = [sys.executable, str(SERVER), "http"]
    root = SERVER.parent.parent.parent
    with subprocess.Popen(
        command, cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={"PYTHONPATH": f"{root}/server:{root}"},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


async def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and what was written to stderr."""
    with anyio.fail_after(60):
        _, stderr = await anyio.to_thread.run_sync(process.communicate, abandon_on_cancel=True)
    return process.returncode, stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_program_quietly(number: signal.Signals) -> None:
    with program() as (process, url):
        async with raw_client(url) as client:
            assert (await client.call("echo", value="a")).status_code == 200
            process.send_signal(number)
            assert await finish(process) == (0, "")


async def test_a_second_signal_does_not_wait_for_calls_in_flight() -> None:
    with program() as (process, url):
        async with raw_client(url) as client, anyio.create_task_group() as tasks:

            async def hold() -> None:
                with pytest.raises(httpx2.TransportError):
                    await client.call("hold")

            tasks.start_soon(hold)
            assert process.stderr is not None
            line = await anyio.to_thread.run_sync(process.stderr.readline)
            process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx2.ConnectError):
                await knock(url)
            process.send_signal(signal.SIGTERM)
            code, stderr = await finish(process)

            assert line == "holding\n"
            assert code == 0
            assert "Traceback" not in stderr


async def knock(url: str) -> None:
    """Connect again and again, until the server no longer listens."""
    with anyio.fail_after(60):
        while True:
            async with httpx2.AsyncClient(base_url=url, trust_env=False) as http:
                await http.get("/")

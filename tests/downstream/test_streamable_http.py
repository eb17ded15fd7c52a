"""The streamable HTTP transport against a raw server on the loopback interface."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from tests.servers.raw_http import Handler, RawServer, Reply, Request, answer, serve

from trunkline.downstream.channel import Channel, ChannelLost, Inbound, SessionGone
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.http import HttpClient
from trunkline.downstream.streamable_http import open_streamable_http
from trunkline.errors import DownstreamUnavailable, RpcError
from trunkline.models import Era
from trunkline.settings import DownstreamSettings

pytestmark = pytest.mark.anyio

SETTINGS = DownstreamSettings()
RAW_EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"


@asynccontextmanager
async def opened(url: str, **headers: str) -> AsyncGenerator[Channel]:
    """A channel with a client of its own, all of whose waits are bounded."""
    config = ServerConfig(name="raw", transport="streamable-http", url=url, headers=headers)
    async with (
        asyncio.timeout(60),
        HttpClient() as client,
        open_streamable_http(config, SETTINGS, client) as channel,
    ):
        yield channel


@asynccontextmanager
async def connected(handle: Handler, **headers: str) -> AsyncGenerator[tuple[RawServer, Channel]]:
    async with serve(handle) as server, opened(server.url, **headers) as channel:
        yield server, channel


async def echo(request: Request, reply: Reply) -> None:
    """What a plain server does: answer with the params, take everything else."""
    if request.method == "POST" and "id" in request.message and "method" in request.message:
        headers = {"mcp_session_id": "s-1"} if request.message["method"] == "initialize" else {}
        await reply.result(request, request.message.get("params"), **headers)
    else:
        await reply.whole(405 if request.method == "GET" else 202)


def on(method: str, then: Callable[[Request, Reply], Any], otherwise: Handler = echo) -> Handler:
    """A handler that treats one HTTP or JSON-RPC method specially."""

    async def handle(request: Request, reply: Reply) -> None:
        name = request.method if request.method != "POST" else request.message.get("method")
        await (then if name == method else otherwise)(request, reply)

    return handle


async def lost(channel: Channel, method: str = "call") -> ChannelLost:
    """The way in which a request fails."""
    with pytest.raises(ChannelLost) as caught:
        await channel.request(method, None)
    return caught.value


# -- JSON answers -----------------------------------------------------------------------------


async def test_a_json_answer_comes_back_and_the_connection_is_used_again() -> None:
    async with connected(echo) as (server, channel):
        for number in range(20):
            assert await channel.request("call", {"n": number}) == {"n": number}

    assert server.connections == 1
    assert server.requests[0].headers["accept"] == "application/json, text/event-stream"


async def test_configured_headers_go_on_every_request_and_a_request_may_add_its_own() -> None:
    async with connected(echo, **{"X-Key": "k"}) as (server, channel):
        channel.protocol_version = "2025-11-25"
        await channel.request("call", None)
        await channel.request("call", None, headers={"MCP-Protocol-Version": "v", "Mcp-Name": "n"})

    first, second = server.requests
    assert (first.headers["x-key"], first.headers["mcp-protocol-version"]) == ("k", "2025-11-25")
    assert (second.headers["mcp-protocol-version"], second.headers["mcp-name"]) == ("v", "n")
    assert second.headers["x-key"] == "k"


async def test_a_result_of_twenty_megabytes_arrives_whole() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.result(request, {"text": "x" * 20_000_000})

    async with connected(handle) as (_, channel):
        result = await channel.request("call", None)

    assert len(result["text"]) == 20_000_000


async def test_a_large_request_arrives_whole() -> None:
    async with connected(echo) as (_, channel):
        assert await channel.request("call", {"text": "x" * 5_000_000}) == {"text": "x" * 5_000_000}


async def test_another_character_set_is_respected() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        body = json.dumps(answer(request, {"name": "Zoë"}), ensure_ascii=False).encode("latin-1")
        await reply.whole(200, body, {"content-type": "application/json; charset=ISO-8859-1"})

    async with connected(handle) as (_, channel):
        assert await channel.request("call", None) == {"name": "Zoë"}


async def test_an_error_without_an_id_belongs_to_the_request() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        error = {"code": -32700, "message": "Unreadable", "data": {"at": 3}}
        await reply.json({"jsonrpc": "2.0", "id": None, "error": error})

    async with connected(handle) as (_, channel):
        with pytest.raises(RpcError, match="Unreadable") as caught:
            await channel.request("call", None)

    assert (caught.value.rpc_code, caught.value.data) == (-32700, {"at": 3})


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", "application/json", "it sent an empty answer"),
        (b"", "text/plain", "gave no answer"),
        (b"{", "application/json", "no valid JSON"),
        (b'{"jsonrpc": "2.0", "id": 999, "result": {}}', "application/json", "does not answer"),
        (b"<html>", "text/html; charset=utf-8", "answers with text/html instead of JSON"),
    ],
)
async def test_an_answer_that_is_none_gets_a_sentence(body: bytes, kind: str, said: str) -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.whole(200, body, {"content-type": kind})

    async with connected(handle) as (_, channel):
        error = await lost(channel)

        assert said in str(error)
        assert error.sent
        assert not channel.closed.is_set()


# -- answers in events ------------------------------------------------------------------------


async def test_what_a_stream_brings_before_the_answer_belongs_to_its_request() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_events()
        await reply.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"n": 1}})
        await reply.event({"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage"})
        await reply.event(answer(request, {"done": True}))
        await reply.end()

    arrived: list[Inbound] = []

    async def take(inbound: Inbound) -> None:
        arrived.append(inbound)

    async with connected(handle) as (_, channel):
        assert channel.tells_origin
        result = await channel.request("call", None, on_inbound=take)

    assert result == {"done": True}
    assert [(item.method, item.id, item.origin) for item in arrived] == [
        ("notifications/message", None, 1),
        ("sampling/createMessage", 7, 1),
    ]


async def test_a_stream_that_ends_soon_after_its_answer_leaves_its_connection_usable() -> None:
    received = asyncio.Event()

    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_events()
        await reply.event(answer(request))
        await received.wait()
        received.clear()
        await reply.end()

    async with connected(handle) as (server, channel):
        for _ in range(20):
            await channel.request("call", None)
            received.set()

    assert server.connections < 5


async def test_an_event_of_twenty_megabytes_in_small_chunks_arrives_whole() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_events()
        text = f"data: {json.dumps(answer(request, {'text': 'ü' * 10_000_000}))}\n\n"
        for start in range(0, len(text), 100_000):
            await reply.chunk(text[start : start + 100_000])
        await reply.end()

    async with connected(handle) as (_, channel):
        result = await channel.request("call", None)

    assert result["text"] == "ü" * 10_000_000


async def test_garbage_between_events_is_skipped() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_events()
        await reply.event("not JSON")
        await reply.event("42")
        await reply.event(answer(request, {"n": 1}), event="message")
        await reply.end()

    async with connected(handle) as (_, channel):
        assert await channel.request("call", None) == {"n": 1}


@pytest.mark.parametrize("cut", [True, False])
async def test_a_stream_without_an_answer_fails_its_request_alone(cut: bool) -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.start_events()
        if cut:
            reply.cut()
        else:
            await reply.end()

    async with connected(on("broken", handle)) as (_, channel):
        error = await lost(channel, "broken")

        assert error.sent
        assert "broke off" in str(error)
        assert await channel.request("call", {"n": 1}) == {"n": 1}


async def test_a_stream_that_breaks_off_after_an_event_with_an_id_is_resumed() -> None:
    async def start(request: Request, reply: Reply) -> None:
        await reply.start_events()
        await reply.chunk("id: e-1\nretry: 10\ndata:\n\n")
        await reply.end()

    async def resume(request: Request, reply: Reply) -> None:
        await reply.start_events()
        await reply.event({"jsonrpc": "2.0", "id": 1, "result": {"resumed": True}}, id="e-2")
        await reply.end()

    async with connected(on("call", start, on("GET", resume))) as (server, channel):
        assert await channel.request("call", None) == {"resumed": True}

    assert server.requests[1].method == "GET"
    assert server.requests[1].headers["last-event-id"] == "e-1"


async def test_a_stream_is_not_resumed_for_ever() -> None:
    async def start(request: Request, reply: Reply) -> None:
        await reply.start_events()
        await reply.chunk("id: e-1\nretry: 1\ndata:\n\n")
        await reply.end()

    async def refuse(request: Request, reply: Reply) -> None:
        await reply.whole(500)

    async with connected(on("call", start, on("GET", refuse))) as (server, channel):
        assert "broke off" in str(await lost(channel))

    assert 1 < len(server.requests) < 10


async def test_a_modern_stream_is_not_resumed() -> None:
    async def start(request: Request, reply: Reply) -> None:
        await reply.start_events()
        await reply.chunk("id: e-1\nretry: 1\ndata:\n\n")
        await reply.end()

    async with connected(on("call", start)) as (server, channel):
        await channel.ready(Era.MODERN)
        assert "broke off" in str(await lost(channel))

    assert [request.method for request in server.requests] == ["POST"]


# -- the session ------------------------------------------------------------------------------


async def test_the_session_is_named_after_initialize_and_ended_at_the_end() -> None:
    async with connected(echo) as (server, channel):
        await channel.request("initialize", {})
        channel.protocol_version = "2025-06-18"
        await channel.notify("notifications/initialized")
        await channel.ready(Era.HANDSHAKE)
        await channel.request("call", None)

    first, *rest = server.requests
    assert "mcp-session-id" not in first.headers
    assert {request.headers["mcp-session-id"] for request in rest} == {"s-1"}
    assert {request.headers["mcp-protocol-version"] for request in rest} == {"2025-06-18"}
    assert rest[-1].method == "DELETE"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b""),
        (404, b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"x"}}'),
        (400, b"Bad Request: No valid session ID provided"),
        (200, b'{"jsonrpc":"2.0","id":2,"error":{"code":-32001,"message":"Session not found"}}'),
    ],
)
async def test_a_forgotten_session_is_told_apart(status: int, body: bytes) -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.whole(status, body, {"content-type": "application/json"})

    async with connected(on("call", handle)) as (server, channel):
        await channel.request("initialize", {})

        error = await lost(channel)

        assert isinstance(error, SessionGone)
        assert channel.closed.is_set()
    assert [request.method for request in server.requests] == ["POST", "POST"]


@pytest.mark.parametrize("status", [400, 404])
async def test_the_error_in_a_refusal_is_the_answer(status: int) -> None:
    async def handle(request: Request, reply: Reply) -> None:
        error = {"code": -32601, "message": "No such method"}
        await reply.json({"jsonrpc": "2.0", "id": "server-error", "error": error}, status)

    async with connected(on("call", handle)) as (_, channel):
        await channel.request("initialize", {})
        with pytest.raises(RpcError, match="No such method"):
            await channel.request("call", None)

        assert not channel.closed.is_set()


@pytest.mark.parametrize(
    ("status", "sent", "said"),
    [
        (400, True, "400 (Bad Request): nonsense"),
        (403, False, 'refused us access (403): check its "headers"'),
        (404, False, 'check its "url" in mcp.json'),
        (405, False, 'whether its "transport" is "sse"'),
        (429, False, "asked too often (429). Try again in 7 seconds"),
        (500, True, "500 (Internal Server Error): nonsense"),
        (503, False, "restarting (503). Try again in 7 seconds"),
        (599, True, "HTTP status 599"),
    ],
)
async def test_a_refusal_is_a_sentence_and_costs_only_its_request(
    status: int, sent: bool, said: str
) -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.whole(status, b"nonsense", {"content-type": "text/plain", "retry-after": "7"})

    async with connected(on("call", handle)) as (_, channel):
        error = await lost(channel)

        assert said in str(error)
        assert error.sent is sent
        assert await channel.request("other", {"n": 1}) == {"n": 1}


async def test_refused_credentials_end_the_connection_and_are_not_shown() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.whole(401)

    async with connected(handle, Authorization="Bearer hush") as (_, channel):
        error = await lost(channel)

        assert channel.closed.is_set()
    assert "refused our credentials (401)" in str(error)
    assert "hush" not in str(error)


async def test_nobody_at_the_other_end_ends_the_connection_before_anything_is_sent() -> None:
    async with serve(echo) as server:
        url = server.url
    async with opened(url) as channel:
        error = await lost(channel)

        assert not error.sent
        assert channel.closed.is_set()
    assert str(error).startswith("nothing answers at http://127.0.0.1")


async def test_a_request_that_was_still_connecting_is_known_not_to_have_run() -> None:
    arrived = asyncio.Event()

    async def shake_no_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(shake_no_hands, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        async with opened(f"https://127.0.0.1:{port}") as channel, asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(lost(channel))
            await arrived.wait()

            channel.lose("enough")

    assert str(waiting.result()) == "enough"
    assert not waiting.result().sent


async def test_losing_the_connection_wakes_a_request_that_waits_for_its_response() -> None:
    arrived = asyncio.Event()

    async def hang(request: Request, reply: Reply) -> None:
        arrived.set()
        await reply.closed.wait()

    async with connected(on("call", hang)) as (_, channel), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(lost(channel))
        await arrived.wait()

        channel.lose("enough")

    assert str(waiting.result()) == "enough"
    assert waiting.result().sent


# -- cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize("era", [Era.HANDSHAKE, Era.MODERN])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_cancelled_request_is_cancelled_at_the_server(era: Era, streamed: bool) -> None:
    arrived, left, told = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hang(request: Request, reply: Reply) -> None:
        if streamed:
            await reply.start_events()
            await reply.event({"jsonrpc": "2.0", "method": "notifications/message"})
        arrived.set()
        await reply.closed.wait()
        left.set()

    async def note(request: Request, reply: Reply) -> None:
        told.set()
        await reply.whole(202)

    handle = on("call", hang, on("notifications/cancelled", note))
    async with connected(handle) as (server, channel):
        await channel.ready(era)
        calling = asyncio.ensure_future(channel.request("call", None))
        await arrived.wait()

        calling.cancel()

        await left.wait()
        if era is Era.HANDSHAKE:
            await told.wait()
            (cancelled,) = server.messages("notifications/cancelled")
            assert cancelled.message["params"] == {"requestId": 1}
    assert calling.cancelled()
    assert told.is_set() is (era is Era.HANDSHAKE)


# -- the stream of the server's own -----------------------------------------------------------


async def test_what_belongs_to_no_request_comes_on_a_stream_that_is_resumed() -> None:
    opened_before = False

    async def stream(request: Request, reply: Reply) -> None:
        nonlocal opened_before
        await reply.start_events()
        method = f"notifications/{'second' if opened_before else 'first'}"
        opened_before = True
        await reply.chunk("retry: 1\n\n")
        await reply.event({"jsonrpc": "2.0", "method": method}, id=method)
        if method.endswith("first"):
            await reply.end()
        else:
            await reply.closed.wait()

    strays: asyncio.Queue[Inbound] = asyncio.Queue()
    async with connected(on("GET", stream)) as (server, channel):
        channel.on_stray = strays.put_nowait
        await channel.request("initialize", {})
        await channel.ready(Era.HANDSHAKE)

        assert [(await strays.get()).method, (await strays.get()).method] == [
            "notifications/first",
            "notifications/second",
        ]
        first, second = (request for request in server.requests if request.method == "GET")
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "notifications/first"
    assert second.headers["mcp-session-id"] == "s-1"


async def test_a_server_without_a_stream_of_its_own_is_not_asked_again() -> None:
    asked = asyncio.Event()

    async def refuse(request: Request, reply: Reply) -> None:
        await reply.whole(405)
        asked.set()

    async with connected(on("GET", refuse)) as (server, channel):
        await channel.request("initialize", {})
        await channel.ready(Era.HANDSHAKE)
        await asked.wait()
        await channel.request("call", None)

        assert not channel.closed.is_set()
    assert sum(request.method == "GET" for request in server.requests) == 1


async def test_a_stream_that_can_not_be_resumed_because_of_a_restart_ends_the_session() -> None:
    opened_before = False

    async def stream(request: Request, reply: Reply) -> None:
        nonlocal opened_before
        if opened_before:
            await reply.whole(404)
            return
        opened_before = True
        await reply.start_events()
        await reply.chunk("retry: 1\n\n")
        reply.cut()

    async with connected(on("GET", stream)) as (_, channel):
        await channel.request("initialize", {})
        await channel.ready(Era.HANDSHAKE)

        await channel.closed.wait()

    assert channel.reason == "it has forgotten our session."


# -- redirects, proxies, the configuration ----------------------------------------------------


async def test_a_redirect_within_the_origin_keeps_the_method_and_is_remembered() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        if request.path == "/mcp":
            await reply.whole(307, b"", {"location": "/mcp/"})
        else:
            await echo(request, reply)

    async with connected(handle) as (server, channel):
        assert await channel.request("call", {"n": 1}) == {"n": 1}
        assert await channel.request("call", {"n": 2}) == {"n": 2}

    assert [request.path for request in server.requests] == ["/mcp", "/mcp/", "/mcp/"]


@pytest.mark.parametrize(
    ("status", "location"), [(307, "http://elsewhere.test/mcp?key=k"), (302, "/login?next=k")]
)
async def test_another_redirect_is_an_error_that_names_the_target(
    status: int, location: str
) -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.whole(status, b"", {"location": location})

    async with connected(handle, Authorization="Bearer hush") as (server, channel):
        error = await lost(channel)

    assert location.split("?")[0] in str(error)
    assert "=k" not in str(error)
    assert len(server.requests) == 1


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(echo) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "direct.test")
        async with opened("http://server.test/mcp") as channel:
            assert await channel.request("call", {"n": 1}) == {"n": 1}

    (request,) = proxy.requests
    assert request.path == "http://server.test/mcp"
    assert request.headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"


@pytest.mark.parametrize(
    ("url", "headers", "said"),
    [
        ("ftp://server.test/mcp", {}, 'its "url" in mcp.json is not'),
        ("http://[broken", {}, 'its "url" in mcp.json is not'),
        ("http://server.test", {"X-Key": "one\ntwo"}, "header 'X-Key' in mcp.json has a line"),
    ],
)
async def test_an_unusable_configuration_gets_a_sentence(
    url: str, headers: dict[str, str], said: str
) -> None:
    with pytest.raises(DownstreamUnavailable) as caught:
        async with opened(url, **headers):
            pass

    assert said in str(caught.value)


async def test_credentials_in_the_url_become_a_header_and_are_not_shown() -> None:
    async def refuse(request: Request, reply: Reply) -> None:
        await reply.whole(404)

    async with serve(refuse) as server:
        url = server.url.replace("//", "//user:word@") + "?key=k"
        async with opened(url) as channel:
            error = await lost(channel)

    assert server.requests[0].headers["authorization"] == "Basic dXNlcjp3b3Jk"
    assert server.requests[0].path == "/mcp?key=k"
    assert "word" not in str(error)
    assert "key=k" not in str(error)


async def test_cookies_are_not_kept() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        await reply.result(request, set_cookie="who=me")

    async with connected(handle) as (server, channel):
        await channel.request("call", None)
        await channel.request("call", None)

    assert not any("cookie" in request.headers for request in server.requests)


async def test_many_rounds_leave_no_task_and_no_connection_behind() -> None:
    async def handle(request: Request, reply: Reply) -> None:
        number = request.message["params"]["n"]
        if number % 3 == 0:
            await reply.closed.wait()
        elif number % 3 == 1:
            await reply.start_events()
            await reply.event(answer(request))
            await reply.end()
        else:
            reply.cut()

    async with asyncio.timeout(60), serve(on("call", handle)) as server:
        before = len(asyncio.all_tasks())
        async with HttpClient() as client:
            config = ServerConfig(name="raw", transport="streamable-http", url=server.url)
            for number in range(60):
                await _round(config, client, number)
        # The server has a task for each connection.
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - the server has its own pace
            await asyncio.sleep(0.01)


async def _round(config: ServerConfig, client: HttpClient, number: int) -> None:
    async with open_streamable_http(config, SETTINGS, client) as channel:
        await channel.request("initialize", {})
        await channel.ready(Era.HANDSHAKE)
        calling = asyncio.ensure_future(channel.request("call", {"n": number}))
        if number % 3 == 0:
            await asyncio.sleep(0)
            calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)


def test_it_runs_on_uvloop() -> None:
    async def use() -> Any:
        async with connected(echo) as (_, channel):
            return await channel.request("call", {"text": "x" * 3_000_000})

    assert len(uvloop.run(use())["text"]) == 3_000_000

"""The HTTP+SSE transport against a raw server on the loopback interface."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from tests.servers.raw_http import Handler, RawServer, Reply, Request, answer, serve

from trunkline.downstream.channel import Channel, ChannelLost, Inbound, SessionGone
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.http import HttpClient
from trunkline.downstream.sse import open_sse
from trunkline.errors import RpcError
from trunkline.settings import DownstreamSettings

pytestmark = pytest.mark.anyio

SETTINGS = DownstreamSettings(connect_timeout=0.5)


class SseServer:
    """Answers each request with its params on the one stream, unless told otherwise."""

    def __init__(
        self,
        *,
        endpoint: str = "/messages?session=1%2F2",
        on_post: Callable[["SseServer", Request, Reply], Awaitable[None]] | None = None,
    ) -> None:
        self.endpoint, self.on_post = endpoint, on_post
        self.stream: Reply
        self.ended = asyncio.Event()

    async def __call__(self, request: Request, reply: Reply) -> None:
        if request.method == "GET":
            await self.open(reply)
        elif self.on_post is not None:
            await self.on_post(self, request, reply)
        else:
            await reply.whole(202, b"Accepted")
            await self.answer(request)

    async def open(self, reply: Reply) -> None:
        self.stream = reply
        await reply.start_events()
        await reply.event(self.endpoint, event="endpoint")
        closed = asyncio.ensure_future(reply.closed.wait())
        ended = asyncio.ensure_future(self.ended.wait())
        await asyncio.wait({closed, ended}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (closed, ended):
            waiting.cancel()
        await reply.end()

    async def answer(self, request: Request) -> None:
        if "id" in request.message:
            await self.stream.event(answer(request, request.message.get("params")))


@asynccontextmanager
async def opened(url: str, **headers: str) -> AsyncGenerator[Channel]:
    config = ServerConfig(name="raw", transport="sse", url=url, headers=headers)
    async with (
        asyncio.timeout(60),
        HttpClient() as client,
        open_sse(config, SETTINGS, client) as channel,
    ):
        yield channel


@asynccontextmanager
async def connected(handle: Handler, **headers: str) -> AsyncGenerator[tuple[RawServer, Channel]]:
    async with serve(handle) as server, opened(server.url, **headers) as channel:
        yield server, channel


async def lost(channel: Channel) -> ChannelLost:
    with pytest.raises(ChannelLost) as caught:
        await channel.request("call", None)
    return caught.value


async def test_answers_come_on_the_stream_and_messages_go_where_it_said() -> None:
    async with connected(SseServer(), **{"X-Key": "k"}) as (server, channel):
        channel.protocol_version = "2024-11-05"
        requests = [channel.request("call", {"n": n}) for n in range(20)]

        assert await asyncio.gather(*requests) == [{"n": n} for n in range(20)]
        await channel.notify("notifications/initialized")

    stream, *posts = server.requests
    assert (stream.method, stream.headers["accept"]) == ("GET", "text/event-stream")
    assert {post.path for post in posts} == {"/messages?session=1%2F2"}
    assert {request.headers["x-key"] for request in server.requests} == {"k"}


async def test_an_event_of_twenty_megabytes_arrives_whole() -> None:
    async with connected(SseServer()) as (_, channel):
        result = await channel.request("call", {"text": "x" * 20_000_000})

    assert len(result["text"]) == 20_000_000


async def test_what_the_server_says_on_its_own_account_is_nobodys() -> None:
    async def ask(sse: SseServer, request: Request, reply: Reply) -> None:
        await reply.whole(202)
        await sse.stream.event({"jsonrpc": "2.0", "id": 1, "method": "roots/list"})
        await sse.stream.event("no JSON")
        await sse.answer(request)

    strays: list[Inbound] = []
    async with connected(SseServer(on_post=ask)) as (_, channel):
        channel.on_stray = strays.append
        await channel.request("call", None)

    assert [(stray.method, stray.origin) for stray in strays] == [("roots/list", None)]


async def test_a_request_is_worked_off_while_its_post_is_still_open() -> None:
    asked = asyncio.Event()

    async def hold(sse: SseServer, request: Request, reply: Reply) -> None:
        params = {"progressToken": request.message["id"], "progress": 1}
        await sse.stream.event(
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        )
        await asked.wait()
        await sse.answer(request)
        await reply.whole(202)

    async def take(inbound: Inbound) -> None:
        asked.set()

    async with connected(SseServer(on_post=hold)) as (_, channel):
        await channel.request("call", {"n": 1}, on_inbound=take, progress=True)

    assert asked.is_set()


async def test_the_end_of_the_stream_is_the_end_of_the_connection() -> None:
    async def end(sse: SseServer, request: Request, reply: Reply) -> None:
        await reply.whole(202)
        sse.ended.set()

    async with connected(SseServer(on_post=end)) as (_, channel):
        error = await lost(channel)
        assert channel.closed.is_set()
        again = await lost(channel)

    assert (str(error), error.sent) == ("its event stream ended.", True)
    assert not again.sent


async def test_an_endpoint_on_another_origin_is_refused() -> None:
    with pytest.raises(ChannelLost, match="another origin"):
        async with connected(SseServer(endpoint="http://elsewhere.test/messages")):
            pass


async def test_a_server_that_names_no_endpoint_is_given_up() -> None:
    async def silent(request: Request, reply: Reply) -> None:
        await reply.start_events()
        await reply.closed.wait()

    with pytest.raises(ChannelLost, match=r"did not open its event stream within 0\.5 seconds"):
        async with connected(silent):
            pass


async def test_a_server_that_does_not_answer_at_all_is_given_up() -> None:
    async def hang(request: Request, reply: Reply) -> None:
        await reply.closed.wait()

    with pytest.raises(ChannelLost, match=r"did not open its event stream within 0\.5 seconds"):
        async with connected(hang):
            pass


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (401, "text/plain", "refused our credentials"),
        (404, "text/plain", 'check its "url"'),
        (405, "text/plain", 'whether its "transport" is "sse" or "streamable-http"'),
        (200, "text/html", "answers with text/html"),
    ],
)
async def test_a_refused_stream_gets_a_sentence(status: int, kind: str, said: str) -> None:
    async def refuse(request: Request, reply: Reply) -> None:
        await reply.whole(status, b"no", {"content-type": kind})

    with pytest.raises(ChannelLost) as caught:
        async with connected(refuse):
            pass

    assert said in str(caught.value)


async def test_nobody_at_the_other_end_gets_a_sentence() -> None:
    async with serve(SseServer()) as server:
        url = server.url
    with pytest.raises(ChannelLost, match="nothing answers at") as caught:
        async with opened(url):
            pass

    assert not caught.value.sent


async def test_a_forgotten_session_is_told_apart() -> None:
    async def forget(sse: SseServer, request: Request, reply: Reply) -> None:
        await reply.whole(404, b"Could not find session")

    async with connected(SseServer(on_post=forget)) as (_, channel):
        assert isinstance(await lost(channel), SessionGone)
        assert channel.closed.is_set()


async def test_a_refused_message_costs_only_its_request() -> None:
    async def refuse(sse: SseServer, request: Request, reply: Reply) -> None:
        if request.message["method"] == "call":
            await reply.whole(500, b"nonsense", {"content-type": "text/plain"})
        elif request.message["method"] == "wrong":
            error = {"code": -32602, "message": "Wrong params"}
            await reply.json({"jsonrpc": "2.0", "id": None, "error": error}, 400)
        else:
            await reply.whole(202)
            await sse.answer(request)

    async with connected(SseServer(on_post=refuse)) as (_, channel):
        error = await lost(channel)
        with pytest.raises(RpcError, match="Wrong params"):
            await channel.request("wrong", None)

        assert await channel.request("other", {"n": 1}) == {"n": 1}
    assert "500 (Internal Server Error): nonsense" in str(error)
    assert error.sent


async def test_a_cancelled_request_is_cancelled_at_the_server() -> None:
    arrived, told = asyncio.Event(), asyncio.Event()

    async def hang(sse: SseServer, request: Request, reply: Reply) -> None:
        await reply.whole(202)
        (arrived if "id" in request.message else told).set()

    async with connected(SseServer(on_post=hang)) as (server, channel):
        calling = asyncio.ensure_future(channel.request("call", None))
        await arrived.wait()
        calling.cancel()
        await told.wait()

    (cancelled,) = server.messages("notifications/cancelled")
    assert cancelled.message["params"] == {"requestId": 1}


async def test_many_rounds_leave_no_task_behind() -> None:
    sse = SseServer(endpoint="/messages")
    async with asyncio.timeout(60), serve(sse) as server, HttpClient() as client:
        config = ServerConfig(name="raw", transport="sse", url=server.url)
        before = len(asyncio.all_tasks())
        for number in range(40):
            async with open_sse(config, SETTINGS, client) as channel:
                calling = asyncio.ensure_future(channel.request("call", {"n": number}))
                if number % 2:
                    await asyncio.sleep(0)
                    calling.cancel()
                await asyncio.wait({calling})
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - the server has its own pace
            await asyncio.sleep(0.01)


def test_it_runs_on_uvloop() -> None:
    async def use() -> Any:
        async with connected(SseServer()) as (_, channel):
            return await channel.request("call", {"n": 1})

    assert uvloop.run(use()) == {"n": 1}

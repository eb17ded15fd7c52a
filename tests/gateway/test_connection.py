"""What is too much, or takes too long, before it is a request."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.servers.face_server import build_face, serving

from trunkline.gateway.connection import MAX_HEADERS
from trunkline.settings import HttpSettings

pytestmark = pytest.mark.anyio

GET = b"GET /names HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /names HTTP/1.1\r\nHost: localhost\r\n"
MCP = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
    b"Content-Type: application/json\r\nAccept: */*\r\n"
)


async def names(request: Request) -> Response:
    """The body, and then the names of the headers, as they are seen after it."""
    body = await request.body()
    return PlainTextResponse(f"{len(body)} {' '.join(request.headers)}")


class Wire:
    """A client that decides about every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def say(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def flood(self, piece: bytes, *, pause: float = 0) -> None:
        """
        Say *piece* after *piece* until the server closes, whatever it says by then.

        Its answer may be lost: what it leaves unread resets the connection.
        """
        closed = asyncio.create_task(self.rest())
        try:
            while not closed.done():
                await self.say(piece)
                await asyncio.wait({closed}, timeout=pause)
            await closed
        except ConnectionError:
            closed.cancel()

    async def until(self, data: bytes) -> None:
        """Wait for something to be said."""
        await self._reader.readuntil(data)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        return await self._reader.read()

    async def answer(self) -> bytes:
        """One answer with a length."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        return head + await self._reader.readexactly(length)


class Served:
    """A server, and how to connect to it."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port

    @asynccontextmanager
    async def wire(self) -> AsyncGenerator[Wire]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def served(**settings: float) -> AsyncGenerator[Served]:
    options = HttpSettings.model_validate({"port": 0, "stop_grace": 0.1, **settings})
    routes = [Route("/names", names, methods=["GET", "POST"])]
    async with (
        asyncio.timeout(60),
        serving(build_face(), settings=options, routes=[*routes]) as url,
    ):
        yield Served(url)


# -- time -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"\r\n",
        b"POST /mcp HTTP/1.1\r\nHost: loc",
        POST + b"Content-Length: 10\r\n\r\n12345",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12",
        MCP + b"\r\n{",
        MCP + b"MCP-Protocol-Version: 2026-07-28\r\n\r\n{",
    ],
)
async def test_a_request_that_does_not_arrive_is_given_up(
    begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(request_timeout=0.2) as server, server.wire() as wire:
        await wire.say(begun)
        answer = await wire.rest()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"REQUEST_TIMEOUT" in answer
    assert b"connection: close" in answer
    assert b"x-content-type-options: nosniff" in answer
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_bytes_now_and_then_buy_no_time() -> None:
    async with served(request_timeout=0.3) as server, server.wire() as wire:
        await wire.say(GET)

        await wire.flood(b"x: y\r\n", pause=0.05)


async def test_a_connection_that_waits_between_requests_is_left_alone() -> None:
    async with served(request_timeout=0.2) as server, server.wire() as wire:
        await wire.say(GET + b"\r\n")
        first = await wire.answer()
        await asyncio.sleep(0.5)  # longer than a request may take
        await wire.say(GET + b"\r\n")
        second = await wire.answer()

    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")


async def test_a_stream_that_stays_open_is_left_alone() -> None:
    async with served(request_timeout=0.2) as server, server.wire() as wire:
        await wire.say(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await wire.until(b"session_id")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await wire.rest()


# -- size -------------------------------------------------------------------------------------


def pieces(data: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize(
    "head",
    [
        GET + b"x: " + b"y" * 5000 + b"\r\n\r\n",
        b"GET /names?" + b"y" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        GET + b"x-y: 12345\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_head_that_is_too_large_is_refused_with_a_sentence(
    head: bytes, at_once: bool
) -> None:
    async with served(max_head=4096) as server, server.wire() as wire:
        try:
            for piece in [head] if at_once else pieces(head):
                await wire.say(piece)
        except ConnectionError:
            pass  # it has refused already
        answer = await wire.rest()

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"MAX_HEAD" in answer


async def test_a_head_that_never_ends_is_refused_early() -> None:
    async with served(max_head=4096) as server, server.wire() as wire:
        await wire.say(GET + b"x: " + b"y" * 8000)

        assert (await wire.rest()).startswith(b"HTTP/1.1 431 ")


async def test_a_large_body_does_not_count_as_head() -> None:
    body = b"x" * 200_000
    head = POST + b"Content-Length: %d\r\n\r\n" % len(body)
    async with served(max_head=4096) as server, server.wire() as wire:
        for _ in range(2):
            await wire.say(head + body)
            assert b"200000 " in await wire.answer()


async def test_trailers_are_not_headers_and_are_bounded() -> None:
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"
    async with served(max_head=4096) as server:
        async with server.wire() as wire:
            await wire.say(head + b"Cookie: a=b\r\nX-Late: 1\r\n\r\n")
            answer = await wire.answer()
        async with server.wire() as wire:
            await wire.say(head + b"x: ")
            await wire.flood(b"y" * 1000)

    assert answer.endswith(b"2 host transfer-encoding")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        GET + b"Content-Length: 99999999999999999999999\r\n\r\n",
        GET + b"na me: value\r\n\r\n",
        GET + b"name: va\x00lue\r\n\r\n",
        GET + b" folded: value\r\n\r\n",
        b"CONNECT example.com:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_what_is_no_http_gets_a_sentence_and_is_closed(data: bytes) -> None:
    async with served() as server, server.wire() as wire:
        await wire.say(data)
        answer = await wire.rest()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"x-content-type-options: nosniff" in answer
    assert b'"error"' in answer


# -- number -----------------------------------------------------------------------------------


async def test_a_connection_too_many_is_told_so_and_the_others_are_served() -> None:
    async with served(max_connections=2) as server:
        async with server.wire() as first, server.wire() as second:
            for wire in (first, second):
                await wire.say(GET + b"\r\n")
                assert (await wire.answer()).startswith(b"HTTP/1.1 200 ")
            async with server.wire() as third:
                await third.say(GET + b"\r\n")
                refused = await third.rest()
            await first.say(GET + b"\r\n")
            assert (await first.answer()).startswith(b"HTTP/1.1 200 ")
            await second.say(GET + b"Connection: close\r\n\r\n")
            await second.rest()
        async with server.wire() as fourth:
            await fourth.say(GET + b"\r\n")
            assert (await fourth.answer()).startswith(b"HTTP/1.1 200 ")

    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"MAX_CONNECTIONS" in refused

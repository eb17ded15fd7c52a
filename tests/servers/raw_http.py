"""
An HTTP/1.1 server on asyncio streams, so that a test decides about every byte of a response.

    async def handle(request, reply):
        await reply.json({"jsonrpc": "2.0", "id": request.message["id"], "result": {}})

    async with serve(handle) as server:
        ...server.url...
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass
class Request:
    """One request, read to its end."""

    method: str
    path: str
    headers: Mapping[str, str]
    """By lower-case name."""

    body: bytes

    @cached_property
    def message(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Reply:
    """Writes one response. `closed` is set when the client has left."""

    def __init__(self, writer: asyncio.StreamWriter, closed: asyncio.Event) -> None:
        self._writer, self.closed = writer, closed
        self.kept_alive = True

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def whole(
        self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """A complete response. Underscores in header names become hyphens."""
        length = {"content-length": str(len(body))}
        await self.raw(_head(status, {**(headers or {}), **length}) + body)

    async def json(self, message: Any, status: int = 200, **headers: str) -> None:
        headers = {"content_type": "application/json", **headers}
        await self.whole(status, json.dumps(message).encode(), headers)

    async def result(self, request: Request, result: Any = None, **headers: str) -> None:
        """The JSON answer to a JSON-RPC request."""
        await self.json(answer(request, result), 200, **headers)

    async def start_events(self, **headers: str) -> None:
        """Begin a stream of events; go on with `event`, end with `end`."""
        headers |= {"content_type": "text/event-stream", "transfer_encoding": "chunked"}
        await self.raw(_head(200, headers))

    async def event(self, data: Any, **fields: str) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        lines = [f"{name}: {value}\n" for name, value in fields.items()]
        await self.chunk("".join(lines) + f"data: {text}\n\n")

    async def chunk(self, text: str) -> None:
        data = text.encode()
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        """The regular end of a stream; the connection stays open."""
        await self.raw(b"0\r\n\r\n")

    def cut(self) -> None:
        """Break off: close the connection without ending the response."""
        self.kept_alive = False
        self._writer.close()


Handler = Callable[[Request, Reply], Awaitable[None]]


@dataclass
class RawServer:
    """The running server and what it has seen."""

    port: int = 0
    requests: list[Request] = field(default_factory=list[Request])
    connections: int = 0
    """How many were made so far."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def messages(self, method: str) -> list[Request]:
        """The POSTs of one JSON-RPC method."""
        posts = [request for request in self.requests if request.method == "POST"]
        return [post for post in posts if post.message.get("method") == method]


def answer(request: Request, result: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request.message["id"], "result": result or {}}


@asynccontextmanager
async def serve(handle: Handler) -> AsyncGenerator[RawServer]:
    """Serve on a free port of the loopback interface until the block ends."""
    server = RawServer()
    open_connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        try:
            await _converse(server, handle, reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass  # the client or the test has finished
        finally:
            open_connections.discard(task)
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in open_connections:
            task.cancel()
        if open_connections:
            await asyncio.wait(open_connections)


async def _converse(
    server: RawServer, handle: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    kept_alive = True
    while kept_alive and (request := await _read(reader)) is not None:
        server.requests.append(request)
        reply = Reply(writer, asyncio.Event())
        watch = asyncio.create_task(_watch(reader, reply.closed))
        try:
            await handle(request, reply)
        finally:
            watch.cancel()
            await asyncio.wait({watch})
        kept_alive = reply.kept_alive


async def _watch(reader: asyncio.StreamReader, closed: asyncio.Event) -> None:
    """See the client leave while a response is under way. (Nothing is pipelined here.)"""
    # Reading would swallow the first byte of the next request.
    while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    closed.set()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = b""
    while line := await reader.readline():
        head += line
        if line == b"\r\n":
            break
    else:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.split(":", 1) for line in lines if line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status} Status", *lines, "", ""]).encode()

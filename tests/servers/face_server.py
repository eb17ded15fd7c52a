"""
A small MCP server behind the real transports, for the tests of the MCP face.

In the test's own process, `serving` puts it on a loopback port and `RawClient` speaks to it without
any client library in between. As a program (`python tests/servers/face_server.py stdio`, or `http`,
which prints its URL as its first line) it serves until its client or a signal ends it.
"""

# ruff: noqa: T201 - what is printed, and where it goes, is what the tests look at

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from fastmcp import Context, FastMCP
from mcp.shared.message import ServerMessageMetadata
from mcp_types import ListRootsRequest, ListRootsResult
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from trunkline.gateway.http import AppLifespan, build_app, serve_http
from trunkline.gateway.identity import LOCAL_ONLY, Identify
from trunkline.gateway.stdio import serve_stdio, standard_streams
from trunkline.settings import HttpSettings

BOTH = "application/json, text/event-stream"
ROOT = "file:///work"


@dataclass
class Face:
    """A server, and what its tool `hold` is doing."""

    server: FastMCP = field(default_factory=lambda: FastMCP("face"))
    holding: anyio.Event = field(default_factory=anyio.Event)
    release: anyio.Event = field(default_factory=anyio.Event)
    released: anyio.Event = field(default_factory=anyio.Event)
    cancelled: anyio.Event = field(default_factory=anyio.Event)


def build_face() -> Face:
    """A server with tools that answer, talk, ask, wait, and return a lot."""
    face = Face()

    @face.server.tool
    async def echo(value: Any) -> Any:
        return value

    @face.server.tool
    async def talk(text: str, ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        return text

    @face.server.tool
    async def ask(ctx: Context) -> str:
        # Named as related to this call, the question goes where the call's answer will go.
        related = ServerMessageMetadata(related_request_id=ctx.request_id)
        answer = await ctx.session.send_request(ListRootsRequest(), ListRootsResult, None, related)
        return ", ".join(str(root.uri) for root in answer.roots)

    @face.server.tool
    async def hold() -> str:
        print("holding", file=sys.stderr, flush=True)
        face.holding.set()
        try:
            await face.release.wait()
        except asyncio.CancelledError:
            print("cancelled", file=sys.stderr, flush=True)
            face.cancelled.set()
            raise
        face.released.set()
        return "released"

    @face.server.tool
    async def flood(size: int, ctx: Context) -> str:
        print("flooding", file=sys.stderr, flush=True)
        await ctx.report_progress(1, 2, "x" * size)
        return "flooded"

    @face.server.tool
    async def large(size: int) -> str:
        return "x" * size

    @face.server.tool
    async def shout(text: str) -> str:
        print(text)
        os.write(1, f"{text} again\n".encode())
        return "printed"

    @face.server.tool
    async def surrogate() -> str:
        return "\ud800"

    # The tools are found by their names; the functions are not used again.
    del echo, talk, ask, hold, flood, large, shout, surrogate
    return face


@asynccontextmanager
async def serving(
    face: Face,
    *,
    settings: HttpSettings | None = None,
    identity: Identify = LOCAL_ONLY,
    routes: list[BaseRoute] | None = None,
    middleware: Sequence[Middleware] = (),
    lifespan: AppLifespan | None = None,
    quiet: float = 15.0,
    stop: asyncio.Event | None = None,
) -> AsyncGenerator[str]:
    """The server on a port of its own; yields the base URL."""
    settings = settings or HttpSettings(port=0, stop_grace=0.1)
    app = build_app(
        face.server,
        settings,
        identity=identity,
        routes=routes or (),
        middleware=middleware,
        lifespan=lifespan,
        quiet=quiet,
    )
    stop = stop or asyncio.Event()
    listening, url = anyio.Event(), ""

    def on_listening(base_url: str) -> None:
        nonlocal url
        url = base_url
        listening.set()

    async def serve() -> None:
        await serve_http(app, settings, on_listening=on_listening, stop=stop)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        with anyio.fail_after(10):
            await listening.wait()
        try:
            yield url
        finally:
            stop.set()


class RawClient:
    """One handshake client, request by request."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.headers = {"Accept": BOTH, "Content-Type": "application/json"}
        self._last_id = 0

    async def initialize(self, **capabilities: Any) -> httpx2.Response:
        """Open a session and keep its id."""
        response = await self.post(
            "initialize",
            {
                "protocolVersion": "2025-11-25",
                "capabilities": capabilities,
                "clientInfo": {"name": "raw", "version": "1"},
            },
        )
        self.headers["Mcp-Session-Id"] = response.headers.get("mcp-session-id", "")
        return response

    def message(self, method: str, params: dict[str, Any], *, id: Any = None) -> bytes:  # noqa: A002
        """A request, under an id of its own unless one is given."""
        self._last_id += 1
        request_id = self._last_id if id is None else id
        return json.dumps(
            {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        ).encode()

    def tool(self, name: str, *, id: Any = None, **arguments: Any) -> bytes:  # noqa: A002
        """A tool call that wants progress."""
        params = {"name": name, "arguments": arguments, "_meta": {"progressToken": "p"}}
        return self.message("tools/call", params, id=id)

    async def post(self, method: str, params: dict[str, Any]) -> httpx2.Response:
        """Send a request and read the whole response."""
        return await self.send(self.message(method, params))

    async def call(self, name: str, **arguments: Any) -> httpx2.Response:
        """Call a tool and read the whole response."""
        return await self.send(self.tool(name, **arguments))

    async def send(self, body: bytes, **headers: str) -> httpx2.Response:
        """POST whatever it is."""
        return await self.http.post("/mcp", content=body, headers=self.headers | headers)


@asynccontextmanager
async def raw_client(url: str, **capabilities: Any) -> AsyncGenerator[RawClient]:
    """A client with a session."""
    async with httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:
        client = RawClient(http)
        (await client.initialize(**capabilities)).raise_for_status()
        yield client


def events(text: str) -> list[dict[str, Any]]:
    """The messages of an event stream."""
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def main(face: str) -> None:
    """Serve over *face* until the client or a signal ends it."""
    server = build_face().server
    settings = HttpSettings(port=0, stop_grace=30)

    def announce(url: str) -> None:
        print(url, flush=True)

    async def serve() -> None:
        app = build_app(server, settings, identity=LOCAL_ONLY)
        await serve_http(app, settings, on_listening=announce)

    if face == "stdio":
        anyio.run(serve_stdio, server)
    elif face == "stdio-late":
        with standard_streams() as streams:
            print("starting")
            anyio.run(serve_stdio, server, streams)
    else:
        anyio.run(serve, backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main(sys.argv[1])

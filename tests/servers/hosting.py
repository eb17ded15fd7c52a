"""
Put a `RawServer` on a transport, in one era or both.

    python -m tests.servers.NAME --transport stdio
    python -m tests.servers.NAME --transport http --era handshake    -> "listening http://..."

Handshake-only and modern-only servers refuse the other era the way real ones do: an mcp 1.x server
knows neither `server/discover` nor the modern header and asks for the session it misses; a modern
server names the versions it speaks. Everything binds to loopback.
"""

import argparse
import json
import logging
import socket
import sys
import threading
from typing import Any, Final

import anyio
import uvicorn
from mcp.server.runner import serve_loop
from mcp.server.sse import SseServerTransport
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventStore
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.servers.raw import RawServer, unsupported

STOP_GRACE: Final = 1
"""Seconds open event streams may take to end after SIGTERM."""

LOOPBACK: Final = TransportSecuritySettings(
    allowed_hosts=["127.0.0.1:*", "localhost:*"],
    allowed_origins=["http://127.0.0.1:*", "http://localhost:*"],
)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options every hosted server takes."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--transport", choices=("stdio", "http", "sse"), default="stdio")
    options.add_argument("--port", type=int, default=0, help="0 takes any free one")
    options.add_argument("--era", choices=("both", "handshake", "modern"), default="both")
    options.add_argument("--json", action="store_true", help="answer JSON instead of event streams")
    options.add_argument("--tied", action="store_true", help="end when stdin closes (http and sse)")
    return options


def host(
    server: RawServer, options: argparse.Namespace, *, event_store: EventStore | None = None
) -> None:
    """Serve until stdin ends (stdio) or a signal comes. *event_store* makes streams resumable."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    server.refuses_handshake = options.era == "modern"
    if options.transport == "stdio":
        anyio.run(_serve_stdio, server, options.era)
    elif options.transport == "sse":
        if options.era == "modern":
            raise SystemExit("The SSE transport exists in the handshake era only.")
        _serve_http(_sse_app(server), "/sse", options)
    else:
        app: ASGIApp = server.sdk.streamable_http_app(
            json_response=options.json,
            event_store=event_store,
            # Resumable streams say how soon to come back: milliseconds.
            retry_interval=500 if event_store else None,
            max_request_body_size=64 * 1024 * 1024,
        )
        if options.era != "both":
            app = _OneEra(app, modern=options.era == "modern")
        _serve_http(app, "/mcp", options)


async def _serve_stdio(server: RawServer, era: str) -> None:
    async with stdio_server() as (read, write):
        if era == "handshake":
            await serve_loop(server.sdk, read, write, lifespan_state={})
        else:
            await server.sdk.run(read, write, server.sdk.create_initialization_options())


def _sse_app(server: RawServer) -> ASGIApp:
    transport = SseServerTransport("/messages/", security_settings=LOOPBACK)
    return Starlette(
        routes=[
            Route("/sse", _SseEndpoint(server, transport)),
            Mount("/messages/", app=transport.handle_post_message),
        ]
    )


class _SseEndpoint:
    """The stream of the HTTP+SSE transport: one connection, one session."""

    def __init__(self, server: RawServer, transport: SseServerTransport) -> None:
        self._server, self._transport = server, transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._transport.connect_sse(scope, receive, send) as (read, write):
            await serve_loop(self._server.sdk, read, write, lifespan_state={})


class _OneEra:
    """In front of the SDK's endpoint, which speaks both eras: lets one of them through."""

    def __init__(self, app: ASGIApp, *, modern: bool) -> None:
        self._app, self._modern = app, modern

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        version = request.headers.get("mcp-protocol-version")
        if self._modern == (version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS):
            await self._app(scope, receive, send)
        elif self._modern:
            await (await self._refuse_handshake(request))(scope, receive, send)
        else:
            await self._refuse_modern(request)(scope, receive, send)

    def _refuse_modern(self, request: Request) -> Response:
        known = "mcp-session-id" in request.headers
        reason = "Unsupported protocol version" if known else "Missing session ID"
        return _rpc_error("server-error", -32600, f"Bad Request: {reason}", None)

    async def _refuse_handshake(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(status_code=405, headers={"Allow": "POST"})
        body = json.loads(await request.body() or b"{}")
        error = unsupported((body.get("params") or {}).get("protocolVersion")).error
        return _rpc_error(body.get("id"), error.code, error.message, error.data)


def _rpc_error(request_id: Any, code: int, message: str, data: Any) -> Response:
    error = {"code": code, "message": message, **({"data": data} if data else {})}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status_code=400)


def announce(listener: socket.socket, path: str) -> None:
    """Tell whoever started us where we listen, in one line on stdout."""
    sys.stdout.write(f"listening http://127.0.0.1:{listener.getsockname()[1]}{path}\n")
    sys.stdout.flush()


def _serve_http(app: ASGIApp, path: str, options: argparse.Namespace) -> None:
    # Named, because asyncio turns Nagle off only where it sees the protocol.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", options.port))
        listener.listen()
        config = uvicorn.Config(
            app,
            http="h11",  # httptools leaves the white space after a header's value in place
            log_level="error",
            timeout_graceful_shutdown=STOP_GRACE,
            ws="none",
        )
        server = uvicorn.Server(config)
        if options.tied:
            threading.Thread(target=_await_parent, args=(server,), daemon=True).start()
        announce(listener, path)
        server.run(sockets=[listener])


def _await_parent(server: uvicorn.Server) -> None:
    """End with whoever holds the other end of our stdin, however it ended."""
    sys.stdin.buffer.read()
    server.should_exit = True

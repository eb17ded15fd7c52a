"""
The HTTP face: every route behind one guard, on one port, in one process.

`build_app` puts streamable HTTP, the older HTTP+SSE and the caller's routes together. `serve_http`
listens, and stops in good order: no new connections, streams that only wait are closed, calls in
flight may finish, and what is left when the grace is over gets an error for an answer.
"""

import asyncio
import errno
import math
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from ipaddress import ip_address
from typing import Literal

import anyio
import uvicorn
from fastmcp import FastMCP
from fastmcp.server.context import reset_transport, set_transport
from fastmcp.server.http import set_http_request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.errors import ConfigError, PortInUse
from trunkline.gateway.connection import Connection, end_slow
from trunkline.gateway.events import QUIET, Stopping
from trunkline.gateway.framing import HttpSessions
from trunkline.gateway.guard import guard
from trunkline.gateway.identity import Identify
from trunkline.gateway.security_headers import SecurityHeaders
from trunkline.gateway.signals import on_stop_signal
from trunkline.gateway.sse import SseSessions
from trunkline.settings import HttpSettings

KEEP_ALIVE = 75
"""Seconds an idle connection is kept: longer than the pause between two calls of an agent."""

BACKLOG = 2048
"""Connections that may wait to be accepted."""

AppLifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def build_app(
    server: FastMCP,
    settings: HttpSettings,
    *,
    identity: Identify,
    routes: Sequence[BaseRoute] = (),
    middleware: Sequence[Middleware] = (),
    lifespan: AppLifespan | None = None,
    quiet: float = QUIET,
) -> Starlette:
    """
    Everything that answers HTTP, as one application.

    *identity* finds out who asks, for every route; `LOCAL_ONLY` asks nobody. *routes* are the
    caller's own; *middleware* runs inside the Host, Origin and size checks, around every route.
    *lifespan* is entered before the MCP server's and left after it. *quiet* is how many seconds a
    response may be silent before a stream is opened or pinged.
    """
    stopping = Stopping()
    sessions = HttpSessions(server, settings, stopping, quiet=quiet)
    streams = SseSessions(server, settings, stopping, quiet=quiet)
    mcp = _InContext(sessions, "streamable-http")

    @asynccontextmanager
    async def run(app: Starlette) -> AsyncGenerator[None]:
        async with nullcontext() if lifespan is None else lifespan(app), sessions.run():
            yield

    app = Starlette(
        routes=[
            Route("/mcp", mcp),
            Route("/mcp/", mcp),
            Route("/sse", _InContext(streams.open, "sse"), methods=["GET"]),
            Mount("/messages", _InContext(streams.post, "sse")),
            *identity.routes,
            *routes,
        ],
        middleware=[*guard(settings, identity), *middleware],
        lifespan=run,
    )
    app.state.stopping, app.state.sessions = stopping, sessions
    return app


async def serve_http(
    app: Starlette,
    settings: HttpSettings,
    *,
    on_listening: Callable[[str], None],
    stop: asyncio.Event | None = None,
    listeners: list[socket.socket] | None = None,
) -> None:
    """
    Serve *app* until SIGTERM, SIGINT or *stop*; a second signal ends the grace at once.

    The port is taken before the application starts, and *on_listening* is told the base URL once it
    has. *listeners* are those of `listen`, for a caller that has work to do between taking the port
    and serving; they are closed in any case.

    Raises `PortInUse` or `ConfigError` if the address cannot be had, and whatever the application's
    lifespan raises.
    """
    if listeners is None:
        listeners = listen(settings.host, settings.port)
    try:
        server = _Server(app, settings, on_listening)
        with on_stop_signal(server.stop):
            async with app.router.lifespan_context(app):
                await server.serve_until(stop, listeners)
    finally:
        for listener in listeners:
            listener.close()


class _InContext:
    """A route of the MCP face, with what FastMCP tells tools of their request."""

    def __init__(self, app: ASGIApp, transport: Literal["streamable-http", "sse"]) -> None:
        self._app: ASGIApp = app
        self._transport: Literal["streamable-http", "sse"] = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = set_transport(self._transport)
        try:
            with set_http_request(Request(scope)):
                await self._app(scope, receive, send)
        finally:
            reset_transport(token)


class _Server(uvicorn.Server):
    """uvicorn, stopped our way: by a call, in the steps of `Stopping`."""

    def __init__(
        self, app: Starlette, settings: HttpSettings, on_listening: Callable[[str], None]
    ) -> None:
        super().__init__(
            uvicorn.Config(
                SecurityHeaders(app, hsts=settings.hsts),
                http=partial(Connection, limits=settings),  # pyright: ignore[reportArgumentType]
                ws="none",
                # `serve_http` enters the lifespan: uvicorn would turn its errors into exit 3.
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                # Whatever does not answer to `Stopping.due` is cancelled a second later.
                timeout_graceful_shutdown=math.ceil(settings.stop_grace) + 1,
            )
        )
        self._settings, self._on_listening = settings, on_listening
        self._stopping: Stopping = app.state.stopping

    def stop(self) -> None:
        """Begin to stop; called again, stop now."""
        if self.should_exit:
            self._stopping.due.come()
            self.force_exit = True
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        self.should_exit = True
        self._stopping.begun.come()

    async def serve_until(self, stop: asyncio.Event | None, listeners: list[socket.socket]) -> None:
        """Serve until `stop` is called, or *stop* is set."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._limit_grace)
            connections = self.server_state.connections
            tasks.start_soon(end_slow, connections, self._settings.request_timeout)
            if stop is not None:
                tasks.start_soon(self._stop_on, stop)
            await self.serve(listeners)
            tasks.cancel_scope.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets, "always given"
        self._on_listening(base_url(self._settings.host, sockets[0].getsockname()[1]))

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to `serve_http`: uvicorn would raise them again after a clean stop."""
        yield

    async def _stop_on(self, event: asyncio.Event) -> None:
        await event.wait()
        self.stop()

    async def _limit_grace(self) -> None:
        await self._stopping.begun.wait()
        await anyio.sleep(self._settings.stop_grace)
        self._stopping.due.come()


def base_url(host: str, port: int) -> str:
    """Where a client on this machine finds a server that listens on *host* and *port*."""
    host = _bare(host)
    try:
        address = ip_address(host)
    except ValueError:
        return f"http://{host or '127.0.0.1'}:{port}"
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address}:{port}" if address.version == 4 else f"http://[{address}]:{port}"


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of *host*, on one port. Raises `PortInUse` or `ConfigError`."""
    try:
        found = socket.getaddrinfo(
            _bare(host) or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise _unusable(host, port, error) from error
    addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    listeners: list[socket.socket] = []
    failure: OSError | None = None
    for family, address in addresses:
        if listeners:  # port 0 was chosen by the first
            address = (address[0], listeners[0].getsockname()[1], *address[2:])  # noqa: PLW2901
        try:
            listeners.append(_listener(family, address, dual=len(addresses) == 1))
        except OSError as error:
            failure = error
            if error.errno == errno.EADDRINUSE:
                break
    if failure is not None and (failure.errno == errno.EADDRINUSE or not listeners):
        for listener in listeners:
            listener.close()
        raise _unusable(host, port, failure) from failure
    return listeners


def _listener(family: int, address: tuple[str | int, ...], *, dual: bool) -> socket.socket:
    # Named, because asyncio turns Nagle off only where it sees the protocol. With it on, an
    # answer in two writes waits 40 ms for the delayed acknowledgement of the client.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and not dual:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        # Two programs may bind one port as long as neither listens; so listen now.
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _unusable(host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(host, port)
    return ConfigError(
        f"Cannot listen on {host}, port {port}: {error.strerror}. "
        "Choose another address: `trunkline serve --http 127.0.0.1:8080`."
    )


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")

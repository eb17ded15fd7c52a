"""
The way back to a client: who it is, and how to ask and tell it something.

The SDK's request context is wrapped here, so that nothing below the gateway sees the SDK. A
request has a `RequestCaller`; a handshake client also has a `StandingCaller` for what concerns no
request of its.
"""

import hashlib
from collections.abc import Callable
from typing import Any, Final
from uuid import uuid4

import anyio
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.shared.dispatcher import DispatchContext
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from trunkline.errors import RpcError
from trunkline.models import LOCAL, PRINCIPAL, Caller, Client, Era, Json, Principal
from trunkline.wire import (
    INTERNAL_ERROR,
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_LOG_LEVEL,
)

ASK_DEADLINE: Final = 600.0
"""Seconds a person may take to answer a question."""

STANDING_DEADLINE: Final = 600.0
"""Seconds a person may take to answer a question that belongs to no request."""

TELL_DEADLINE: Final = 10.0
"""Seconds after which a notification to a client that does not read is dropped."""

STATE: Final = "trunkline"
"""Where a connection's `FrontClient` is kept in the SDK's per-connection state."""


class FrontClient:
    """A handshake client, for as long as it is connected."""

    def __init__(self, client: Client, connection: Connection) -> None:
        self.client = client
        self.connection = connection
        self.log_level: str | None = None
        self.standing = StandingCaller(self)
        self.can_be_reached: Callable[[], bool] = lambda: True
        """Whether there is a stream for what belongs to no request of the client."""

    async def notify(self, method: str, params: Json | None) -> None:
        """Send a notification outside of any request; dropped if the client does not read."""
        with anyio.move_on_after(TELL_DEADLINE):
            await self.connection.notify(method, params)


class StandingCaller:
    """A handshake client outside of any request."""

    def __init__(self, front: FrontClient) -> None:
        self._front = front

    @property
    def client(self) -> Client:
        return self._front.client

    @property
    def log_level(self) -> str | None:
        return self._front.log_level

    @property
    def standing(self) -> Caller:
        return self

    async def ask(self, method: str, params: Json | None) -> Json:
        return await _ask(self._front.connection, method, params, STANDING_DEADLINE)

    async def tell(self, method: str, params: Json | None) -> None:
        await self._front.notify(method, params)


class RequestCaller:
    """The client of one request, while the request runs."""

    def __init__(
        self, context: ServerRequestContext[Any, Any], client: Client, front: FrontClient | None
    ) -> None:
        self.client = client
        self.front = front
        self._stream = _stream_of(context)
        self._meta = _meta(context.params)

    @property
    def log_level(self) -> str | None:
        if self.front is not None:
            return self.front.log_level
        level = self._meta.get(META_LOG_LEVEL)
        return level if isinstance(level, str) else None

    @property
    def standing(self) -> Caller | None:
        front = self.front
        return front.standing if front is not None and front.can_be_reached() else None

    async def ask(self, method: str, params: Json | None) -> Json:
        return await _ask(self._stream, method, params, ASK_DEADLINE)

    async def tell(self, method: str, params: Json | None) -> None:
        with anyio.move_on_after(TELL_DEADLINE):
            try:
                await self._stream.notify(method, params)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass  # the client has left


async def _ask(
    channel: DispatchContext[Any] | Connection, method: str, params: Json | None, deadline: float
) -> Json:
    try:
        return await channel.send_raw_request(method, params, {"timeout": deadline})
    except MCPError as error:
        raise RpcError(error.error.code, error.error.message, error.error.data) from error
    except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
        raise RpcError(INTERNAL_ERROR, "The client has disconnected.") from error


def principal_of(context: ServerRequestContext[Any, Any]) -> Principal:
    """Who sent a request. What comes without HTTP comes from the user of this machine."""
    return LOCAL if context.request is None else context.request.scope[PRINCIPAL]


def handshake_client(
    params: Json, connection: Connection, version: str, principal: Principal
) -> Client:
    """The client that has just sent `initialize` with these params."""
    return Client(
        principal=principal,
        id=connection.session_id or uuid4().hex,
        era=Era.HANDSHAKE,
        protocol_version=version,
        info=_object(params.get("clientInfo")),
        capabilities=_object(params.get("capabilities")),
    )


def modern_client(context: ServerRequestContext[Any, Any], principal: Principal) -> Client:
    """
    The client of a modern request, as its envelope says.

    Modern requests stand alone: nothing but who sends them ties two of them together, so each one
    is a client of its own. On stdio there is only one.
    """
    meta = _meta(context.params)
    alone = context.request is None
    return Client(
        principal=principal,
        id="stdio" if alone else uuid4().hex,
        era=Era.MODERN,
        protocol_version=context.protocol_version,
        info=_object(meta.get(META_CLIENT_INFO)),
        capabilities=_object(meta.get(META_CLIENT_CAPABILITIES)),
    )


def is_modern(context: ServerRequestContext[Any, Any]) -> bool:
    """Whether a request came in the modern era."""
    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


def connection_of(context: ServerRequestContext[Any, Any]) -> Connection:
    """The client connection a request came on; the SDK shows it nowhere else."""
    return context.session._connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def reachability_of(context: ServerRequestContext[Any, Any]) -> Callable[[], bool] | None:
    """
    How to tell whether a client that is initializing has its own stream open.

    None where it always has: over stdio and HTTP+SSE there is but one stream. Over streamable HTTP
    a client may open one or not, and what is sent without one is lost.
    """
    session_id = connection_of(context).session_id
    application = context.request.scope.get("app") if context.request is not None else None
    sessions = getattr(getattr(application, "state", None), "sessions", None)
    if session_id is None or sessions is None:
        return None
    return lambda: sessions.has_stream(session_id)


def _stream_of(context: ServerRequestContext[Any, Any]) -> DispatchContext[Any]:
    """The channel back to the client that belongs to this request."""
    session = context.session
    return session._request_outbound  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def front_of(connection: Connection) -> FrontClient | None:
    """The handshake client on a connection, once it has initialized."""
    return connection.state.get(STATE)


def binding_of(client: Client, method: str, name: str) -> str:
    """What ties a held call to the request that may resume it."""
    principal = client.principal
    parts = "\0".join((principal.org or "", principal.subject, method, name))
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _meta(params: Any) -> Json:
    return _object(_object(params).get("_meta"))


def _object(value: Any) -> Json:
    return dict(value) if isinstance(value, dict) else {}

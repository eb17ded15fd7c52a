"""
A raw JSON-RPC connection to one server: what the three transports have in common.

A channel moves JSON objects and looks into nothing but `id`, `method` and the progress token. It
knows no MCP semantics: eras, capabilities and clients are the session's business.

    session ── request() ──> _send() ──> wire                       (the transport writes)
       ▲                                   │
       │ inbox: notifications, questions,  │
       └─ answer, in wire order ── receive() <── decoded message    (the transport reads)

What arrives for a request in flight goes into that request's own inbox and is worked off by the
task that made the request. So order is kept, and a client that reads slowly delays nobody else.
What belongs to no request in flight goes to `on_stray`.

A transport is an async context manager that yields a `Channel` and owns the tasks that feed it.
Its tasks never raise: a lost connection is reported by `lose`, which wakes everyone.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from trunkline.errors import RpcError
from trunkline.models import Era, Json
from trunkline.wire import INTERNAL_ERROR, METHOD_NOT_FOUND

INBOX_LIMIT: Final = 1_000
"""Notifications that may wait for one slow client; further ones are dropped and counted."""


class ChannelLost(Exception):
    """
    The connection ended before the answer came. `str()` is the reason, for a person.

    `sent` says whether the request may have reached the server: False means it cannot have run,
    so that sending it again is safe.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class SessionGone(ChannelLost):
    """The server no longer knows our session (HTTP 404): initialize again. Nothing has run."""

    def __init__(self, reason: str = "the server has forgotten our session") -> None:
        super().__init__(reason, sent=False)


@dataclass(frozen=True, slots=True)
class Inbound:
    """A notification or request from the server. `id` is None for a notification."""

    method: str
    params: Json | None
    id: int | str | None = None

    origin: int | None = None
    """Our request on whose own stream it came; None where the transport cannot tell."""


@dataclass(frozen=True, slots=True)
class _Answer:
    result: Json | None
    error: Json | None


@dataclass(frozen=True, slots=True)
class _Lost:
    error: ChannelLost


class Exchange:
    """One request in flight and everything that has arrived for it."""

    __slots__ = ("dropped", "id", "inbox", "method", "sent", "settled", "stop_reading")

    def __init__(self, request_id: int, method: str) -> None:
        self.id = request_id
        self.method = method
        self.inbox: asyncio.Queue[Inbound | _Answer | _Lost] = asyncio.Queue()
        self.sent = False
        """Set by the transport as soon as a byte of the request may have left."""

        self.settled = False
        """Whether the answer, or the reason why there is none, is in the inbox."""

        self.stop_reading: Callable[[], None] | None = None
        """Set by a transport that reads this exchange from a stream of its own: closes it."""

        self.dropped = 0

    def mark_sent(self) -> None:
        """From now on the request may have reached the server."""
        self.sent = True

    def put(self, item: Inbound) -> None:
        """Queue something that arrived; a flood of notifications is cut, a question never is."""
        if item.id is None and self.inbox.qsize() >= INBOX_LIMIT:
            self.dropped += 1
        else:
            self.inbox.put_nowait(item)


OnInbound = Callable[[Inbound], Awaitable[None]]


class Channel(ABC):
    """One open connection. Made by a transport, used by exactly one session."""

    tells_origin: ClassVar[bool] = False
    """Whether the transport knows which request a server's own message belongs to."""

    def __init__(self, server: str, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self.server = server
        self.on_stray: Callable[[Inbound], None] = self._ignore
        self.protocol_version: str | None = None
        """Set by the session after the handshake; HTTP transports send it as a header."""

        self.closed = asyncio.Event()
        self.reason = ""
        self.pending: dict[int, Exchange] = {}
        self.spawn = spawn
        """Run a coroutine that must not raise in the transport's own task group."""

        self._last_id = 0

    # -- what a session calls -----------------------------------------------------------------

    def new_exchange(self, method: str) -> Exchange:
        """What `request` is to use, for a session that has more to put into its inbox."""
        self._last_id += 1
        return Exchange(self._last_id, method)

    async def request(
        self,
        method: str,
        params: Json | None,
        *,
        exchange: Exchange | None = None,
        on_inbound: OnInbound | None = None,
        headers: Mapping[str, str] | None = None,
        progress: bool = False,
    ) -> Json:
        """
        Send a request and return its result, working off what arrives for it meanwhile.

        With *progress*, the request asks for progress under its own id as token. *headers* are
        HTTP headers for this request alone; other transports ignore them. Cancelling the caller
        cancels the request at the server.

        Raises `RpcError` (the server's own error) or `ChannelLost`.
        """
        exchange = exchange or self.new_exchange(method)
        if self.closed.is_set():
            raise ChannelLost(self.reason, sent=False)
        message: Json = {"jsonrpc": "2.0", "id": exchange.id, "method": method}
        if progress:
            params = dict(params or {})
            params["_meta"] = {**(params.get("_meta") or {}), "progressToken": exchange.id}
        if params is not None:
            message["params"] = params
        self.pending[exchange.id] = exchange
        try:
            await self._send(message, exchange, headers or {})
            while True:
                item = await exchange.inbox.get()
                if isinstance(item, Inbound):
                    if on_inbound is not None:
                        await on_inbound(item)
                elif isinstance(item, _Lost):
                    raise item.error
                elif item.error is not None:
                    raise _rpc_error(item.error)
                else:
                    return item.result if item.result is not None else {}
        except asyncio.CancelledError:
            if exchange.sent and not self.closed.is_set():
                self.spawn(self._abandon(exchange))
            raise
        finally:
            self.pending.pop(exchange.id, None)

    async def notify(self, method: str, params: Json | None = None) -> None:
        """Send a notification. Raises `ChannelLost` if the connection is gone."""
        message: Json = {"jsonrpc": "2.0", "method": method}
        if params is not None:
            message["params"] = params
        await self._send(message, None, {})

    async def respond(self, request: Inbound, result: Json | RpcError) -> None:
        """Answer a server's request. A connection that is gone needs no answer."""
        message: Json = {"jsonrpc": "2.0", "id": request.id}
        if isinstance(result, RpcError):
            message["error"] = {"code": result.rpc_code, "message": result.message}
            if result.data is not None:
                message["error"]["data"] = result.data
        else:
            message["result"] = result
        try:
            await self._send(message, None, {})
        except ChannelLost:
            pass

    # -- what a transport calls ---------------------------------------------------------------

    def receive(self, message: Any, origin: int | None = None) -> None:
        """Take one decoded message from the wire. Anything that is not JSON-RPC is ignored."""
        if not isinstance(message, dict):
            return
        method = message.get("method")
        if isinstance(method, str):
            self._receive_call(method, message, origin)
            return
        exchange = self.pending.get(_as_int(message.get("id")))
        if exchange is None:
            return  # answered twice, after we gave up, or under an id that was never ours
        exchange.settled = True
        result, error = message.get("result"), message.get("error")
        if isinstance(error, dict):
            exchange.inbox.put_nowait(_Answer(None, error))
        elif isinstance(result, dict):
            exchange.inbox.put_nowait(_Answer(result, None))
        else:
            broken = {
                "code": INTERNAL_ERROR,
                "message": "The server sent an answer without a result.",
            }
            exchange.inbox.put_nowait(_Answer(None, broken))

    def _receive_call(self, method: str, message: Json, origin: int | None) -> None:
        params = message.get("params")
        if not isinstance(params, dict):
            params = None
        if method == "notifications/progress" and params is not None:
            origin = _as_int(params.get("progressToken"))
        request_id = message.get("id")
        inbound = Inbound(method, params, request_id if "id" in message else None, origin)
        exchange = self.pending.get(origin) if origin is not None else None
        if exchange is not None:
            exchange.put(inbound)
        else:
            self.on_stray(inbound)

    def fail(self, exchange: Exchange, error: ChannelLost) -> None:
        """End one request whose own stream broke, while the connection lives on."""
        exchange.settled = True
        exchange.inbox.put_nowait(_Lost(error))

    def lose(self, reason: str, *, gone: bool = False) -> None:
        """
        Report that the connection is over. Wakes every request in flight; safe to call twice.

        *gone* says that the server has forgotten our session.
        """
        if self.closed.is_set():
            return
        self.reason = reason
        self.closed.set()
        for exchange in list(self.pending.values()):
            error = SessionGone(reason) if gone else ChannelLost(reason, sent=exchange.sent)
            self.fail(exchange, error)

    # -- what a transport implements ----------------------------------------------------------

    async def ready(self, era: Era) -> None:  # noqa: B027 - most have nothing to start
        """The handshake is done: start what may only start now (an HTTP transport's own stream)."""

    @abstractmethod
    async def _send(
        self, message: Json, exchange: Exchange | None, headers: Mapping[str, str]
    ) -> None:
        """
        Write one message. For a request, set `exchange.sent` before the first byte may leave.

        Raises `ChannelLost` if it cannot be written.
        """

    async def _abandon(self, exchange: Exchange) -> None:
        """Tell the server that nobody waits for this request any more."""
        try:
            await self.notify("notifications/cancelled", {"requestId": exchange.id})
        except ChannelLost:
            pass
        if exchange.stop_reading is not None:
            exchange.stop_reading()

    def _ignore(self, inbound: Inbound) -> None:
        if inbound.id is not None:
            refusal = RpcError(METHOD_NOT_FOUND, "Nobody is listening on this connection yet.")
            self.spawn(self.respond(inbound, refusal))


def _rpc_error(error: Json) -> RpcError:
    code, message = error.get("code"), error.get("message")
    return RpcError(
        code if isinstance(code, int) else INTERNAL_ERROR,
        message if isinstance(message, str) else "The server reported an error without a message.",
        error.get("data"),
    )


def _as_int(value: Any) -> int:
    """Our ids are integers; some servers give them back as strings. -1 is never one of ours."""
    if isinstance(value, bool):
        return -1
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])
    return -1

"""
A channel to a FastMCP server in this process: the transport of plugins.

There is no socket and no stream. A request becomes a task, in which the SDK's own runner does what
it does for every transport; what the server says goes straight into the channel.

    session ── request() ──> _send() ──> a task: runner ──> middleware ──> tool
       ▲                                                                     │
       └── inbox ── receive() <── Backchannel: answer, progress, question <──┘

Both eras are served, each request in the era it comes in. Messages are copied as a wire would copy
them, so neither side can change what the other one holds. A request's task starts in an empty
context: a plugin cannot look into the client's HTTP request or its credentials.

Tasks are cancelled by asyncio, not by an anyio scope: FastMCP runs a plain function in a thread and
shields the wait for it, and a function that never returns would otherwise hold the channel open.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final
from uuid import uuid4

import anyio
import structlog
from fastmcp import FastMCP
from mcp.server.connection import Connection, NotifyOnlyOutbound
from mcp.server.runner import ServerRunner, aclose_shielded, serve_one
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request
from mcp.shared.jsonrpc_dispatcher import handler_exception_to_error_data
from mcp.shared.transport_context import TransportContext
from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT, ErrorData

from trunkline.downstream.channel import Channel, ChannelLost, Exchange
from trunkline.models import Era, Json
from trunkline.plugin.server import describe_exit, low_level, running
from trunkline.wire import (
    INTERNAL_ERROR,
    META_PROTOCOL_VERSION,
    METHOD_NOT_FOUND,
    decode,
    encode,
)

log = structlog.get_logger(__name__)

CLOSE_GRACE: Final = 2.0
"""Seconds a call that is cancelled is given to end; one that refuses is left behind, and logged."""

_origin: ContextVar[int | None] = ContextVar("origin", default=None)
"""The request that the running task serves: whatever it says belongs to that request."""


@asynccontextmanager
async def open_memory(
    server: FastMCP[Any], name: str, *, eras: Collection[Era] = frozenset(Era)
) -> AsyncGenerator[Channel]:
    """
    Connect to *server*, which is called *name*.

    *eras* limits what it speaks. FastMCP's `ctx.elicit` and sampling exist in the handshake era
    alone, so a server spoken to in that era can ask clients of both.
    """
    async with running(server) as state:
        channel = MemoryChannel(server, name, state, eras)
        try:
            yield channel
        finally:
            await channel.close()


class MemoryChannel(Channel):
    """One connection to one server in this process."""

    tells_origin: ClassVar[bool] = True

    def __init__(self, server: FastMCP[Any], name: str, state: Any, eras: Collection[Era]) -> None:
        super().__init__(name, self._start)
        self._core, self._state, self._eras = low_level(server), state, eras
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: dict[int | None, tuple[asyncio.Task[None], Backchannel]] = {}
        self._asked: dict[int, asyncio.Future[Json]] = {}
        self._asks = 0
        self._connection = Connection.for_loop(Backchannel(self), session_id=uuid4().hex)
        self._runner = ServerRunner(self._core, self._connection, state)

    async def close(self) -> None:
        """End every call and release the connection. Calls are given `CLOSE_GRACE` seconds."""
        self.lose("Trunkline closed the connection.")
        for asked in self._asked.values():
            asked.cancel()
        for task in self._tasks:
            task.cancel()
        try:
            if self._tasks:
                _, stuck = await asyncio.wait(self._tasks, timeout=CLOSE_GRACE)
                if stuck:
                    log.error("plugin.calls_stuck", plugin=self.server, calls=len(stuck))
        finally:
            await aclose_shielded(self._connection)

    # -- to the server ------------------------------------------------------------------------

    async def _send(
        self, message: Json, exchange: Exchange | None, headers: Mapping[str, str]
    ) -> None:
        if self.closed.is_set():
            raise ChannelLost(self.reason, sent=False)
        message = decode(encode(message))
        if "method" not in message:
            self._answered(message)
        elif exchange is None:
            self._notified(message["method"], message.get("params"))
        else:
            exchange.sent = True
            method, params = message["method"], message.get("params")
            back = Backchannel(self, exchange.id, params, may_ask=not _is_modern(method, params))
            task = self._start(self._serve(back, method, params))
            self._serving[exchange.id] = task, back
            task.add_done_callback(lambda _: self._serving.pop(back.request_id, None))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # A task group would wait without end for a tool that refuses to be cancelled.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _answered(self, message: Json) -> None:
        asked = self._asked.get(message["id"])
        if asked is None or asked.done():
            return
        if error := message.get("error"):
            asked.set_exception(MCPError(error["code"], error["message"], error.get("data")))
        else:
            asked.set_result(message["result"])

    def _notified(self, method: str, params: Json | None) -> None:
        if method == "notifications/cancelled":
            served = self._serving.get((params or {}).get("requestId", 0))
            if served is not None:
                task, back = served
                back.cancel_requested.set()
                task.cancel()
        else:
            self._start(self._take(method, params))

    async def _take(self, method: str, params: Json | None) -> None:
        try:
            await self._runner.on_notify(Backchannel(self), method, params)
        except (SystemExit, KeyboardInterrupt):
            log.exception("plugin.exit_contained", plugin=self.server, method=method)

    # -- serving one request ------------------------------------------------------------------

    async def _serve(self, back: "Backchannel", method: str, params: Json | None) -> None:
        """Run one request to its end and answer it, whatever the plugin does."""
        assert back.request_id is not None
        _origin.set(back.request_id)
        try:
            result = await self._run(back, method, params)
            answer: Json = {"result": decode(encode(result))}
        except asyncio.CancelledError:
            if back.cancel_requested.is_set() or self.closed.is_set():
                return
            answer = _failure(INTERNAL_ERROR, "The plugin cancelled its own call.")
        except (SystemExit, KeyboardInterrupt) as error:
            # Raised past FastMCP's middleware. In a task, it would end the event loop.
            log.exception("plugin.exit_contained", plugin=self.server, method=method)
            answer = _failure(
                INTERNAL_ERROR, f"The plugin tried to end the program ({describe_exit(error)})."
            )
        except BaseException as error:  # noqa: BLE001 - the border of one call: the others go on
            answer = {"error": self._error(error, method)}
        finally:
            back.closed = True
        self.receive({"jsonrpc": "2.0", "id": back.request_id, **answer}, back.request_id)

    async def _run(self, back: "Backchannel", method: str, params: Json | None) -> Json:
        modern = _is_modern(method, params)
        if (Era.MODERN if modern else Era.HANDSHAKE) not in self._eras:
            raise MCPError(METHOD_NOT_FOUND, "This server does not speak that protocol version.")
        if not modern:
            return await self._runner.on_request(back, method, params)
        route = classify_inbound_request({"method": method, "params": params})
        if isinstance(route, InboundLadderRejection):
            raise MCPError(route.code, route.message, route.data)
        connection = Connection.from_envelope(
            route.protocol_version,
            route.client_info,
            route.client_capabilities,
            outbound=NotifyOnlyOutbound(back),
        )
        return await serve_one(
            self._core, back, method, params, connection=connection, lifespan_state=self._state
        )

    def _error(self, error: BaseException, method: str) -> Json:
        known = handler_exception_to_error_data(error)
        if known is None:
            log.error("plugin.crashed", plugin=self.server, method=method, exc_info=error)
            known = ErrorData(
                code=INTERNAL_ERROR,
                message=f"The plugin {self.server!r} failed unexpectedly. The failure was logged.",
            )
        return known.model_dump(by_alias=True, mode="json", exclude_none=True)

    # -- from the server ----------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any] | None,
        timeout: float | None,
        origin: int | None,
    ) -> Json:
        """Send a server's request and wait for its answer. Raises `MCPError`."""
        if self.closed.is_set():
            raise MCPError(CONNECTION_CLOSED, self.reason)
        self._asks += 1
        ask_id = self._asks
        asked = self._asked[ask_id] = asyncio.get_running_loop().create_future()
        message = {"jsonrpc": "2.0", "id": ask_id, "method": method, "params": params}
        self._deliver(message, origin)
        try:
            async with asyncio.timeout(timeout):
                return await asked
        except TimeoutError:
            self._withdraw(ask_id, origin)
            raise MCPError(REQUEST_TIMEOUT, f"{method} was not answered in time.") from None
        except asyncio.CancelledError:
            self._withdraw(ask_id, origin)
            raise
        finally:
            del self._asked[ask_id]

    async def tell(self, method: str, params: Mapping[str, Any] | None, origin: int | None) -> None:
        """Send a server's notification, and give everybody else a turn."""
        if not self.closed.is_set():
            self._deliver({"jsonrpc": "2.0", "method": method, "params": params}, origin)
        await asyncio.sleep(0)

    def _withdraw(self, ask_id: int, origin: int | None) -> None:
        if not self.closed.is_set():
            params = {"requestId": ask_id}
            self._deliver({"method": "notifications/cancelled", "params": params}, origin)

    def _deliver(self, message: Json, origin: int | None) -> None:
        if message.get("params") is None:
            message = {key: value for key, value in message.items() if key != "params"}
        self.receive(decode(encode(message)), _origin.get() if origin is None else origin)


@dataclass(eq=False)
class Backchannel:
    """The way from the server to the client: the SDK's `DispatchContext` of one message."""

    channel: MemoryChannel
    request_id: int | None = None
    """The request being served; None for a notification, and for the connection itself."""

    params: Json | None = None
    may_ask: bool = True
    """Whether the server may ask questions: not in the modern era."""

    closed: bool = False
    cancel_requested: anyio.Event = field(default_factory=anyio.Event)
    message_metadata: None = None

    @property
    def can_send_request(self) -> bool:
        return self.may_ask and not self.closed

    @property
    def transport(self) -> TransportContext:
        return TransportContext(kind="memory", can_send_request=self.may_ask)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> Json:
        if not self.can_send_request:
            raise NoBackChannelError(method)
        return await self.channel.ask(method, params, (opts or {}).get("timeout"), self.request_id)

    async def notify(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> None:
        if not self.closed:
            await self.channel.tell(method, params, self.request_id)

    async def progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        token = ((self.params or {}).get("_meta") or {}).get("progressToken")
        if token is None:
            return
        told = {"progressToken": token, "progress": progress, "total": total, "message": message}
        await self.notify(
            "notifications/progress",
            {key: value for key, value in told.items() if value is not None},
        )


def _is_modern(method: str, params: Json | None) -> bool:
    meta = (params or {}).get("_meta")
    return method != "initialize" and isinstance(meta, dict) and META_PROTOCOL_VERSION in meta


def _failure(code: int, message: str) -> Json:
    return {"error": {"code": code, "message": message}}

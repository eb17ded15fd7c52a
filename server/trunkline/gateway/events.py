"""
Event streams over HTTP, and how they end.

Both HTTP transports open streams: some wait for news as long as the client stays, some carry one
call. `Stopping` is how the server tells them that it is on its way out.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
import structlog
from mcp_types import JSONRPCMessage
from starlette.types import Receive, Send

from trunkline.gateway.messages import encode_message

log: Any = structlog.get_logger(__name__)

QUIET: Final = 15.0
"""Seconds a client or a proxy is left without a byte before a stream is opened, or pinged."""

PING: Final = b": ping\r\n\r\n"

STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class Moment:
    """Something that happens once, and that work can be made to end with."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._scopes: set[anyio.CancelScope] = set()

    def is_past(self) -> bool:
        """Whether it has happened."""
        return self._event.is_set()

    def come(self) -> None:
        """It happens now."""
        self._event.set()
        for scope in list(self._scopes):
            scope.cancel()

    async def wait(self) -> None:
        """Return once it has happened."""
        await self._event.wait()

    @contextmanager
    def ends(self) -> Generator[None]:
        """Run the body until it happens; then leave it, wherever it is."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            if self.is_past():
                scope.cancel()
            try:
                yield
            finally:
                self._scopes.discard(scope)


class Stopping:
    """How far the server is on its way out. The two moments come in this order."""

    def __init__(self) -> None:
        self.begun = Moment()
        """No new work: streams that only wait for news are closed."""

        self.due = Moment()
        """The grace is over: calls in flight are answered with an error."""


def as_event(data: bytes, kind: bytes = b"message") -> bytes:
    """One server-sent event. *data* is a single line."""
    return b"event: " + kind + b"\r\ndata: " + data + b"\r\n\r\n"


@asynccontextmanager
async def event_stream(
    receive: Receive, send: Send, headers: Sequence[tuple[bytes, bytes]] = ()
) -> AsyncGenerator[None]:
    """
    Answer with an event stream that the body writes to with `send_event`.

    The body is left when the client leaves. Either way the response is complete afterwards.
    """
    await send(
        {"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *headers]}
    )
    async with anyio.create_task_group() as tasks:

        async def leave_with_client() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        tasks.start_soon(leave_with_client)
        yield
        tasks.cancel_scope.cancel()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def send_event(send: Send, message: JSONRPCMessage | None) -> None:
    """Write one message to an event stream, or a ping if there is none."""
    try:
        chunk = PING if message is None else as_event(encode_message(message))
    except ValueError as error:
        log.warning("message.dropped", reason=str(error))
        return
    await send({"type": "http.response.body", "body": chunk, "more_body": True})

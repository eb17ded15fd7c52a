"""
One HTTP connection, from the first byte: what is too much or takes too long ends here.

uvicorn bounds neither the head of a request nor the time it takes to arrive, and where it limits
connections it turns away clients it has already. A request that never becomes one is answered
here, with the sentence and the headers that any other refusal has.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, cast

import structlog
import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from trunkline.gateway.guard import refuse
from trunkline.gateway.security_headers import ALL
from trunkline.settings import HttpSettings

log: Any = structlog.get_logger(__name__)

MAX_HEADERS: Final = 256
"""Headers one request may have."""

SWEEP: Final = 1.0
"""Seconds between two looks at who takes too long, at most."""

_NO_TRAILERS: Final[Any] = deque[tuple[bytes, bytes]](maxlen=0)
"""Where trailers go. As headers they would come after everybody has looked at the headers."""


class Connection(HttpToolsProtocol):
    """A connection that bounds the requests it carries."""

    def __init__(self, config: uvicorn.Config, *args: Any, limits: HttpSettings, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        self._limits = limits
        self._since: float | None = None
        """When the request that is coming in began, or the connection did."""

        self._overhead = 0
        """Bytes that came since the last ones of a body: a head, or trailers."""

    def end_if_slow(self, now: float) -> None:
        """Close the connection if the request that is coming in has taken too long."""
        if self._since is None:
            return
        if self.flow.read_paused:
            self._since = now  # it is us who do not read
        elif now - self._since > self._limits.request_timeout:
            self._refuse(
                408,
                f"The request did not arrive within {self._limits.request_timeout:g} seconds "
                "(TRUNKLINE_HTTP__REQUEST_TIMEOUT).",
            )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        limit = self._limits.max_connections
        if len(self.connections) > limit:
            # Answered once it has asked: closing a connection with a request unread resets it.
            self.app = _closing(
                503,
                f"All {limit} connections are in use (TRUNKLINE_HTTP__MAX_CONNECTIONS). "
                "Try again later.",
            )
            if len(self.connections) == limit + 1:
                log.warning("connections.full", limit=limit)

    def connection_lost(self, exc: Exception | None) -> None:
        self._since = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._since is None and self._is_idle:
            self._since = self.loop.time()
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > self._limits.max_head and self._since is not None:
            self._refuse(431, self._too_large)

    def on_message_begin(self) -> None:
        if self._since is None:
            self._since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._head_is_too_large():
            self.app = _closing(431, self._too_large)
        super().on_headers_complete()
        self.headers = _NO_TRAILERS

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._since, self._overhead = None, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "This is not HTTP/1.1 as it should be.")

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being served."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    @property
    def _too_large(self) -> str:
        return (
            f"The head of the request is larger than {MAX_HEADERS} headers or "
            f"{self._limits.max_head} bytes (TRUNKLINE_HTTP__MAX_HEAD)."
        )

    def _head_is_too_large(self) -> bool:
        if len(self.headers) > MAX_HEADERS:
            return True
        limit = self._limits.max_head
        if self._overhead <= limit:
            return False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        return size > limit

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer a request that has not arrived, unless it is being answered; then close."""
        self._since = None
        if self.transport.is_closing():
            return
        if self._is_idle or (self.cycle.more_body and not self.cycle.response_started):
            answer = _closing(status, sentence)
            lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
            lines += [name + b": " + value for name, value in answer.raw_headers]
            self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        self.transport.close()


async def end_slow(connections: Iterable[Any], timeout: float) -> None:
    """End those of *connections* that take longer than *timeout* to ask, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(min(SWEEP, timeout / 4))
        for connection in list(connections):
            if isinstance(connection, Connection):
                connection.end_if_slow(loop.time())


def _closing(status: int, sentence: str) -> Response:
    """A refusal after which the connection is closed."""
    answer = refuse(status, sentence)
    answer.raw_headers += [*ALL, (b"connection", b"close")]
    return answer

"""
Streamable HTTP: one session per handshake client, and a framing chosen per response.

The MCP package decides once per application whether a POST is answered with JSON or with an event
stream. The specification lets a server decide each time, and that is worth a factor of two: JSON
is cheap and keeps the connection alive, but only a stream can carry a notification or a question
before the answer. So the headers of a response wait for the first message:

    POST ── first message? ──┬── the answer ──────────────── application/json
                             ├── anything else ───────────── text/event-stream, until the answer
                             └── nothing for a while ─────── text/event-stream, pings meanwhile

Modern requests (2026-07-28) go to the package's own handler, which defers in the same way.

Everything private of the MCP package that the HTTP face relies on is named in this file, and
tests/gateway/test_framing.py fails if it changes.
"""

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Final
from uuid import uuid4

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream
from fastmcp import FastMCP
from mcp.server._streamable_http_modern import (  # pyright: ignore[reportPrivateUsage]
    handle_modern_request,
)
from mcp.server.streamable_http import (
    GET_STREAM_KEY,
    MCP_SESSION_ID_HEADER,
    REQUEST_STREAM_BUFFER_SIZE,
    EventMessage,
    StreamableHTTPServerTransport,
    check_accept_headers,
)
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import ErrorData, JSONRPCError, JSONRPCMessage, JSONRPCRequest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from trunkline.gateway.events import QUIET, Stopping, event_stream, send_event
from trunkline.gateway.guard import refuse
from trunkline.gateway.identity import Owner, owner_of, while_identified
from trunkline.gateway.messages import Answer, Malformed, encode_message, parse_message
from trunkline.plugin.server import low_level
from trunkline.settings import HttpSettings
from trunkline.wire import HANDSHAKE_VERSIONS, INTERNAL_ERROR

ENDED: Final = "The session ended before this request was answered."


class HttpSessions(StreamableHTTPSessionManager):
    """Every client session of one application, as one ASGI endpoint for both eras."""

    def __init__(
        self,
        server: FastMCP,
        settings: HttpSettings,
        stopping: Stopping,
        *,
        quiet: float = QUIET,
    ) -> None:
        super().__init__(
            low_level(server),
            session_idle_timeout=settings.session_idle_timeout,
            max_sessions=settings.max_sessions,
        )
        self._stopping = stopping
        self._quiet = quiet
        self._owners: dict[str, Owner] = {}

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Serve while entered. Enters the server's own lifespan, once."""
        async with super().run(), anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_when_due)
            yield
            tasks.cancel_scope.cancel()

    def has_stream(self, session_id: str) -> bool:
        """Whether a handshake client listens for what belongs to none of its requests."""
        transport = self._server_instances.get(session_id)
        return transport is not None and GET_STREAM_KEY in transport._request_streams  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        version = headers.get("mcp-protocol-version")
        if scope["method"] == "POST" and not _is_json(headers.get("content-type", "")):
            sentence = "Send the message with `Content-Type: application/json`."
            await refuse(415, sentence)(scope, receive, send)
        elif version is None or version in HANDSHAKE_VERSIONS:
            await self._serve_handshake(headers, scope, receive, send)
        else:
            await self._serve_modern(headers, scope, receive, send)

    async def _serve_handshake(
        self, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        session_id = headers.get(MCP_SESSION_ID_HEADER)
        owner = owner_of(scope)
        if session_id is not None:
            transport = self._server_instances.get(session_id)
            # To anybody but its owner a session does not exist.
            if transport is None or self._owners.get(session_id) != owner:
                await _session_not_found()(scope, receive, send)
                return
            await transport.handle_request(scope, receive, send)
            if transport.is_terminated:
                await self._discard_session(session_id, transport)
        elif scope["method"] in ("GET", "DELETE"):
            await _session_missing()(scope, receive, send)
        elif (opened := self._admit(owner)) is not None:
            await self._serve_opening_request(opened, scope, receive, send)
        else:
            sentence = f"All {self.max_sessions} sessions are in use. Try again later."
            await refuse(503, sentence, code=INTERNAL_ERROR)(scope, receive, send)

    def _admit(self, owner: Owner) -> "HttpTransport | None":
        if self.max_sessions is not None and len(self._server_instances) >= self.max_sessions:
            return None
        session_id = uuid4().hex
        transport = HttpTransport(
            session_id, self._stopping, quiet=self._quiet, idle_timeout=self.session_idle_timeout
        )
        self._server_instances[session_id] = transport
        self._owners[session_id] = owner
        return transport

    async def _discard_session(
        self, session_id: str, transport: StreamableHTTPServerTransport
    ) -> None:
        self._owners.pop(session_id, None)
        await super()._discard_session(session_id, transport)

    async def _end_when_due(self) -> None:
        await self._stopping.due.wait()
        for session_id, transport in list(self._server_instances.items()):
            await self._discard_session(session_id, transport)

    async def _serve_modern(
        self, headers: Headers, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """
        Serve one modern request, which is a session of its own.

        When the server stops, a subscription ends at once and a call once the grace is over; the
        handler knows neither, so what it leaves unfinished is finished here.
        """
        accepts_json, accepts_stream = check_accept_headers(Request(scope))
        if scope["method"] == "POST" and not accepts_json:
            await _not_acceptable()(scope, receive, send)
            return
        # The white space around a value is no part of it (RFC 9110, 5.5); the parser leaves it.
        stripped = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        scope = {**scope, "headers": stripped}
        subscribes = headers.get("mcp-method", "").strip() == "subscriptions/listen"
        end = self._stopping.begun if subscribes else self._stopping.due
        started = finished = False

        async def track(message: Message) -> None:
            nonlocal started, finished
            started = True
            finished = message["type"] == "http.response.body" and not message.get("more_body")
            await send(message)

        with end.ends(), while_identified(scope) if subscribes else nullcontext():
            await handle_modern_request(
                self.app, None, not accepts_stream, self._lifespan_state, scope, receive, track
            )
        if not started:
            await refuse(503, "The server is stopping.", code=INTERNAL_ERROR)(scope, receive, send)
        elif not finished:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class HttpTransport(StreamableHTTPServerTransport):
    """One handshake client's session: its POSTs, and its stream for everything else."""

    def __init__(
        self, session_id: str, stopping: Stopping, *, quiet: float, idle_timeout: float | None
    ) -> None:
        super().__init__(session_id, idle_timeout=idle_timeout)
        self._stopping = stopping
        self._quiet = quiet
        self._headers = [(MCP_SESSION_ID_HEADER.encode(), session_id.encode())]

    async def _handle_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if self.is_terminated:
            await _session_not_found()(scope, receive, send)
        elif request.method == "POST":
            await self._receive_message(request, send)
        elif request.method == "GET":
            await self._open_stream(request, send)
        else:
            await super()._handle_request(scope, receive, send)

    async def _receive_message(self, request: Request, send: Send) -> None:
        """Take the one message a POST carries, and answer it if it is a request."""
        accepted = check_accept_headers(request)
        message = await self._read(request) if any(accepted) else _not_acceptable()
        if isinstance(message, Response):
            await message(request.scope, request.receive, send)
            return
        try:
            if isinstance(message, JSONRPCRequest):
                await self._answer(message, request, send, accepted)
            else:
                await _respond(send, 202, self._headers)
                await self._deliver(message, ServerMessageMetadata(request_context=request))
        except anyio.BrokenResourceError:
            # The session ended between our look at it and now.
            if isinstance(message, JSONRPCRequest):
                await _session_not_found()(request.scope, request.receive, send)

    async def _read(self, request: Request) -> JSONRPCMessage | Response:
        """The message of a POST, or the answer that refuses it."""
        try:
            message = parse_message(await request.body())
        except Malformed as error:
            return refuse(400, error.message, code=error.rpc_code)
        is_request = isinstance(message, JSONRPCRequest)
        if not ((is_request and message.method == "initialize") or self._get_session_id(request)):
            return _session_missing()
        if is_request and str(message.id) in self._request_streams:
            return refuse(
                400, f"The request id {message.id!r} is in use. Give each request its own."
            )
        return message

    async def _deliver(self, message: JSONRPCMessage, metadata: ServerMessageMetadata) -> None:
        """Hand a message to the server. Raises `BrokenResourceError` if the session has ended."""
        assert self._read_stream_writer is not None, "a session is connected before it is used"
        try:
            await self._read_stream_writer.send(SessionMessage(message, metadata))
        except anyio.ClosedResourceError:
            raise anyio.BrokenResourceError from None

    async def _answer(
        self, message: JSONRPCRequest, request: Request, send: Send, accepted: tuple[bool, bool]
    ) -> None:
        accepts_json, accepts_stream = accepted
        metadata = ServerMessageMetadata(
            request_context=request,
            on_request_unanswered=partial(self._terminate_unanswered_request, message.id),
            # Only a stream can bring a question to the client before the answer.
            can_send_request=accepts_stream,
        )
        ended = JSONRPCError(
            jsonrpc="2.0", id=message.id, error=ErrorData(code=INTERNAL_ERROR, message=ENDED)
        )
        with self._messages(str(message.id)) as messages:
            await self._deliver(message, metadata)
            first = None
            if accepts_json:
                quiet = self._quiet if accepts_stream else None
                first = await _next(messages, quiet, ended)
                while not accepts_stream and not isinstance(first, Answer):
                    first = await _next(messages, None, ended)
            if isinstance(first, Answer):
                await _respond(send, 200, self._headers, encode_message(first))
                return
            # A client that leaves does not cancel its call: in this era only it can say so.
            async with event_stream(request.receive, send, self._headers):
                await send_event(send, first)
                while not isinstance(first, Answer):
                    first = await _next(messages, self._quiet, ended)
                    await send_event(send, first)

    async def _open_stream(self, request: Request, send: Send) -> None:
        """Open the stream for whatever belongs to no request."""
        if not check_accept_headers(request)[1]:
            sentence = "This stream is `text/event-stream`: say so in the `Accept` header."
            await refuse(406, sentence)(request.scope, request.receive, send)
            return
        if GET_STREAM_KEY in self._request_streams:
            sentence = "This session has its stream open already. Close that one first."
            await refuse(409, sentence)(request.scope, request.receive, send)
            return
        with self._messages(GET_STREAM_KEY) as messages:
            async with event_stream(request.receive, send, self._headers):
                with self._stopping.begun.ends(), while_identified(request.scope):
                    try:
                        while True:
                            await send_event(send, await _next(messages, self._quiet))
                    except anyio.EndOfStream:
                        pass  # the session has ended, and its stream with it

    @contextmanager
    def _messages(self, key: str) -> Generator[MemoryObjectReceiveStream[EventMessage]]:
        """What the session's router sends to one response, while entered."""
        streams = anyio.create_memory_object_stream[EventMessage](REQUEST_STREAM_BUFFER_SIZE)
        self._request_streams[key] = streams
        try:
            with streams[0], streams[1]:
                yield streams[1]
        finally:
            self._request_streams.pop(key, None)


async def _next(
    messages: MemoryObjectReceiveStream[EventMessage],
    quiet: float | None,
    ended: JSONRPCMessage | None = None,
) -> JSONRPCMessage | None:
    """
    The next message for a response, or None after *quiet* seconds without one.

    Once the session is over: *ended* if given, else raises `EndOfStream`.
    """
    try:
        with anyio.move_on_after(quiet):
            return (await messages.receive()).message
        return None
    except (anyio.EndOfStream, anyio.ClosedResourceError):
        if ended is None:
            raise anyio.EndOfStream from None
        return ended


async def _respond(
    send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes = b""
) -> None:
    own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _not_acceptable() -> Response:
    sentence = "Not Acceptable: accept both `application/json` and `text/event-stream`."
    return refuse(406, sentence)


def _session_missing() -> Response:
    return refuse(400, "Missing session ID. Send `initialize` first, then its `Mcp-Session-Id`.")


def _session_not_found() -> Response:
    return refuse(404, "Session not found. It has ended: send `initialize` to open another.")

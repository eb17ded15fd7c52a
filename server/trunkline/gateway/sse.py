"""
HTTP+SSE, the transport of 2024-11-05: one stream per client, and its messages POSTed beside it.

    GET /sse ────────── event: endpoint, data: /messages/?session_id=…
                        event: message, for whatever the server says, until either side leaves
    POST /messages/ ──> 202, or 4xx and a sentence

The session lives as long as the stream. When the server stops it is closed as soon as nothing in
it waits for an answer.
"""

from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from uuid import uuid4

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from fastmcp import FastMCP
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import JSONRPCRequest, RequestId
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trunkline.gateway.events import QUIET, Stopping, as_event, event_stream, send_event
from trunkline.gateway.guard import refuse
from trunkline.gateway.identity import Owner, owner_of, while_identified
from trunkline.gateway.messages import Answer, Malformed, parse_message
from trunkline.plugin.server import low_level
from trunkline.settings import HttpSettings
from trunkline.wire import INTERNAL_ERROR


class Inbox(ObjectReceiveStream[SessionMessage | Exception]):
    """What the client POSTs. `last_context` is the context of the POST: who sent it."""

    def __init__(self) -> None:
        self._sender, self._receiver = anyio.create_memory_object_stream[
            tuple[Context, SessionMessage]
        ](0)
        self.last_context: Context | None = None

    async def put(self, message: SessionMessage) -> None:
        """Raises `BrokenResourceError` or `ClosedResourceError` once the session is over."""
        await self._sender.send((copy_context(), message))

    async def receive(self) -> SessionMessage:
        self.last_context, message = await self._receiver.receive()
        return message

    async def aclose(self) -> None:
        self._sender.close()
        self._receiver.close()


class Outbox(ObjectSendStream[SessionMessage]):
    """What the server says, straight onto the stream."""

    def __init__(self, send: Send, on_answer: Callable[[RequestId | None], None]) -> None:
        self._send, self._on_answer = send, on_answer
        self._closed = False

    async def send(self, item: SessionMessage) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
        await send_event(self._send, item.message)
        if isinstance(item.message, Answer):
            self._on_answer(item.message.id)

    async def aclose(self) -> None:
        self._closed = True


class SseSession:
    """One client: its inbox, and the requests it still waits for."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.inbox = Inbox()
        self._unanswered: set[RequestId | None] = set()
        self._settled = anyio.Event()

    async def put(self, request: Request) -> None:
        """
        Take the one message a POST carries.

        Raises `Malformed`, or `BrokenResourceError` once the session is over.
        """
        message = parse_message(await request.body())
        metadata = ServerMessageMetadata(request_context=request)
        if isinstance(message, JSONRPCRequest):
            self._unanswered.add(message.id)
            metadata.on_request_unanswered = partial(self._settle_quietly, message.id)
        try:
            await self.inbox.put(SessionMessage(message, metadata))
        except anyio.ClosedResourceError:
            raise anyio.BrokenResourceError from None

    def settle(self, request_id: RequestId | None) -> None:
        """Note that a request has its answer, or will never have one."""
        self._unanswered.discard(request_id)
        self._settled.set()

    async def _settle_quietly(self, request_id: RequestId) -> None:
        self.settle(request_id)

    async def wait_until_settled(self) -> None:
        """Return once no request waits for an answer."""
        while self._unanswered:
            self._settled = anyio.Event()
            await self._settled.wait()


class SseSessions:
    """Every HTTP+SSE client of one application."""

    def __init__(
        self,
        server: FastMCP,
        settings: HttpSettings,
        stopping: Stopping,
        *,
        messages: str = "/messages/",
        quiet: float = QUIET,
    ) -> None:
        self._server = low_level(server)
        self._limit = settings.max_sessions
        self._stopping, self._quiet, self._messages = stopping, quiet, messages
        self._sessions: dict[str, SseSession] = {}

    async def open(self, scope: Scope, receive: Receive, send: Send) -> None:
        """GET: hold one client's stream open and serve it."""
        if scope["method"] == "HEAD":  # Starlette adds it; its answer would never end
            await refuse(405, "This stream is opened with GET.")(scope, receive, send)
            return
        if len(self._sessions) >= self._limit:
            sentence = f"All {self._limit} sessions are in use. Try again later."
            await refuse(503, sentence, code=INTERNAL_ERROR)(scope, receive, send)
            return
        session_id, session = uuid4().hex, SseSession(owner_of(scope))
        self._sessions[session_id] = session
        path = f"{scope.get('root_path', '').rstrip('/')}{self._messages}?session_id={session_id}"
        try:
            async with event_stream(receive, send):
                chunk = as_event(path.encode(), b"endpoint")
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                with while_identified(scope):
                    await self._serve(session, send)
        finally:
            del self._sessions[session_id]
            await session.inbox.aclose()

    async def _serve(self, session: SseSession, send: Send) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._stop, session, tasks.cancel_scope)
            tasks.start_soon(self._ping, send)
            await self._server.run(
                session.inbox,
                Outbox(send, session.settle),
                self._server.create_initialization_options(),
            )
            tasks.cancel_scope.cancel()

    async def _stop(self, session: SseSession, stream: anyio.CancelScope) -> None:
        await self._stopping.begun.wait()
        with self._stopping.due.ends():
            await session.wait_until_settled()
        stream.cancel()

    async def _ping(self, send: Send) -> None:
        while True:
            await anyio.sleep(self._quiet)
            await send_event(send, None)

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST: one message for the session that the query names."""
        answer = await self._accept(Request(scope, receive))
        await answer(scope, receive, send)

    async def _accept(self, request: Request) -> Response:
        session = self._sessions.get(request.query_params.get("session_id", ""))
        # To anybody but its owner a session does not exist.
        if session is None or session.owner != owner_of(request.scope):
            return refuse(404, "Session not found. It ended with its stream: open /sse again.")
        try:
            await session.put(request)
        except Malformed as error:
            return refuse(400, error.message, code=error.rpc_code)
        except anyio.BrokenResourceError:
            return refuse(404, "Session not found. It has just ended: open /sse again.")
        return Response("Accepted", 202)

"""
A low-level MCP server whose handlers speak raw JSON.

The SDK's typed models drop fields they do not know, and a server that measures whether a gateway
is lossless must be lossless itself. So one middleware, the outermost, answers every request it has
a handler for with the dict that goes on the wire. The SDK keeps the transports, the handshake and
`subscriptions/listen`.

    transport ── SDK runner ── RawServer._answer ──┬── handler(Request) -> dict     (raw)
                                                   └── call_next                    (SDK)

A handler asks its client with `Request.ask_all`, in both eras. The handshake era has requests from
server to client for it. The modern era does not: there the handler is left with `input_required`
and run again from the top at every retry, and questions that have been answered return at once.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import event_from_wire
from mcp_types.methods import validate_client_request
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic_core import from_json, to_json

Json = dict[str, Any]
Question = tuple[str, Json]
"""A server-to-client request: its method and its params."""

INVALID_PARAMS: Final = -32602
METHOD_NOT_FOUND: Final = -32601
MISSING_CLIENT_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022

CACHEABLE: Final = frozenset(
    {
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "server/discover",
    }
)
"""Methods whose modern results owe `ttlMs` and `cacheScope`."""

CAPABILITY_FOR: Final = {
    "elicitation/create": "elicitation",
    "sampling/createMessage": "sampling",
    "roots/list": "roots",
}
LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
META: Final = "io.modelcontextprotocol/"
"""The prefix of a modern request's reserved `_meta` keys."""


class InputRequired(Exception):
    """Leaves a handler when the modern client has to answer first. Carries the result to send."""

    def __init__(self, result: Json) -> None:
        super().__init__("the client has to answer first")
        self.result = result


class Seal:
    """Signs the state that travels through the client, so that a changed one is noticed."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def close(self, value: Any) -> str:
        """*value*, signed and fit for `requestState`."""
        payload = to_json(value)
        return base64.urlsafe_b64encode(self._sign(payload) + payload).decode()

    def open(self, token: str) -> Any:
        """What was closed. Raises `MCPError` (-32602) if the token is not one of ours."""
        try:
            raw = base64.urlsafe_b64decode(token.encode())
        except ValueError:
            raw = b""
        signature, payload = raw[:32], raw[32:]
        # Decoding ignores what follows the padding, so the text itself is compared as well.
        genuine = base64.urlsafe_b64encode(raw).decode() == token
        if not genuine or not hmac.compare_digest(signature, self._sign(payload)):
            raise MCPError(INVALID_PARAMS, "requestState was not issued by this server.")
        return from_json(payload)

    def _sign(self, payload: bytes) -> bytes:
        return hmac.digest(self._key, payload, hashlib.sha256)


@dataclass(slots=True, eq=False)
class Peer:
    """One client: a handshake connection for as long as it lasts, or one modern request."""

    connection: Connection
    modern: bool
    info: Json = field(default_factory=dict)
    capabilities: Json = field(default_factory=dict)
    protocol_version: str = ""
    level: str | None = None
    """The lowest level of log messages the client wants; None if it never said."""

    subscriptions: set[str] = field(default_factory=set[str])
    notes: Json = field(default_factory=dict)
    """Whatever a server wants to remember about this client."""


class Request:
    """One request, as its handler sees it."""

    def __init__(
        self, server: "RawServer", peer: Peer, ctx: ServerRequestContext[Any, Any]
    ) -> None:
        self.server, self.peer, self.method = server, peer, ctx.method
        self.params: Json = dict(ctx.params or {})
        self.meta: Json = self.params.get("_meta") or {}
        self.close_stream = ctx.close_sse_stream
        """Ends this request's own event stream, which the client may resume. HTTP only."""

        self.headers: dict[str, str] = dict(ctx.request.headers) if ctx.request else {}
        # The request's own way out: typed sends would drop what their models do not know.
        self._outbound = ctx.session._request_outbound  # pyright: ignore[reportPrivateUsage]
        self._rounds: list[Json] | None = None
        self._asked = 0

    async def tell(self, method: str, params: Json) -> None:
        """Send a notification on this request's own stream."""
        await self._outbound.notify(method, params)

    async def progress(self, progress: float, total: float, message: str) -> None:
        """Report progress, if the client asked for it."""
        token = self.meta.get("progressToken")
        if token is not None:
            params = {"progressToken": token, "progress": progress, "total": total}
            await self.tell("notifications/progress", {**params, "message": message})

    async def log(self, level: str, data: Any, **further: Any) -> None:
        """Send a log message if the client wants it; *further* are fields beside `data`."""
        wanted = self.meta.get(META + "logLevel") if self.peer.modern else self.peer.level
        if wanted is None and self.peer.modern:
            return
        if wanted is None or LEVELS.index(level) >= LEVELS.index(wanted):
            await self.tell("notifications/message", {"level": level, "data": data, **further})

    async def ask(self, method: str, params: Json) -> Json:
        """Ask the client one question and return its result."""
        return (await self.ask_all({"answer": (method, params)}))["answer"]

    async def ask_all(self, questions: Mapping[str, Question], *, sealed: bool = False) -> Json:
        """
        Ask the client and return its results under the same keys.

        In the modern era this leaves the handler (`InputRequired`) until the answers are there;
        with *sealed* even the first round carries a `requestState`. Raises `MCPError` with the
        client's own error, or -32021 if a modern client did not declare that it can be asked.
        """
        if not self.peer.modern:
            return {
                key: await self._outbound.send_raw_request(method, params)
                for key, (method, params) in questions.items()
            }
        self._require_capabilities(questions)
        rounds = self._answered()
        self._asked += 1
        if self._asked <= len(rounds):
            return rounds[self._asked - 1]
        given: Json = self.params.get("inputResponses") or {}
        if all(isinstance(given.get(key), dict) for key in questions):
            answers = {key: given[key] for key in questions}
            rounds.append(answers)
            self.params.pop("inputResponses")
            return answers
        raise InputRequired(self._question_result(questions, rounds, sealed=sealed))

    def _answered(self) -> list[Json]:
        """The answers of the rounds that came before this retry."""
        if self._rounds is None:
            state = self.params.get("requestState")
            self._rounds = [] if state is None else cast("list[Json]", self.server.seal.open(state))
        return self._rounds

    def _question_result(
        self, questions: Mapping[str, Question], rounds: list[Json], *, sealed: bool
    ) -> Json:
        requests = {key: {"method": m, "params": p} for key, (m, p) in questions.items()}
        result: Json = {"resultType": "input_required", "inputRequests": requests}
        if rounds or sealed:
            result["requestState"] = self.server.seal.close(rounds)
        return result

    def _require_capabilities(self, questions: Mapping[str, Question]) -> None:
        wanted = {CAPABILITY_FOR[method] for method, _ in questions.values()}
        missing = sorted(wanted - self.peer.capabilities.keys())
        if missing:
            raise MCPError(
                MISSING_CLIENT_CAPABILITY,
                f"This needs a client that supports {' and '.join(missing)}.",
                {"requiredCapabilities": {name: {} for name in missing}},
            )


Handler = Callable[[Request], Awaitable[Json]]


class RawServer:
    """A server made of raw handlers. Host it with `tests.servers.hosting`."""

    def __init__(
        self,
        info: Json,
        *,
        capabilities: Json,
        handlers: Mapping[str, Handler],
        instructions: str | None = None,
        extras: Json | None = None,
        ttl_ms: int = 0,
        speaks: str | None = None,
    ) -> None:
        """
        *extras* are added to what `initialize` and `server/discover` answer; *speaks* is the
        handshake version to answer whatever the client proposes.
        """
        self.info, self.handlers, self.ttl_ms, self.speaks = info, handlers, ttl_ms, speaks
        self.greeting: Json = {"capabilities": capabilities, **(extras or {})}
        if instructions is not None:
            self.greeting["instructions"] = instructions
        self.seal = Seal()
        self.peers: set[Peer] = set()
        """The handshake clients that are connected now."""

        self.on_message: Callable[[str, Json], None] = lambda method, params: None
        """Sees every request and notification before it is answered."""

        self.refuses_handshake = False
        self._bus = InMemorySubscriptionBus()
        self.sdk = Server[Json](info["name"], on_subscriptions_listen=ListenHandler(self._bus))
        self.sdk.middleware[:] = [self._answer]

    async def announce(self, method: str, params: Json | None = None) -> None:
        """Send a notification to every client; `resources/updated` only to its subscribers."""
        for peer in list(self.peers):
            if method != "notifications/resources/updated" or (params or {})["uri"] in (
                peer.subscriptions
            ):
                await peer.connection.notify(method, params)
        event = event_from_wire(method, params)
        if event is not None:
            await self._bus.publish(event)

    async def _answer(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        self.on_message(ctx.method, dict(ctx.params or {}))
        if ctx.request_id is None:
            return await call_next(ctx)
        peer = self._peer(ctx)
        if ctx.method == "initialize":
            return await self._greet(peer, ctx, call_next)
        if ctx.method == "server/discover" and peer.modern:
            return self._complete(ctx.method, peer, self._discovery())
        handler = self.handlers.get(ctx.method)
        if handler is None or not peer.connection.initialize_accepted:
            return await call_next(ctx)
        try:
            validate_client_request(ctx.method, ctx.protocol_version, ctx.params)
        except KeyError:
            raise MCPError(METHOD_NOT_FOUND, "Method not found", ctx.method) from None
        try:
            result = await handler(Request(self, peer, ctx))
        except InputRequired as question:
            result = question.result
        return self._complete(ctx.method, peer, result)

    def _peer(self, ctx: ServerRequestContext[Any, Any]) -> Peer:
        connection = ctx.session._connection  # pyright: ignore[reportPrivateUsage]
        peer = connection.state.get("peer")
        if peer is None:
            modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
            meta: Json = ((ctx.params or {}).get("_meta") or {}) if modern else {}
            peer = connection.state["peer"] = Peer(
                connection,
                modern,
                info=meta.get(META + "clientInfo") or {},
                capabilities=meta.get(META + "clientCapabilities") or {},
                protocol_version=ctx.protocol_version,
            )
        return peer

    async def _greet(
        self, peer: Peer, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> Json:
        params = ctx.params or {}
        if self.refuses_handshake and not peer.modern:
            raise unsupported(params.get("protocolVersion"))
        # A modern request has no `initialize`: the SDK answers that the method does not exist.
        result = cast("Json", await call_next(ctx))
        result |= {**self.greeting, "serverInfo": self.info}
        if self.speaks is not None:
            result["protocolVersion"] = self.speaks
        peer.info, peer.capabilities = params["clientInfo"], params["capabilities"]
        peer.protocol_version = result["protocolVersion"]
        self.peers.add(peer)
        peer.connection.exit_stack.callback(self.peers.discard, peer)
        return result

    def _discovery(self) -> Json:
        greeting = {**self.greeting, "capabilities": dict(self.greeting["capabilities"])}
        greeting["capabilities"].pop("logging", None)  # per request, no capability any more
        return {"supportedVersions": list(MODERN_PROTOCOL_VERSIONS), **greeting}

    def _complete(self, method: str, peer: Peer, result: Json) -> Json:
        """Add what the modern era owes: result type, cache hints, the server's identity."""
        if not peer.modern:
            return result
        owed: Json = {"resultType": "complete"}
        if method in CACHEABLE and result.get("resultType") != "input_required":
            owed |= {"ttlMs": self.ttl_ms, "cacheScope": "public"}
        meta = {META + "serverInfo": self.info, **(result.get("_meta") or {})}
        return {**owed, **result, "_meta": meta}


def unsupported(requested: object) -> MCPError:
    """How a modern server refuses another revision."""
    return MCPError(
        UNSUPPORTED_VERSION,
        "This server speaks the 2026-07-28 protocol only.",
        {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": str(requested)},
    )

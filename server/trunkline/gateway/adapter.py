"""
Where the MCP SDK ends and Trunkline begins: how the SDK hands requests over.

The low-level server runs a list of middleware around every message and sends a dict that one of
them returns as it is (`mcp.server.runner.ServerRunner`). `Adapter` stands first in that list: it
answers every request that is about the catalog or a provider with a raw dict, so that no typed
model drops a field on the way. What is about the connection itself (initialize, discover, ping) the
SDK answers, and the adapter only completes it.

The list is a provisional part of the SDK; `tests/gateway/test_adapter.py` fails if it changes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

import structlog
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from trunkline.catalog.catalog import Catalog
from trunkline.catalog.view import View
from trunkline.dispatch import Dispatch
from trunkline.errors import InvalidArguments, NotFound, RpcError, TrunklineError
from trunkline.gateway.announcements import Announcements
from trunkline.gateway.callers import (
    STATE,
    FrontClient,
    RequestCaller,
    binding_of,
    connection_of,
    front_of,
    handshake_client,
    is_modern,
    modern_client,
    principal_of,
    reachability_of,
)
from trunkline.gateway.exposure import Exposure
from trunkline.gateway.held import HeldCalls
from trunkline.gateway.meta_tools import CALL, meant_by
from trunkline.gateway.shape import listed, rpc_failure, shape, tool_failure
from trunkline.models import PRINCIPAL, Caller, Client, Era, Json, Kind, Principal
from trunkline.plugin.server import low_level
from trunkline.providers.provider import Provider
from trunkline.wire import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, LOG_LEVELS

log = structlog.get_logger(__name__)

Context = ServerRequestContext[Any, Any]


class OwnTools(Protocol):
    """Tools of the gateway itself."""

    names: frozenset[str]
    asks: bool
    """Whether they may ask something of the person at the client."""

    def listed(self, client: Client, view: View) -> Sequence[Json]:
        """The definitions of those that are listed for this client, who sees *view*."""
        ...

    async def call(self, name: str, arguments: Any, caller: Caller) -> Json:
        """Run one and return its result. What went wrong is in it, for the model to read."""
        ...


PROTOCOL_ERRORS: Final = (RpcError, NotFound, InvalidArguments)
"""What is wrong with a request itself. Everything else that keeps a tool from running is for the
model to read: it is the result of the tool."""

CRASHED: Final = "Something went wrong here that should not have. The gateway's log has the reason."

EVERYTHING: Final = Exposure()

OPENING: Final = 2.0
"""Seconds the first request may wait for what the last run left in the database."""

LISTS: Final[Mapping[str, tuple[Kind, str]]] = {
    "tools/list": ("tools", "tools"),
    "prompts/list": ("prompts", "prompts"),
    "resources/list": ("resources", "resources"),
    "resources/templates/list": ("templates", "resourceTemplates"),
}
CAPABILITIES: Final[Json] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "logging": {},
    "completions": {},
}
"""Declared to every client: a downstream that offers a feature may come at any time."""

NAME_OF: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
}
"""The requests that can end in a question, and the member that names their target."""


class Adapter:
    """First in the SDK server's middleware: answers what is Trunkline's to answer."""

    def __init__(
        self,
        catalog: Catalog,
        dispatch: Dispatch,
        announcements: Announcements,
        held: HeldCalls,
        providers: Callable[[], Sequence[Provider]],
        on_client: Callable[[Caller], None],
        opened: asyncio.Event,
        own_tools: Sequence[OwnTools] = (),
        exposure: Exposure = EVERYTHING,
    ) -> None:
        """
        *on_client* hears of every client that makes itself known, before it is answered.

        *opened* is set when the catalog of the last run is there: the first requests wait for it,
        but no longer than `OPENING`. *own_tools* are offered beside those of the catalog.
        """
        self._catalog, self._dispatch, self._held = catalog, dispatch, held
        self._announcements, self._providers, self._on_client = announcements, providers, on_client
        self._opened, self._own_tools, self._exposure = opened, own_tools, exposure
        self._server_info: Json = {}
        self._requests: dict[str, Callable[[Context, Json, RequestCaller], Awaitable[Json]]] = {
            **dict.fromkeys(LISTS, self._list),
            **dict.fromkeys(NAME_OF, self._ask_or_send),
            "tools/call": self._call,
            "completion/complete": self._send,
        }
        self._handshake = {
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "logging/setLevel": self._set_level,
        }
        self._modern = {"subscriptions/listen": self._listen}

    def install(self, server: FastMCP[Any]) -> None:
        """Put the adapter in front of a FastMCP server."""
        core = low_level(server)
        self._server_info = core.server_info_stamp
        core.middleware.insert(0, self)
        core.get_tool_input_schema = self._input_schema

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        context = ctx
        if context.request_id is None:
            await self._notified(context)
            return await call_next(context)
        modern = is_modern(context)
        era_requests = self._modern if modern else self._handshake
        answer = self._requests.get(context.method) or era_requests.get(context.method)
        if answer is None:
            return await self._pass(context, call_next)
        connection = connection_of(context)
        front = front_of(connection)
        if front is None and not modern:
            raise MCPError(INVALID_PARAMS, "Send `initialize` first.", {"code": "not_initialized"})
        caller = RequestCaller(context, _client(context, front), front)
        client = caller.client
        if modern:
            self._on_client(caller)
        if not self._opened.is_set():
            await self._wait_until_opened()
        params = dict(context.params or {})
        try:
            return await answer(context, params, caller)
        except TrunklineError as error:
            if context.method == "tools/call" and not isinstance(error, PROTOCOL_ERRORS):
                return shape(tool_failure(error), client.era, self._server_info)
            raise rpc_failure(error, context.method, client.era) from error
        except MCPError:
            raise
        except Exception as error:  # the SDK would send its text to the client
            log.exception("request.crashed", method=context.method)
            raise MCPError(INTERNAL_ERROR, CRASHED, {"code": "unexpected"}) from error

    async def _wait_until_opened(self) -> None:
        try:
            async with asyncio.timeout(OPENING):
                await self._opened.wait()
        except TimeoutError:
            self._opened.set()  # whoever comes next need not wait again

    # -- about the connection -----------------------------------------------------------------

    async def _pass(self, context: Context, call_next: CallNext) -> HandlerResult:
        """What the SDK answers: initialize and discover are completed, the rest is left alone."""
        if context.method == "initialize":
            return await self._initialize(context, call_next)
        result = await call_next(context)
        if context.method == "server/discover":
            return self._complete(result, principal_of(context))
        return result

    async def _initialize(self, context: Context, call_next: CallNext) -> HandlerResult:
        principal = principal_of(context)
        result = self._complete(await call_next(context), principal)
        connection = connection_of(context)
        client = handshake_client(
            dict(context.params or {}), connection, result["protocolVersion"], principal
        )
        front = FrontClient(client, connection)
        connection.state[STATE] = front
        if (reachable := reachability_of(context)) is not None:
            front.can_be_reached = reachable
        connection.exit_stack.push_async_callback(self._left, front)
        self._announcements.add(front)
        self._on_client(front.standing)
        return result

    def _complete(self, greeting: HandlerResult, principal: Principal) -> Json:
        """The SDK's answer to an opening, with what Trunkline can do and how to use it."""
        if isinstance(greeting, BaseModel):
            greeting = greeting.model_dump(by_alias=True, mode="json", exclude_none=True)
        result: Json = dict(greeting or {})
        result["capabilities"] = {**result.get("capabilities", {}), **CAPABILITIES}
        if text := self._catalog.snapshot.seen_by(principal).instructions:
            result["instructions"] = text
        return result

    async def _left(self, front: FrontClient) -> None:
        self._announcements.remove(front)
        for provider in self._providers():
            await provider.forget(front.client.id)

    async def _notified(self, context: Context) -> None:
        """A notification of the client's own."""
        if context.method == "notifications/roots/list_changed":
            front = front_of(connection_of(context))
            if front is not None:
                for provider in self._providers():
                    await provider.notify(context.method, None, front.client)

    # -- about the catalog --------------------------------------------------------------------

    async def _list(self, context: Context, params: Json, caller: RequestCaller) -> Json:
        kind, member = LISTS[context.method]
        if params.get("cursor") is not None:
            raise InvalidArguments(
                "This cursor is unknown: Trunkline sends every list whole. Ask without a cursor."
            )
        view = self._catalog.snapshot.seen_by(caller.client.principal)
        if kind == "tools":
            items = self._exposure.tools(view, caller.client.era)
            items += [one for own in self._own_tools for one in own.listed(caller.client, view)]
        else:
            items = list(getattr(view, kind))
        return listed(
            member,
            items,
            caller.client.era,
            self._server_info,
            ttl_ms=view.ttl_ms,
            cache_scope=view.cache_scope,
        )

    def _input_schema(self, name: str) -> Json | None:
        """What the SDK checks the `Mcp-Param-*` headers of the current HTTP request against."""
        principal: Principal = get_http_request().scope[PRINCIPAL]
        try:
            view = self._catalog.snapshot.seen_by(principal)
            return view.tool(name).definition.get("inputSchema")
        except TrunklineError:
            return None

    # -- about a provider ---------------------------------------------------------------------

    async def _send(self, context: Context, params: Json, caller: RequestCaller) -> Json:
        result = await self._dispatch.request(context.method, params, caller)
        return shape(result, caller.client.era, self._server_info)

    async def _call(self, context: Context, params: Json, caller: RequestCaller) -> Json:
        """`tools/call`: a tool of the gateway's own, the one that `call_tool` means, or any."""
        if (own := self._own(params, caller.client)) is None:
            return await self._ask_or_send(context, params, caller)
        if params["name"] != CALL:
            return await self._run_own(own, params, caller)
        try:
            meant = self._meant(params, caller.client)
            own = self._own(meant, caller.client) if meant["name"] != CALL else None
            if own is not None:
                return await self._run_own(own, meant, caller)
            return await self._ask_or_send(context, meant, caller)
        except (InvalidArguments, NotFound) as error:
            # A model chose the name and the arguments, and can choose better ones.
            return shape(tool_failure(error), caller.client.era, self._server_info)

    def _meant(self, params: Json, client: Client) -> Json:
        try:
            return meant_by(params)
        except InvalidArguments as error:
            self._dispatch.enter_refused("tools/call", params, client, error)
            raise

    async def _run_own(self, own: OwnTools, params: Json, caller: RequestCaller) -> Json:
        name, arguments = params["name"], params.get("arguments") or {}

        async def run(asked: Caller) -> Json:
            call = partial(own.call, name, arguments, asked)
            return await self._dispatch.own(name, arguments, asked, call)

        result = await self._asking(run, "tools/call", params, caller, may_ask=own.asks)
        return shape(result, caller.client.era, self._server_info)

    async def _ask_or_send(self, context: Context, params: Json, caller: RequestCaller) -> Json:
        """A request that can end in a question: `tools/call`, `prompts/get`, `resources/read`."""
        method, client = context.method, caller.client
        if method == "resources/read" and (kept := self._dispatch.kept(params, client)) is not None:
            return shape(kept, client.era, self._server_info)
        target = self._dispatch.target(method, params, client)
        may_ask = client.era is Era.MODERN and self._dispatch.may_ask(target, client)
        run = partial(self._dispatch.send, target)
        result = await self._asking(run, method, params, caller, may_ask=may_ask)
        return shape(result, client.era, self._server_info, cacheable=method == "resources/read")

    async def _asking(
        self,
        run: Callable[[Caller], Awaitable[Json]],
        method: str,
        params: Json,
        caller: RequestCaller,
        *,
        may_ask: bool,
    ) -> Json:
        """Run a request, or go on with it. What it asks of a modern client is a result."""
        client, state = caller.client, params.get("requestState")
        resumes = self._held.owns(state)
        if client.era is Era.HANDSHAKE or not (resumes or may_ask):
            return await run(caller)
        binding = binding_of(client, method, str(params.get(NAME_OF[method])))
        if resumes:
            answers = params.get("inputResponses")
            return await self._held.resume(str(state), answers, caller, binding)
        return await self._held.start(run, caller, binding)

    def _own(self, params: Json, client: Client) -> OwnTools | None:
        """Whose of the gateway's own tools is called; None if the catalog has that name."""
        name = params.get("name")
        for own in self._own_tools:
            if isinstance(name, str) and name in own.names and not self._has(name, client):
                return own
        return None

    def _has(self, tool: str, client: Client) -> bool:
        return self._catalog.snapshot.seen_by(client.principal).has(tool)

    async def _subscribe(self, context: Context, params: Json, caller: RequestCaller) -> Json:
        await self._announcements.subscribe(params, caller)
        return {}

    async def _unsubscribe(self, context: Context, params: Json, caller: RequestCaller) -> Json:
        await self._announcements.unsubscribe(params, caller)
        return {}

    async def _set_level(self, context: Context, params: Json, caller: RequestCaller) -> Json:
        level = params.get("level")
        if level not in LOG_LEVELS:
            raise InvalidArguments(
                f"{level!r} is not a log level. The levels are {', '.join(LOG_LEVELS)}."
            )
        if caller.front is not None:
            caller.front.log_level = level
        async with asyncio.TaskGroup() as group:
            for provider in self._providers():
                group.create_task(provider.set_level(caller, level))
        return {}

    async def _listen(self, context: Context, params: Json, caller: RequestCaller) -> Json:
        wanted = params.get("notifications")
        if not isinstance(wanted, dict):
            raise InvalidArguments("subscriptions/listen needs 'notifications', an object.")
        result = await self._announcements.listen(wanted, caller, context.request_id)
        return shape(result, caller.client.era, self._server_info)


def _client(context: Context, front: FrontClient | None) -> Client:
    """Who sent a request, as that request itself shows: a session does not vouch for anybody."""
    principal = principal_of(context)
    if front is None:
        return modern_client(context, principal)
    before = front.client.principal
    if principal is before:
        return front.client
    if (principal.subject, principal.org) != (before.subject, before.org):
        raise MCPError(INVALID_REQUEST, "This session belongs to somebody else.")
    return replace(front.client, principal=principal)

"""
What Trunkline relies on in the SDK's server, and how the adapter sits in front of it.

The middleware list and the members used here are provisional parts of the SDK. If one of these
tests fails after an upgrade, `trunkline.gateway.adapter` and `callers` are what has to follow.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fastmcp import FastMCP
from mcp.server.connection import Connection
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest

from trunkline.catalog.catalog import Catalog
from trunkline.dispatch import Dispatch
from trunkline.gateway.adapter import Adapter
from trunkline.gateway.announcements import Announcements
from trunkline.gateway.callers import STATE, FrontClient, connection_of
from trunkline.gateway.held import HeldCalls
from trunkline.models import Caller
from trunkline.plugin.server import low_level

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
HELLO: Json = {
    "protocolVersion": "2025-11-25",
    "clientInfo": {"name": "test", "version": "1"},
    "capabilities": {},
}


@asynccontextmanager
async def adapted(server: FastMCP[Any]) -> AsyncGenerator[list[Caller]]:
    """A server with the adapter in front of it and nothing behind; yields who made itself known."""
    known: list[Caller] = []
    catalog = Catalog()
    dispatch = Dispatch(catalog)
    async with HeldCalls().open() as held:
        announcements = Announcements(catalog, dispatch)
        opened = asyncio.Event()
        opened.set()
        Adapter(catalog, dispatch, announcements, held, list, known.append, opened=opened).install(
            server
        )
        yield known


class Wire:
    """The client's end of a connection."""

    def __init__(self, send: Any, receive: Any) -> None:
        self._send, self._receive, self._last_id = send, receive, 0

    async def request(self, method: str, params: Json | None = None) -> Json:
        """Send a request and return the whole answer."""
        self._last_id += 1
        request = JSONRPCRequest(jsonrpc="2.0", id=self._last_id, method=method, params=params)
        async with asyncio.timeout(10):
            await self._send.send(SessionMessage(request))
            answer = await self._receive.receive()
        return answer.message.model_dump(by_alias=True, exclude_unset=True)


@asynccontextmanager
async def connected(server: FastMCP[Any]) -> AsyncGenerator[Wire]:
    """A connection as stdio has it, without a process."""
    to_server, from_client = anyio.create_memory_object_stream[Any](1)
    to_client, from_server = anyio.create_memory_object_stream[Any](1)
    core = low_level(server)
    async with anyio.create_task_group() as tasks, to_server, from_server:
        options = core.create_initialization_options()
        tasks.start_soon(core.run, from_client, to_client, options)
        yield Wire(to_server, from_server)
        tasks.cancel_scope.cancel()


async def test_what_a_middleware_returns_goes_out_as_it_is() -> None:
    server = FastMCP("test")
    raw = {"tools": [], "x-vendor": {"deep": [None, 2**70]}}

    async def answer(ctx: Any, call_next: Any) -> Any:
        return raw if ctx.method == "tools/list" else await call_next(ctx)

    low_level(server).middleware.insert(0, answer)
    async with connected(server) as wire:
        await wire.request("initialize", HELLO)
        listed = await wire.request("tools/list")

    assert listed["result"] == raw


async def test_a_request_has_the_members_the_adapter_uses() -> None:
    server = FastMCP("test")
    seen: list[Any] = []

    async def look(ctx: Any, call_next: Any) -> Any:
        seen.append(ctx)
        return await call_next(ctx)

    low_level(server).middleware.insert(0, look)
    async with connected(server) as wire:
        await wire.request("initialize", HELLO)

    (context,) = seen
    assert isinstance(connection_of(context), Connection)
    assert callable(context.session._request_outbound.send_raw_request)
    assert context.request_id == 1
    assert context.params == HELLO
    assert context.protocol_version


async def test_the_adapter_stands_first() -> None:
    server = FastMCP("test")
    async with adapted(server):
        first = low_level(server).middleware[0]

    assert isinstance(first, Adapter)


async def test_a_handshake_client_is_known_before_it_is_answered() -> None:
    server = FastMCP("test")
    async with adapted(server) as known, connected(server) as wire:
        greeting = (await wire.request("initialize", HELLO))["result"]

    (caller,) = known
    assert caller.client.info == HELLO["clientInfo"]
    assert greeting["capabilities"]["resources"] == {"subscribe": True, "listChanged": True}
    assert "instructions" not in greeting


async def test_a_client_is_kept_in_the_state_of_its_connection() -> None:
    server = FastMCP("test")
    fronts: list[Any] = []

    async def look(ctx: Any, call_next: Any) -> Any:
        result = await call_next(ctx)
        fronts.append(connection_of(ctx).state.get(STATE))
        return result

    async with adapted(server), connected(server) as wire:
        low_level(server).middleware.insert(0, look)
        await wire.request("initialize", HELLO)

    assert isinstance(fronts[0], FrontClient)


@pytest.mark.parametrize("method", ["tools/list", "tools/call", "logging/setLevel"])
async def test_a_request_before_initialize_is_refused_with_a_sentence(method: str) -> None:
    server = FastMCP("test")
    async with adapted(server), connected(server) as wire:
        error = (await wire.request(method, {"name": "x"}))["error"]

    assert error["message"] == "Send `initialize` first."
    assert error["data"] == {"code": "not_initialized"}


async def test_a_method_that_does_not_exist_is_left_to_the_sdk() -> None:
    server = FastMCP("test")
    async with adapted(server), connected(server) as wire:
        await wire.request("initialize", HELLO)
        error = (await wire.request("nobody/knows"))["error"]

    assert error["code"] == -32601

"""653 tools of 38 real servers: all are listed, and a call by its name arrives where it belongs."""

import json
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.catalog.real_lists import real_lists
from tests.gateway_under_test import gateway
from tests.journeys.raw_client import raw_client

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def stand_ins(lists: dict[str, list[Any]]) -> AsyncGenerator[str]:
    """One HTTP server that is all of those servers, each under a path. Yields its URL."""

    async def answer(request: web.Request) -> web.Response:
        server, message = request.match_info["server"], await request.json()
        if "id" not in message:
            return web.Response(status=202)
        results = {
            "initialize": {
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": server, "version": "1"},
            },
            "tools/list": {"tools": lists[server]},
        }
        params = message.get("params") or {}
        text = json.dumps([server, params.get("name"), params.get("arguments")])
        called = {"content": [{"type": "text", "text": text}]}
        if message["method"] not in (*results, "tools/call", "ping"):
            error = {"code": -32601, "message": "Method not found"}
            return web.json_response({"jsonrpc": "2.0", "id": message["id"], "error": error})
        result = results.get(message["method"], called)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    application = web.Application(client_max_size=2**24)
    application.router.add_post("/{server}/mcp", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_every_real_tool_is_listed_and_called_by_its_name(tmp_path: Path, era: str) -> None:
    lists = real_lists()
    async with stand_ins(lists) as url:
        servers = {name: {"url": f"{url}/{name}/mcp"} for name in lists}
        async with (
            gateway(servers, tmp_path) as trunkline,
            raw_client(trunkline.mcp, era) as client,
        ):
            names = [tool["name"] for tool in (await client.request("tools/list"))["tools"]]
            arrived = [
                json.loads((await client.call(name, {"n": n}))["content"][0]["text"])
                for n, name in enumerate(names)
            ]

    expected = [[server, tool["name"]] for server in lists for tool in lists[server]]
    assert sorted(call[:2] for call in arrived) == sorted(expected)
    assert [call[2] for call in arrived] == [{"n": n} for n in range(len(names))]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)

"""
The other ways in and out: a client over SSE, a client over stdio, a server over SSE.

One server alone and without a namespace, so that the gateway can stand in for it: every name is the
server's own.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import mcp_types as types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPError

from tests.databases import database_of
from tests.gateway_under_test import Person, gateway, until
from tests.servers import offers
from tests.servers.processes import running, stdio_entry

pytestmark = pytest.mark.anyio

FACES: Final = (
    "sse client",
    "handshake client on stdio",
    "modern client on stdio",
    "sse server, handshake client",
    "sse server, modern client",
)


@dataclass
class Visit:
    """A client that is connected through one of the faces."""

    client: Client
    person: Person
    face: str
    era: str

    async def structured(self, tool: str, **arguments: Any) -> Any:
        """The structured content of a call."""
        result = await self.client.call_tool(
            tool, arguments, progress_callback=self.person.on_progress
        )
        assert not result.is_error, result.content
        return result.structured_content


@pytest.fixture(scope="module", params=FACES)
async def visit(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Visit]:
    """A client, connected once for all tests of a face."""
    face: str = request.param
    folder, person = tmp_path_factory.mktemp("face"), Person()
    entry: dict[str, Any] = stdio_entry("everything", era="handshake")
    async with AsyncExitStack() as stack:
        if "server" in face:
            server = await stack.enter_async_context(
                running("everything", transport="sse", era="handshake")
            )
            entry = server.entry()
        servers = {"one": {**entry, "namespace": ""}}
        if "stdio" in face:
            config = folder / "mcp.json"
            config.write_text(json.dumps({"mcpServers": servers}))
            where: Any = StdioServerParameters(
                command=sys.executable,
                args=["-m", "trunkline", "serve", "--config", str(config)],
                env={
                    **os.environ,
                    "TRUNKLINE_HOME": str(folder / "home"),
                    "DATABASE_URL": database_of(folder / "home"),
                },
            )
        else:
            trunkline = await stack.enter_async_context(gateway(servers, folder))
            where = sse_client(f"{trunkline.url}/sse") if "sse client" in face else trunkline.mcp
        era = "modern" if "modern" in face else "handshake"
        client = await stack.enter_async_context(person.client(where, era))
        async with asyncio.timeout(60):
            # It serves before its servers are there.
            while not (await client.list_tools()).tools:  # noqa: ASYNC110 - and no event says so
                await asyncio.sleep(0.02)
        yield Visit(client, person, face, era)


async def test_everything_is_listed_under_its_own_name(visit: Visit) -> None:
    tools = await visit.client.list_tools()
    prompts = await visit.client.list_prompts()
    resources = await visit.client.list_resources()
    templates = await visit.client.list_resource_templates()

    assert [one.name for one in tools.tools] == [one["name"] for one in offers.TOOLS]
    assert [one.name for one in prompts.prompts] == [one["name"] for one in offers.PROMPTS]
    assert [one.uri for one in resources.resources] == [one["uri"] for one in offers.RESOURCES]
    assert [one.uri_template for one in templates.resource_templates] == [
        one["uriTemplate"] for one in offers.TEMPLATES
    ]


async def test_a_call_arrives_and_comes_back(visit: Visit) -> None:
    heard = await visit.structured("echo", text="ä\u2028", big=2**80)
    contents = await visit.client.call_tool("contents", {})
    failed = await visit.client.call_tool("fail", {"message": "No."})

    assert heard["arguments"] == {"text": "ä\u2028", "big": 2**80}
    assert [one.type for one in contents.content] == [one["type"] for one in offers.CONTENTS]
    assert failed.is_error


async def test_a_servers_error_keeps_its_code(visit: Visit) -> None:
    with pytest.raises(MCPError) as raised:
        await visit.client.call_tool("raise_error", {"code": -31234, "data": {"x": [1]}})

    assert (raised.value.error.code, raised.value.error.data) == (-31234, {"x": [1]})


async def test_prompts_resources_and_completion_work(visit: Visit) -> None:
    prompt = await visit.client.get_prompt("greet", {"name": "Ada"})
    read = await visit.client.read_resource(offers.STATIC)
    by_template = await visit.client.read_resource("weather://Paris/monday")
    completed = await visit.client.complete(
        types.ResourceTemplateReference(uri="weather://{city}/{day}"),
        {"name": "day", "value": "m"},
        context_arguments={"city": "Paris"},
    )

    assert "Ada" in prompt.messages[0].content.text  # pyright: ignore[reportAttributeAccessIssue]
    assert read.contents[0].uri == offers.STATIC
    assert by_template.contents[0].uri == "weather://Paris/monday"
    assert completed.completion.values == ["monday"]


async def test_the_client_is_asked_and_its_answers_arrive(visit: Visit) -> None:
    visit.person.asked.clear()

    told = await visit.structured("interview")
    twice = await visit.structured("ask", rounds=2)

    assert told["answers"]["user"]["content"] == {"name": "Ada"}
    assert told["answers"]["model"]["model"] == "model-Ada"
    assert told["answers"]["roots"]["roots"] == [{"uri": "file:///home/Ada"}]
    assert len(twice["answers"]) == 2
    assert len(visit.person.asked) == 4


async def test_progress_and_log_messages_come_in_order(visit: Visit) -> None:
    visit.person.progress.clear()
    visit.person.logs.clear()

    await visit.structured("slow", seconds=0.03, steps=3)
    meta: Any = {"io.modelcontextprotocol/logLevel": "error"}
    if visit.era == "handshake":
        await visit.client.set_logging_level("error")  # pyright: ignore[reportDeprecated]
        meta = None
    await visit.client.call_tool("log", {}, meta=meta)

    assert [step for step, _, _ in visit.person.progress] == [1, 2, 3]
    await until(lambda: len(visit.person.logs) == 4)
    assert [one.level for one in visit.person.logs] == ["error", "critical", "alert", "emergency"]


async def test_a_cancelled_call_is_cancelled_at_the_server(visit: Visit) -> None:
    held = asyncio.Event()

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        held.set()

    call = asyncio.create_task(
        visit.client.call_tool("hold", {"key": "k"}, progress_callback=on_progress)
    )
    async with asyncio.timeout(60):
        await held.wait()
        call.cancel()
        await asyncio.wait({call})
        while "k" not in (await visit.structured("cancelled_calls"))["cancelled"]:
            pass


async def test_changes_at_the_server_are_heard(visit: Visit) -> None:
    visit.person.notices.clear()
    client = visit.client
    if visit.era == "modern":
        async with (
            asyncio.timeout(60),
            client.listen(
                tools_list_changed=True, resource_subscriptions=[offers.WATCHED]
            ) as heard,
        ):
            await client.call_tool("touch", {"uri": offers.WATCHED})
            updated: Any = await anext(heard)
            await client.call_tool("grow", {"name": "fig"})
            changed = await anext(heard)
        assert updated.uri == offers.WATCHED
        assert type(changed).__name__ == "ToolsListChanged"
    else:
        await client.subscribe_resource(offers.WATCHED)  # pyright: ignore[reportDeprecated]
        await client.call_tool("touch", {"uri": offers.WATCHED})
        await until(lambda: "notifications/resources/updated" in visit.person.notices)
        await client.call_tool("grow", {"name": "fig"})
        await until(lambda: "notifications/tools/list_changed" in visit.person.notices)

    listed = await client.list_tools(cache_mode="refresh")
    assert "fig" in {one.name for one in listed.tools}


async def test_an_unknown_tool_is_answered_with_near_names(visit: Visit) -> None:
    with pytest.raises(MCPError) as raised:
        await visit.client.call_tool("ecko", {})

    assert raised.value.error.code == -32602
    assert "echo" in raised.value.error.data["similar"]


async def test_the_instructions_of_an_only_server_are_its_own(visit: Visit) -> None:
    # On stdio the servers start when their client has introduced itself: nothing is known by then.
    known = None if "on stdio" in visit.face else offers.INSTRUCTIONS
    assert visit.client.instructions == known

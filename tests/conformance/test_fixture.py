"""The fixture keeps what the suite expects of it: both eras, over HTTP and stdio. No npm needed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal

import mcp_types as types
import pytest
from mcp import Client, MCPError, StdioServerParameters
from pydantic import FileUrl

from tests.conformance import offers
from tests.servers.processes import Era, running, stdio_entry

pytestmark = pytest.mark.anyio

FIXTURE = "tests.conformance.fixture"
Mode = Literal["auto", "legacy"]
"""How the SDK's client opens: `auto` takes the modern era if the server has it."""

everywhere = pytest.mark.parametrize("transport", ["http", "stdio"])
in_both_eras = pytest.mark.parametrize("mode", ["auto", "legacy"])


async def elicit(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
    words: dict[str, str | int | float | bool | list[str] | None] = {
        "name": "Ada",
        "color": "blue",
        "username": "ada",
        "email": "ada@example.com",
        "context": "poetry",
    }
    return types.ElicitResult(action="accept", content=words)


async def sample(
    context: object, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text="Paris")
    return types.CreateMessageResult(role="assistant", content=content, model="small")


async def roots(context: object) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri=FileUrl("file:///home"), name="home")])


@asynccontextmanager
async def connected(
    transport: str, mode: Mode, *, era: Era = "both", capable: bool = True
) -> AsyncGenerator[Client]:
    """A client of the fixture; one that is not *capable* can answer no questions."""

    def client(target: str | StdioServerParameters) -> Client:
        if not capable:
            return Client(target, mode=mode)
        return Client(
            target,
            mode=mode,
            elicitation_callback=elicit,
            sampling_callback=sample,
            list_roots_callback=roots,
        )

    if transport == "stdio":
        entry = StdioServerParameters(**stdio_entry(FIXTURE, era=era))
        async with client(entry) as one:
            yield one
    else:
        async with running(FIXTURE, era=era) as server, client(server.url) as one:
            yield one


async def said(client: Client, tool: str, **arguments: str) -> str:
    """The text a tool answers with."""
    result = await client.call_tool(tool, arguments)
    block = result.content[0]
    assert isinstance(block, types.TextContent)
    return block.text


@everywhere
@in_both_eras
async def test_it_offers_what_the_suite_looks_for(transport: str, mode: Mode) -> None:
    async with connected(transport, mode) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        resources = {str(item.uri) for item in (await client.list_resources()).resources}
        read = await client.read_resource("test://template/123/data")

    assert tools == {tool["name"] for tool in offers.TOOLS}
    assert prompts == {prompt["name"] for prompt in offers.PROMPTS}
    assert resources == {resource["uri"] for resource in offers.RESOURCES}
    assert isinstance(read.contents[0], types.TextResourceContents)
    assert read.contents[0].text == '{"id":"123","templateTest":true,"data":"Data for ID: 123"}'


@everywhere
@in_both_eras
async def test_its_questions_reach_the_client_and_the_answers_come_back(
    transport: str, mode: Mode
) -> None:
    async with connected(transport, mode) as client:
        assert await said(client, "test_sampling", prompt="Where?") == "LLM response: Paris"
        answer = await said(client, "test_elicitation", message="Who?")
        assert answer.startswith("User response: action=accept, content=")
        assert await said(client, "test_input_required_result_elicitation") == "Hello, Ada!"
        assert await said(client, "test_input_required_result_list_roots") == "Roots: file:///home"
        assert await said(client, "test_input_required_result_multi_round") == "Ada likes blue"
        assert (await said(client, "test_input_required_result_multiple_inputs"))[:9] == "3 answers"
        prompt = await client.get_prompt("test_input_required_result_prompt")

    assert isinstance(prompt.messages[0].content, types.TextContent)
    assert prompt.messages[0].content.text == "Context: poetry"


@everywhere
async def test_a_modern_client_that_cannot_answer_is_told_what_it_lacks(transport: str) -> None:
    async with connected(transport, "auto", capable=False) as client:
        with pytest.raises(MCPError) as refusal:
            await client.call_tool("test_missing_capability")

    assert refusal.value.error.code == -32021
    assert refusal.value.error.data == {"requiredCapabilities": {"sampling": {}}}


async def test_changed_state_is_refused() -> None:
    async with connected("http", "auto") as client:
        question = await client.session.call_tool(
            "test_input_required_result_tampered_state", allow_input_required=True
        )
        assert isinstance(question, types.InputRequiredResult)
        assert question.request_state is not None
        with pytest.raises(MCPError) as refusal:
            await client.session.call_tool(
                "test_input_required_result_tampered_state",
                request_state=question.request_state + "-TAMPERED",
                input_responses={"confirm": types.ElicitResult(action="accept", content={})},
                allow_input_required=True,
            )

    assert refusal.value.error.code == -32602


@everywhere
async def test_a_stream_that_ends_before_the_answer_is_resumed(transport: str) -> None:
    async with connected(transport, "legacy") as client:
        answer = await said(client, "test_reconnection")

    assert answer == "The answer came after the stream had ended."


@everywhere
async def test_a_handshake_only_fixture_is_taken_for_what_it_is(transport: str) -> None:
    async with connected(transport, "auto", era="handshake") as client:
        assert client.protocol_version == "2025-11-25"
        assert await said(client, "test_sampling", prompt="Where?") == "LLM response: Paris"


@everywhere
async def test_a_modern_only_fixture_refuses_the_handshake(transport: str) -> None:
    async with connected(transport, "auto", era="modern") as client:
        assert client.protocol_version == "2026-07-28"

    # The SDK's client lets the error out in the groups of its task groups.
    refused = pytest.RaisesExc(MCPError, match="speaks the 2026-07-28 protocol only")
    with pytest.RaisesGroup(refused, allow_unwrapped=True, flatten_subgroups=True):
        async with connected(transport, "legacy", era="modern"):
            pass

"""What an author can do with a `Plugin`."""

from typing import Any

import pytest
from fastmcp import Client
from mcp_types import PromptReference, TextContent

from trunkline import Plugin
from trunkline.errors import PluginError
from trunkline.plugin.server import running

pytestmark = pytest.mark.anyio


async def test_the_decorators_take_fastmcps_options() -> None:
    plugin = Plugin("shop", summary="Sells things.", version="2.1")

    @plugin.tool(name="buy", title="Buy it", annotations={"destructiveHint": True}, tags={"money"})
    def purchase(thing: str) -> str:
        """Buys *thing*."""
        return f"bought {thing}"

    @plugin.resource("shop://things", mime_type="text/plain")
    def things() -> str:
        return "hat"

    @plugin.resource("shop://things/{name}")
    def thing(name: str) -> str:
        return f"a {name}"

    @plugin.prompt("haggle")
    def ask_for_less(price: int) -> str:
        return f"{price} is too much."

    @plugin.completion
    def complete(ref: Any, argument: Any, context: Any) -> list[str]:
        return ["hat", "coat"]

    async with Client(plugin.server) as client:
        [tool] = await client.list_tools()
        [resource] = await client.list_resources()
        [template] = await client.list_resource_templates()
        [prompt] = await client.list_prompts()
        result = await client.call_tool("buy", {"thing": "hat"})
        completed = await client.complete(
            PromptReference(name="haggle"), {"name": "price", "value": ""}
        )

    assert (tool.name, tool.title, tool.description) == ("buy", "Buy it", "Buys *thing*.")
    assert tool.annotations is not None
    assert tool.annotations.destructive_hint is True
    assert (resource.uri, template.uri_template) == ("shop://things", "shop://things/{name}")
    assert prompt.name == "haggle"
    assert result.data == "bought hat"
    assert completed.values == ["hat", "coat"]


async def test_a_decorated_function_can_still_be_called() -> None:
    plugin = Plugin("shop")

    @plugin.tool
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8


@pytest.mark.parametrize("name", ["", "a b", "-shop", "shop/2", "é", "a" * 65])
def test_a_name_that_cannot_be_part_of_a_tools_name_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match="cannot be the name of a plugin"):
        Plugin(name)


def test_a_namespace_may_be_empty_but_not_malformed() -> None:
    assert Plugin("shop", namespace="").namespace == ""
    with pytest.raises(PluginError, match="cannot be the namespace"):
        Plugin("shop", namespace="a b")


async def test_hooks_run_in_order_and_stop_hooks_even_if_a_start_hook_fails() -> None:
    plugin = Plugin("shop")
    said: list[str] = []

    @plugin.on_start
    async def open_doors() -> None:
        said.append("open")

    @plugin.on_start
    async def light_up() -> None:
        raise OSError("no power")

    @plugin.on_stop
    async def close_doors() -> None:
        said.append("close")

    with pytest.raises(OSError, match="no power"):
        async with running(plugin.server):
            said.append("serve")

    assert said == ["open", "close"]


async def test_a_call_that_tries_to_end_the_program_fails_with_a_sentence() -> None:
    plugin = Plugin("shop")

    @plugin.tool
    async def close_for_good() -> None:
        raise SystemExit("enough")

    async with Client(plugin.server) as client:
        result = await client.call_tool("close_for_good", raise_on_error=False)

    assert result.is_error
    assert isinstance(result.content[0], TextContent)
    assert "'shop' tried to end the program (sys.exit('enough'))" in result.content[0].text

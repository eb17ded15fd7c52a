"""mcp.json and the plugins folder change while everything runs: only what changed is touched."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gateway_under_test import Gateway, gateway, until
from tests.journeys.conftest import ERAS
from tests.journeys.raw_client import Json, RawClient, Refused, raw_client
from tests.servers.processes import stdio_entry

pytestmark = pytest.mark.anyio

CHANGED = "notifications/tools/list_changed"
PLUGIN = '''
"""A {fruit}."""

from trunkline import Plugin

plugin = Plugin("fruit")


@plugin.tool
def {fruit}() -> str:
    """Say {fruit}."""
    return "{fruit}"
'''


def entry(**further: object) -> Json:
    """A server of mcp.json that starts quickly."""
    return {**stdio_entry("misbehaving"), **further}


@dataclass
class Scene:
    """A gateway with the servers `one` and `two`, a plugin folder, and a client that listens."""

    trunkline: Gateway
    client: RawClient
    plugins: Path

    async def names(self) -> list[str]:
        """The tools that are listed."""
        return [tool["name"] for tool in (await self.client.request("tools/list"))["tools"]]

    async def pid(self, server: str = "two") -> int:
        """The process behind a server."""
        return (await self.client.structured(f"{server}__pids"))["pid"]

    def write_plugin(self, fruit: str, file: str = "fruit.py") -> None:
        """Save a plugin that can say one word."""
        fresh = self.plugins / f"{file}.new"
        fresh.write_text(PLUGIN.format(fruit=fruit))
        fresh.replace(self.plugins / file)


@pytest.fixture(params=ERAS)
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Scene]:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    async with (
        gateway({"one": entry(), "two": entry()}, tmp_path, plugins=(plugins,)) as trunkline,
        raw_client(trunkline.mcp, request.param) as client,
        client.listening(lists=["tools"]),
    ):
        yield Scene(trunkline, client, plugins)


async def test_an_added_server_is_served_and_the_others_stay_connected(scene: Scene) -> None:
    before = await scene.pid()

    scene.trunkline.configure({"one": entry(), "two": entry(), "three": entry()})
    await scene.client.hear(CHANGED)

    assert "three__ok" in await scene.names()
    assert await scene.pid("three")
    assert await scene.pid() == before


async def test_a_removed_server_is_gone_and_the_others_stay_connected(scene: Scene) -> None:
    before = await scene.pid()

    scene.trunkline.configure({"two": entry()})
    await scene.client.hear(CHANGED)

    assert {name.split("__")[0] for name in await scene.names()} == {"two"}
    with pytest.raises(Refused, match="There is no tool named 'one__ok'"):
        await scene.client.call("one__ok")
    assert await scene.pid() == before


async def test_a_changed_server_is_started_anew_and_only_that(scene: Scene) -> None:
    first, second = await scene.pid("one"), await scene.pid()

    scene.trunkline.configure({"one": entry(env={"COLOUR": "blue"}), "two": entry()})
    async with asyncio.timeout(60):
        while await scene.pid("one") == first:
            pass

    assert await scene.pid() == second


@pytest.mark.parametrize("after", ["changed", "removed"])
async def test_a_call_under_way_at_a_server_that_changes_or_goes_is_finished(
    tmp_path: Path, after: str
) -> None:
    slow = stdio_entry("everything", era="handshake")
    async with (
        gateway({"slow": slow}, tmp_path) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
        asyncio.TaskGroup() as group,
    ):
        arguments, meta = {"seconds": 0.8, "steps": 8}, {"progressToken": "t"}
        call = group.create_task(client.call("slow__slow", arguments, _meta=meta))
        await client.hear("notifications/progress")
        trunkline.configure({"slow": {**slow, "env": {"A": "b"}}} if after == "changed" else {})
        await until(lambda: not trunkline.app.reports() or trunkline.report("slow").tools)
        result = await call

    assert result["content"][0]["text"] == "8 steps"


async def test_a_disabled_server_is_stopped_and_comes_back_when_enabled(scene: Scene) -> None:
    before = await scene.pid()

    scene.trunkline.configure({"one": entry(disabled=True), "two": entry()})
    await scene.client.hear(CHANGED)
    while_disabled = await scene.names()
    state = scene.trunkline.report("one").state
    scene.trunkline.configure({"one": entry(), "two": entry()})
    await scene.client.hear(CHANGED)

    assert {name.split("__")[0] for name in while_disabled} == {"two"}
    assert state == "DISCONNECTED"
    assert "one__ok" in await scene.names()
    assert await scene.pid("one")
    assert await scene.pid() == before


async def test_rules_and_namespace_change_without_reconnecting(scene: Scene) -> None:
    first, second = await scene.pid("one"), await scene.pid()
    rules = {"allow": ["ok", "pid*"], "rename": {"ok": "fine"}}

    scene.trunkline.configure({"one": entry(namespace="uno", tools=rules), "two": entry()})
    await scene.client.hear(CHANGED)

    mine = [name for name in await scene.names() if not name.startswith("two__")]
    assert mine == ["uno__fine", "uno__pids"]
    assert (await scene.client.call("uno__fine"))["content"][0]["text"] == "ok is well"
    assert await scene.pid("uno") == first
    assert await scene.pid() == second


async def test_another_timeout_needs_no_reconnection(scene: Scene) -> None:
    first = await scene.pid("one")

    scene.trunkline.configure({"one": entry(timeout=0.3), "two": entry(namespace="dos")})
    await scene.client.hear(CHANGED)
    result = await scene.client.call("one__never")

    assert "within 0.3 seconds" in result["content"][0]["text"]
    assert await scene.pid("one") == first


async def test_a_plugin_is_served_changed_and_removed_while_running(scene: Scene) -> None:
    before = await scene.pid()

    scene.write_plugin("fig")
    await scene.client.hear(CHANGED)
    said = await scene.client.call("fruit__fig")
    scene.write_plugin("date")
    await scene.client.hear(CHANGED)
    changed = [name for name in await scene.names() if name.startswith("fruit__")]
    (scene.plugins / "fruit.py").unlink()
    await scene.client.hear(CHANGED)
    left = [name for name in await scene.names() if name.startswith("fruit__")]

    assert said["content"][0]["text"] == "fig"
    assert changed == ["fruit__date"]
    assert left == []
    assert await scene.pid() == before


async def test_a_plugin_that_breaks_is_reported_and_the_rest_is_served(scene: Scene) -> None:
    scene.write_plugin("fig")
    await scene.client.hear(CHANGED)
    (scene.plugins / "worse.py").write_text("def register(mcp):\n    raise ValueError('no')\n")
    await until(lambda: any(one.name == "worse" for one in scene.trunkline.app.reports()))

    assert "ValueError: no" in scene.trunkline.report("worse").reason
    assert (await scene.client.call("fruit__fig"))["content"][0]["text"] == "fig"

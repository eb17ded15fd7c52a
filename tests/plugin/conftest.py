"""A folder to drop plugins into, and a host that watches it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from mcp_types import TextContent

from trunkline.plugin.host import PluginHost
from trunkline.plugin.registration import LoadedPlugin
from trunkline.plugin.version import PluginFailure

PATIENCE = 60.0
"""Seconds a test waits for something before it fails."""

CLOCK = """
    from trunkline import Plugin

    plugin = Plugin("clock", summary="Time.")

    @plugin.tool
    def now() -> str:
        return "noon"
"""


class Watched:
    """A host whose changes can be waited for."""

    def __init__(self, host: PluginHost) -> None:
        self.host = host
        self._changed = asyncio.Event()
        host.on_change = lambda _: self._changed.set()

    def plugin(self, name: str) -> LoadedPlugin | None:
        return next((plugin for plugin in self.host.plugins if plugin.name == name), None)

    def failure(self, name: str) -> PluginFailure | None:
        return next((failure for failure in self.host.failures if failure.name == name), None)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def call(self, plugin: str, tool: str) -> str:
        """What a tool without arguments returns."""
        loaded = self.plugin(plugin)
        assert loaded is not None, f"{plugin} is not served"
        result = await loaded.server.call_tool(tool)
        assert isinstance(result.content[0], TextContent)
        return result.content[0].text


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for something that gives no event: a thread, a file."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.02)


Open = Callable[..., AbstractAsyncContextManager[Watched]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder


@pytest.fixture
def write(folder: Path) -> Callable[[str, str], Path]:
    """Write a file into the folder, as an editor does: complete or not at all."""

    def write(name: str, text: str) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(dedent(text), encoding="utf-8")
        return draft.replace(path)

    return write


@pytest.fixture
def open_host(folder: Path) -> Open:
    @asynccontextmanager
    async def open_host(
        *folders: Path, register_timeout: float = 15.0, settled: bool = True
    ) -> AsyncGenerator[Watched]:
        host = PluginHost(folders or (folder,), register_timeout=register_timeout)
        async with host.open():
            watched = Watched(host)
            if settled:
                async with asyncio.timeout(PATIENCE):
                    await host.settled.wait()
            yield watched

    return open_host

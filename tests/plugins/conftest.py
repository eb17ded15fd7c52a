"""The example plugins, loaded the way a user's own would be."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from fastmcp import FastMCP

from trunkline.plugin.host import PluginHost

FOLDER = Path(__file__).parents[2] / "plugins"


@pytest.fixture
async def examples() -> AsyncGenerator[dict[str, FastMCP[Any]]]:
    """Name -> server of every example; none of them may fail."""
    async with PluginHost([FOLDER], register_timeout=30).open() as host:
        async with asyncio.timeout(60):
            await host.settled.wait()
        assert host.failures == []
        yield {plugin.name: plugin.server for plugin in host.plugins}

"""Every example of docs/writing-a-plugin.md works as it stands."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client

from trunkline.plugin.host import PluginHost

pytestmark = pytest.mark.anyio

GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-plugin.md"
EXAMPLES = re.findall(r"```python\n# (\S+)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder that holds every example under the name the guide gives it."""
    for name, text in EXAMPLES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


async def test_every_plugin_of_the_guide_loads(written: Path) -> None:
    async with PluginHost([written / "plugins"], register_timeout=30).open() as host:
        async with asyncio.timeout(60):
            await host.settled.wait()
        names = [plugin.name for plugin in host.plugins]
        failures = host.failures

    assert failures == []
    assert names == ["counter", "greeter", "library", "my_tools", "traveller"]


async def test_the_tools_of_the_guide_do_what_it_says(written: Path) -> None:
    async def agree(message: str, response_type: Any, params: Any, context: Any) -> Any:
        return response_type(value=True)

    async with PluginHost([written / "plugins"], register_timeout=30).open() as host:
        async with asyncio.timeout(60):
            await host.settled.wait()
        servers = {plugin.name: plugin.server for plugin in host.plugins}
        async with (
            Client(servers["counter"]) as counter,
            Client(servers["library"]) as library,
            Client(servers["traveller"], mode="legacy", elicitation_handler=agree) as traveller,
        ):
            counts = [(await counter.call_tool("count")).data for _ in range(2)]
            found = (await library.call_tool("find", {"words": "Clever"})).data
            booked = (await traveller.call_tool("book", {"city": "Rome"})).data

    assert counts == [1, 2]
    assert found == ["emma"]
    assert booked == "Booked: Rome, nine o'clock."


def test_the_test_of_the_guide_passes(written: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=written,
        env={"PYTHONPATH": "plugins", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr

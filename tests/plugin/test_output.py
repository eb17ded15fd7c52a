"""What a plugin prints must not get between the messages of a stdio client."""

import subprocess
import sys
from pathlib import Path

SERVE = """
import asyncio, sys
from pathlib import Path
from mcp.server.stdio import stdio_server
from trunkline import logs
from trunkline.plugin.host import PluginHost

logs.configure("info")

async def serve():
    async with PluginHost([Path(sys.argv[1])], register_timeout=10).open() as host:
        await host.settled.wait()
        await host.plugins[0].server.call_tool("speak")
"""

UNCLAIMED = f"{SERVE}\nasyncio.run(serve())"

CLAIMED = f"""{SERVE}
async def main():
    async with stdio_server() as (read, write), read, write:
        await serve()

asyncio.run(main())
"""

PRINTING = """
from trunkline import Plugin

print("from the import")
plugin = Plugin("speaker")

@plugin.tool
def speak() -> str:
    print("from a call")
    return ""
"""

CHILD = """
import os
from trunkline import Plugin

plugin = Plugin("speaker")

@plugin.tool
def speak() -> str:
    os.system("echo from a child")
    return ""
"""


def run(program: str, plugin: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "speaker.py").write_text(plugin)
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def test_print_goes_to_stderr_even_before_the_protocol_has_claimed_stdout(tmp_path: Path) -> None:
    ended = run(UNCLAIMED, PRINTING, tmp_path)

    assert ended.stdout == ""
    assert "from the import" in ended.stderr
    assert "from a call" in ended.stderr


def test_what_a_child_of_a_plugin_prints_goes_to_stderr_once_stdout_is_claimed(
    tmp_path: Path,
) -> None:
    ended = run(CLAIMED, CHILD, tmp_path)

    assert ended.stdout == ""
    assert "from a child" in ended.stderr

"""What a plugin prints must not get between the messages of a stdio client."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, sys
from pathlib import Path
from mcp.server.stdio import stdio_server
from trunkline.plugin.host import PluginHost

async def main():
    # The protocol claims stdout before any plugin is imported.
    async with stdio_server() as (read, write), read, write:
        async with PluginHost([Path(sys.argv[1])], register_timeout=10).open() as host:
            await host.settled.wait()
            await host.plugins[0].server.call_tool("speak")
        sys.stdout.flush()

asyncio.run(main())
"""

PLUGIN = """
import os
from trunkline import Plugin

print("from the import")
plugin = Plugin("speaker")

@plugin.tool
def speak() -> str:
    print("from a call")
    os.system("echo from a child")
    return ""
"""


def test_prints_of_import_calls_and_children_go_to_stderr(tmp_path: Path) -> None:
    (tmp_path / "speaker.py").write_text(PLUGIN)

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ended.stdout == ""
    for words in ("from the import", "from a call", "from a child"):
        assert words in ended.stderr

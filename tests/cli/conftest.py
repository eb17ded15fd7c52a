"""The command line as a person has it: `trunkline` in a folder with an mcp.json."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.databases import database_of
from tests.servers.processes import ROOT, environment

LIMIT = 90.0
"""Seconds a command may take. A busy machine imports slowly."""


@dataclass(frozen=True)
class Workplace:
    """A folder, and commands run in it."""

    folder: Path

    def configure(self, servers: Mapping[str, Any]) -> None:
        """Write mcp.json."""
        (self.folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))

    def add_plugin(self, name: str, code: str) -> None:
        """Put a file into plugins/."""
        (self.folder / "plugins").mkdir(exist_ok=True)
        (self.folder / "plugins" / f"{name}.py").write_text(code)

    @property
    def environment(self) -> dict[str, str]:
        """Ours with a home of its own, without variables that lead elsewhere."""
        elsewhere = ("TRUNKLINE_", "XDG_", "CLAUDE_", "DATABASE_URL")
        kept = {k: v for k, v in environment().items() if not k.startswith(elsewhere)}
        return {
            **kept,
            "HOME": str(self.folder),
            "TRUNKLINE_HOME": str(self.folder / "home"),
            "DATABASE_URL": database_of(self.folder / "home"),
            "PYTHONPATH": os.pathsep.join((str(ROOT / "server"), str(ROOT))),
        }

    def command(self, *arguments: str) -> Sequence[str]:
        """The command line of `trunkline`."""
        return (sys.executable, "-m", "trunkline", *arguments)

    def run(
        self, *arguments: str, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `trunkline` to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment | variables,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """An empty folder to work in."""
    return Workplace(tmp_path)

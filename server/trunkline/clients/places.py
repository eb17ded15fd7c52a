"""
Where each client keeps its configuration, on every platform.

| client | for the user | for a project |
|---|---|---|
| Claude Desktop | `claude_desktop_config.json` | - |
| Claude Code | `~/.claude.json`, and a project's own part of it | `.mcp.json` |
| Cursor | `~/.cursor/mcp.json` | `.cursor/mcp.json` |
| VS Code | `mcp.json` in its `User` folder | `.vscode/mcp.json` |

Nothing here looks at the machine it runs on unless it is told to: a `Machine` is handed in.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from trunkline.errors import UsageError

ClientName = Literal["claude-desktop", "claude-code", "cursor", "vscode"]
Scope = Literal["user", "project"]

TITLES: Final[dict[ClientName, str]] = {
    "claude-desktop": "Claude Desktop",
    "claude-code": "Claude Code",
    "cursor": "Cursor",
    "vscode": "VS Code",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides where programs keep their files."""

    platform: str
    """As `sys.platform` has it."""

    home: Path
    environ: Mapping[str, str]

    @classmethod
    def this(cls) -> Self:
        """The machine and user that run Trunkline."""
        return cls(sys.platform, Path.home(), os.environ)

    @property
    def settings(self) -> Path:
        """The folder in which desktop programs have a folder of their own."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return self._folder("APPDATA", self.home / "AppData" / "Roaming")
        return self._folder("XDG_CONFIG_HOME", self.home / ".config")

    @property
    def claude_code(self) -> Path:
        """The folder that holds Claude Code's own file."""
        return self._folder("CLAUDE_CONFIG_DIR", self.home)

    def _folder(self, variable: str, otherwise: Path) -> Path:
        value = self.environ.get(variable)
        return Path(value) if value else otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFile:
    """One file in which a client keeps MCP servers."""

    client: ClientName
    path: Path
    table: tuple[str, ...] = ("mcpServers",)
    """The way to the object that has the servers, by name."""

    scope: Scope = "user"
    project: Path | None = None
    """The folder that `${workspaceFolder}` means; None where the client's window decides."""

    @property
    def title(self) -> str:
        """The client's name for people."""
        return TITLES[self.client]


def client_files(machine: Machine, project: Path | None = None) -> list[ClientFile]:
    """Every file a client may keep servers in, whether it exists or not; the user's own first."""
    files = [ClientFile(client="claude-desktop", path=path) for path in _claude_desktop(machine)]
    claude_code = machine.claude_code / ".claude.json"
    files += [
        ClientFile(client="claude-code", path=claude_code),
        ClientFile(client="cursor", path=machine.home / ".cursor" / "mcp.json"),
        *(
            ClientFile(
                client="vscode",
                path=machine.settings / product / "User" / "mcp.json",
                table=("servers",),
            )
            for product in ("Code", "Code - Insiders")
        ),
    ]
    if project is not None:
        files += _project_files(claude_code, project.absolute())
    return files


def client_file(client: ClientName, machine: Machine, project: Path | None = None) -> ClientFile:
    """
    The file to enter a server in: the user's own, or the one of *project*.

    Of several products, the one that is used. Raises `UsageError` if there is no such file.
    """
    scope = "user" if project is None else "project"
    files = [
        file
        for file in client_files(machine, project)
        if (file.client, file.scope) == (client, scope) and len(file.table) == 1
    ]
    if not files:
        raise UsageError(f"{TITLES[client]} keeps no servers in a project. Enter it for the user.")
    return max(files, key=lambda file: (file.path.is_file(), file.path.parent.is_dir()))


def found_clients(machine: Machine, project: Path | None = None) -> list[ClientFile]:
    """The files of `client_files` that exist."""
    return [file for file in client_files(machine, project) if file.path.is_file()]


def _claude_desktop(machine: Machine) -> list[Path]:
    name = "claude_desktop_config.json"
    usual = machine.settings / "Claude" / name
    if machine.platform != "win32":
        return [usual]
    # As a packaged app it reads a folder of its own in the place of APPDATA, if that has the file.
    local = Path(machine.environ.get("LOCALAPPDATA") or machine.home / "AppData" / "Local")
    package = local / "Packages" / "Claude_pzs8sxrjxfjjc"
    packaged = package / "LocalCache" / "Roaming" / "Claude" / name
    return [packaged, usual] if packaged.parent.is_dir() else [usual]


def _project_files(claude_code: Path, project: Path) -> list[ClientFile]:
    own_part = ("projects", str(project), "mcpServers")
    places: list[tuple[ClientName, Path, tuple[str, ...]]] = [
        ("claude-code", claude_code, own_part),
        ("claude-code", project / ".mcp.json", ("mcpServers",)),
        ("cursor", project / ".cursor" / "mcp.json", ("mcpServers",)),
        ("vscode", project / ".vscode" / "mcp.json", ("servers",)),
    ]
    return [
        ClientFile(client=client, path=path, table=table, scope="project", project=project)
        for client, path, table in places
    ]

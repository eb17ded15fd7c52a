"""The files of every client are where the client looks for them."""

from pathlib import Path

import pytest

from trunkline.clients.places import (
    ClientName,
    Machine,
    client_file,
    client_files,
    found_clients,
)
from trunkline.errors import UsageError

HOME = Path("/home/ada")

PLACES: list[tuple[str, dict[str, str], ClientName, str]] = [
    ("linux", {}, "claude-desktop", ".config/Claude/claude_desktop_config.json"),
    ("linux", {}, "claude-code", ".claude.json"),
    ("linux", {}, "cursor", ".cursor/mcp.json"),
    ("linux", {}, "vscode", ".config/Code/User/mcp.json"),
    ("linux", {"XDG_CONFIG_HOME": "/home/ada/cfg"}, "vscode", "cfg/Code/User/mcp.json"),
    ("linux", {"CLAUDE_CONFIG_DIR": "/home/ada/cc"}, "claude-code", "cc/.claude.json"),
    (
        "darwin",
        {},
        "claude-desktop",
        "Library/Application Support/Claude/claude_desktop_config.json",
    ),
    ("darwin", {}, "claude-code", ".claude.json"),
    ("darwin", {}, "cursor", ".cursor/mcp.json"),
    ("darwin", {}, "vscode", "Library/Application Support/Code/User/mcp.json"),
    ("win32", {}, "claude-desktop", "AppData/Roaming/Claude/claude_desktop_config.json"),
    ("win32", {}, "vscode", "AppData/Roaming/Code/User/mcp.json"),
    ("win32", {"APPDATA": "/home/ada/roam"}, "vscode", "roam/Code/User/mcp.json"),
    ("win32", {}, "cursor", ".cursor/mcp.json"),
]


@pytest.mark.parametrize(("platform", "environ", "client", "place"), PLACES)
def test_the_users_file_is_where_the_client_looks(
    platform: str, environ: dict[str, str], client: ClientName, place: str
) -> None:
    file = client_file(client, Machine(platform, HOME, environ))

    assert file.path == HOME / place
    assert file.table == (("servers",) if client == "vscode" else ("mcpServers",))


@pytest.mark.parametrize(
    ("client", "place"),
    [
        ("claude-code", ".mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("vscode", ".vscode/mcp.json"),
    ],
)
def test_a_projects_file_is_in_the_project(client: ClientName, place: str) -> None:
    file = client_file(client, Machine("linux", HOME, {}), Path("/work"))

    assert (file.path, file.project) == (Path("/work") / place, Path("/work"))


def test_claude_desktop_has_no_projects() -> None:
    with pytest.raises(UsageError, match="Claude Desktop keeps no servers in a project"):
        client_file("claude-desktop", Machine("linux", HOME, {}), Path("/work"))


def test_of_two_products_the_one_in_use_is_taken(tmp_path: Path) -> None:
    machine = Machine("win32", tmp_path, {"LOCALAPPDATA": str(tmp_path / "Local")})
    insiders = tmp_path / "AppData/Roaming/Code - Insiders/User"
    insiders.mkdir(parents=True)
    store = tmp_path / "Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude"
    store.mkdir(parents=True)

    assert client_file("vscode", machine).path.parent == insiders
    assert client_file("claude-desktop", machine).path.parent == store


def test_a_packaged_claude_desktop_reads_its_own_file_first(tmp_path: Path) -> None:
    machine = Machine("win32", tmp_path, {"LOCALAPPDATA": str(tmp_path / "Local")})
    usual = tmp_path / "AppData/Roaming/Claude/claude_desktop_config.json"
    packaged = tmp_path / "Local/Packages/Claude_pzs8sxrjxfjjc/LocalCache/Roaming/Claude"
    for folder in (usual.parent, packaged):
        folder.mkdir(parents=True)

    usual.write_text("{}")
    assert client_file("claude-desktop", machine).path == usual

    (packaged / usual.name).write_text("{}")
    assert client_file("claude-desktop", machine).path == packaged / usual.name


def test_only_files_that_exist_are_found(tmp_path: Path) -> None:
    machine = Machine("linux", tmp_path, {})
    (tmp_path / ".claude.json").write_text("{}")
    (tmp_path / "work" / ".vscode").mkdir(parents=True)
    (tmp_path / "work" / ".vscode" / "mcp.json").write_text("{}")

    found = found_clients(machine, tmp_path / "work")

    assert [(file.client, file.scope) for file in found] == [
        ("claude-code", "user"),
        ("claude-code", "project"),
        ("vscode", "project"),
    ]
    assert len(client_files(machine)) < len(client_files(machine, tmp_path / "work"))


def test_this_machine_is_known() -> None:
    assert client_file("cursor", Machine.this()).path.is_absolute()

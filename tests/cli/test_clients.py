"""`import`, `install` and `uninstall`, in a home that has clients."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Workplace

KNOWN = {"mcpServers": {"mail": {"command": "mail-server", "env": {"TOKEN": "secret"}}}}


@pytest.fixture
def cursor(workplace: Workplace) -> Path:
    """Cursor's configuration, with one server in it."""
    path = workplace.folder / ".cursor" / "mcp.json"
    path.parent.mkdir()
    path.write_text(json.dumps(KNOWN))
    return path


def servers(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())["mcpServers"]


def test_import_adds_what_clients_know_and_keeps_what_is_there(
    workplace: Workplace, cursor: Path
) -> None:
    workplace.configure({"mine": {"command": "x"}})
    ours = workplace.folder / "mcp.json"

    rehearsed = workplace.run("import", "--dry-run")
    before = servers(ours)
    first = workplace.run("import")
    second = workplace.run("import")

    assert before == {"mine": {"command": "x"}}
    assert servers(ours) == {**before, **KNOWN["mcpServers"]}
    assert servers(cursor) == KNOWN["mcpServers"]
    assert "mail" in rehearsed.stdout
    assert f"Added to {ours}: mail. The file as it was: " in first.stdout
    assert f"Already in {ours}: mail." in second.stdout
    assert "secret" not in first.stdout + first.stderr


def test_import_writes_to_home_where_there_is_no_mcp_json(
    workplace: Workplace, cursor: Path
) -> None:
    workplace.run("import", "--from", "cursor")

    assert servers(workplace.folder / "home" / "mcp.json") == KNOWN["mcpServers"]


def test_import_of_other_clients_only_finds_nothing(workplace: Workplace, cursor: Path) -> None:
    done = workplace.run("import", "--from", "vscode")

    assert done.returncode == 0
    assert "No servers were found" in done.stderr


def test_install_and_uninstall_leave_everything_else_alone(
    workplace: Workplace, cursor: Path
) -> None:
    workplace.configure({})

    rehearsed = workplace.run("install", "cursor", "--dry-run")
    untouched = cursor.read_text()
    installed = workplace.run("install", "cursor")
    entry = servers(cursor)["trunkline"]
    again = workplace.run("install", "cursor")
    removed = workplace.run("uninstall", "cursor")

    assert untouched == json.dumps(KNOWN)
    assert '"serve"' in rehearsed.stdout
    assert Path(entry["command"]).is_absolute()
    assert entry["args"][-3:] == ["serve", "--config", str(workplace.folder / "mcp.json")]
    assert "installed in" in installed.stdout
    assert "already installed" in again.stdout
    assert "removed" in removed.stdout
    assert json.loads(cursor.read_text()) == KNOWN


def test_install_can_name_a_running_trunkline(workplace: Workplace, cursor: Path) -> None:
    url = "http://127.0.0.1:8080/mcp"

    done = workplace.run("install", "cursor", "--http", url)
    wrong = workplace.run("install", "cursor", "--http", "127.0.0.1:8080")

    assert done.returncode == 0
    assert servers(cursor)["trunkline"]["url"] == url
    assert wrong.returncode == 2
    assert "Write http://127.0.0.1:8080/mcp. [usage]" in wrong.stderr


def test_install_for_a_project_writes_into_the_folder(workplace: Workplace) -> None:
    workplace.run("install", "claude-code", "--project")

    assert "trunkline" in servers(workplace.folder / ".mcp.json")


def test_a_broken_file_is_left_as_it_is(workplace: Workplace, cursor: Path) -> None:
    cursor.write_text('{"mcpServers": {')

    done = workplace.run("install", "cursor")

    assert done.returncode == 2
    assert done.stderr.endswith("[config_syntax]\n")
    assert cursor.read_text() == '{"mcpServers": {'

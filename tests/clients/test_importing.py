"""What a person's clients know arrives in mcp.json, once, meaning the same."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from trunkline.clients.importing import ImportResult, import_servers, write_import
from trunkline.clients.places import ClientName, Machine, client_files
from trunkline.downstream.config import read_config
from trunkline.errors import ConfigSyntaxError

A = {"command": "a-server", "args": ["--fast"]}
B = {"url": "https://b.example/mcp", "headers": {"Authorization": "Bearer s3cret"}}


class Desk:
    """A home with clients in it, and a project."""

    def __init__(self, home: Path) -> None:
        self.machine, self.project = Machine("linux", home, {}), home / "work"
        self.mcp_json = home / "mcp.json"

    def give(
        self, client: ClientName, servers: Mapping[str, Any], *, in_project: bool = False
    ) -> Path:
        """Let a client know these servers."""
        scope = "project" if in_project else "user"
        file = next(
            file
            for file in client_files(self.machine, self.project)
            if (file.client, file.scope, len(file.table)) == (client, scope, 1)
        )
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_text(json.dumps({"other": [1], file.table[0]: servers}))
        return file.path

    def collect(self) -> ImportResult:
        """Import from every client."""
        return import_servers(client_files(self.machine, self.project))

    def servers(self) -> dict[str, Any]:
        """The entries of the imported servers, by name."""
        return {server.name: server.entry for server in self.collect().servers}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_servers_of_all_clients_come_together_with_their_secrets(desk: Desk) -> None:
    desk.give("claude-desktop", {"a": A})
    desk.give("claude-code", {"b": {"type": "http", **B}})
    desk.give("cursor", {"c": {"url": "https://c.example/sse"}})
    desk.give("vscode", {"d": {"type": "stdio", **A}})

    result = desk.collect()

    assert result.problems == ()
    assert [(server.name, server.source.client) for server in result.servers] == [
        ("a", "claude-desktop"),
        ("b", "claude-code"),
        ("c", "cursor"),
        ("d", "vscode"),
    ]
    assert result.servers[1].entry == {"type": "http", **B}


def test_the_same_server_is_taken_once_and_another_gets_another_name(desk: Desk) -> None:
    desk.give("claude-desktop", {"a": A, "b": B})
    desk.give("cursor", {"a": {**A, "env": {"X": "1"}}, "b": {"url": "https://b.example/mcp/"}})
    desk.give("vscode", {"a": {"command": "another"}, "b": {"command": "b"}})

    assert list(desk.servers()) == ["a", "b", "a-2", "b-2"]


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("trunkline", {"url": "http://127.0.0.1:8080/mcp"}),
        ("gateway", {"command": "/opt/venv/bin/trunkline", "args": ["serve"]}),
        ("gateway", {"command": "C:\\Tools\\trunkline.exe"}),
        ("gateway", {"command": "uvx", "args": ["trunkline", "serve"]}),
        ("gateway", {"command": "python", "args": ["-m", "trunkline", "serve"]}),
    ],
)
def test_trunkline_does_not_import_itself(desk: Desk, name: str, entry: dict[str, Any]) -> None:
    desk.give("claude-code", {name: entry, "a": A})

    assert list(desk.servers()) == ["a"]


def test_a_projects_servers_run_in_the_project(desk: Desk) -> None:
    desk.give("vscode", {"a": {"command": "${workspaceFolder}/run", "cwd": "sub"}}, in_project=True)
    desk.give("claude-code", {"b": A, "c": B}, in_project=True)

    assert desk.servers() == {
        "a": {"command": f"{desk.project}/run", "cwd": str(desk.project / "sub")},
        "b": {**A, "cwd": str(desk.project)},
        "c": B,
    }


def test_a_projects_references_mean_that_project_wherever_mcp_json_is(desk: Desk) -> None:
    entry = {"command": "x", "args": ["${workspaceFolderBasename}"], "cwd": "${userHome}/data"}
    desk.give("cursor", {"a": entry}, in_project=True)

    assert desk.servers() == {"a": {**entry, "args": ["work"]}}


def test_what_claude_code_keeps_for_one_project_is_found(desk: Desk) -> None:
    projects = {str(desk.project): {"mcpServers": {"a": A}}, "/elsewhere": {"mcpServers": {"b": B}}}
    (desk.machine.home / ".claude.json").write_text(json.dumps({"projects": projects}))

    assert desk.servers() == {"a": {**A, "cwd": str(desk.project)}}


def test_an_input_of_vs_code_becomes_a_variable_and_that_is_said(desk: Desk) -> None:
    desk.give(
        "vscode", {"a": {"command": "x", "env": {"T": "${input:git-token}", "P": 1, "N": None}}}
    )

    result = desk.collect()

    assert result.servers[0].entry["env"] == {"T": "${GIT_TOKEN}", "P": "1"}
    assert [problem for problem in result.problems if "GIT_TOKEN" in problem] == [*result.problems]
    assert len(result.problems) == 1


def test_milliseconds_of_claude_code_become_seconds(desk: Desk) -> None:
    desk.give("claude-code", {"a": {**A, "timeout": 30_000}})

    assert desk.servers()["a"]["timeout"] == 30


def test_claude_desktop_expands_nothing_and_so_do_we(desk: Desk) -> None:
    desk.give("claude-desktop", {"a": {"command": "sh", "args": ["-c", "echo ${HOME} $${X}"]}})

    write_import(desk.collect(), desk.mcp_json)

    (server,) = read_config(desk.mcp_json, {"HOME": "/home/ada"}).servers
    assert server.args == ("-c", "echo ${HOME} $${X}")


def test_a_broken_file_is_a_problem_and_the_others_are_read(desk: Desk) -> None:
    desk.give("claude-desktop", {}).write_text('{"mcpServers": {"a": ')
    desk.give("cursor", {"b": B, "junk": "text"})

    result = desk.collect()

    assert [server.name for server in result.servers] == ["b"]
    (problem,) = result.problems
    assert "claude_desktop_config.json is not JSON, line 1, column" in problem


def test_mcp_json_is_made_for_its_owner_alone_and_can_be_read(desk: Desk) -> None:
    desk.give("claude-desktop", {"a": A, "b": B})

    written = write_import(desk.collect(), desk.mcp_json)

    config = read_config(desk.mcp_json, {})
    assert (written.added, written.present, written.backup) == (("a", "b"), (), None)
    assert config.problems == ()
    assert [server.name for server in config.servers] == ["a", "b"]
    assert config.servers[1].headers == B["headers"]


def test_what_mcp_json_has_stays_and_a_second_import_adds_nothing(desk: Desk) -> None:
    text = """{
  // mine
  "mcpServers": {
    "a": {"command": "my-own"}, // do not touch
    "b": {"url": "https://b.example/mcp", "lazy": true}
  }
}
"""
    desk.mcp_json.write_text(text)
    desk.give("claude-desktop", {"a": A, "b": B})

    first = write_import(desk.collect(), desk.mcp_json)
    second = write_import(desk.collect(), desk.mcp_json)

    config = read_config(desk.mcp_json, {})
    assert (first.added, first.present) == (("a-2",), ("b",))
    assert first.backup is not None
    assert first.backup.read_text() == text
    assert (second.added, second.present, second.backup) == ((), ("a", "b"), None)
    assert [server.name for server in config.servers] == ["a", "b", "a-2"]
    assert config.servers[1].lazy
    assert "// do not touch" in desk.mcp_json.read_text()


def test_a_new_name_takes_nobody_elses(desk: Desk) -> None:
    desk.mcp_json.write_text(json.dumps({"mcpServers": {"a": {"command": "my-own"}}}))
    desk.give("claude-desktop", {"a": A, "a-2": B})

    written = write_import(desk.collect(), desk.mcp_json)

    entries = json.loads(desk.mcp_json.read_text())["mcpServers"]
    assert written.added == ("a-2", "a-2-2")
    assert entries == {"a": {"command": "my-own"}, "a-2": A, "a-2-2": B}


def test_a_dry_run_says_what_would_be_added_and_writes_nothing(desk: Desk) -> None:
    desk.give("claude-desktop", {"a": A})

    assert write_import(desk.collect(), desk.mcp_json, dry_run=True).added == ("a",)
    assert not desk.mcp_json.exists()


def test_a_broken_mcp_json_is_refused_and_left_alone(desk: Desk) -> None:
    desk.give("claude-desktop", {"a": A})
    desk.mcp_json.write_text("{")

    with pytest.raises(ConfigSyntaxError):
        write_import(desk.collect(), desk.mcp_json)

    assert desk.mcp_json.read_text() == "{"

"""Our entry is put into a client's file and taken out, and nothing else in it changes."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline.clients.installing import (
    OWN_NAME,
    http_entry,
    install,
    own_command,
    stdio_entry,
    uninstall,
)
from trunkline.clients.places import ClientFile, ClientName, Machine, client_file
from trunkline.errors import ConfigError, ConfigSyntaxError, UsageError
from trunkline.jsonc import parse

ENTRY = {"command": "/opt/trunkline", "args": ["serve"]}
CLIENTS: list[ClientName] = ["claude-desktop", "claude-code", "cursor", "vscode"]

names = st.text(max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "Infinity" not in json.dumps(value))
documents = st.fixed_dictionaries(
    {"theme": values}, optional={"mcpServers": st.dictionaries(names, values, max_size=3)}
)


@pytest.fixture
def file(tmp_path: Path) -> ClientFile:
    return ClientFile(client="cursor", path=tmp_path / "mcp.json")


@pytest.mark.parametrize("client", CLIENTS)
def test_install_and_uninstall_are_each_done_once(tmp_path: Path, client: ClientName) -> None:
    file = client_file(client, Machine("linux", tmp_path, {}))
    entry = stdio_entry(client, own_command(), tmp_path / "mcp.json")

    deeds = [install(file, entry).deed, install(file, entry).deed]
    installed = parse(file.path.read_text()).value
    deeds += [uninstall(file).deed, uninstall(file).deed]

    assert deeds == ["installed", "already installed", "removed", "not installed"]
    assert installed == {file.table[0]: {OWN_NAME: entry}}
    assert parse(file.path.read_text()).value == {file.table[0]: {}}


def test_the_entry_starts_this_trunkline_from_anywhere(tmp_path: Path) -> None:
    entry = stdio_entry("vscode", own_command(), tmp_path / "mcp.json")

    assert Path(entry["command"]).is_absolute()
    assert entry["args"][-3:] == ["serve", "--config", str(tmp_path / "mcp.json")]
    assert entry["type"] == "stdio"


def test_each_client_gets_a_url_in_its_own_words() -> None:
    url = "http://127.0.0.1:8080/mcp"

    assert http_entry("claude-code", url) == {"type": "http", "url": url}
    assert http_entry("vscode", url) == {"type": "http", "url": url}
    assert http_entry("cursor", url) == {"url": url}
    with pytest.raises(UsageError, match="Connectors"):
        http_entry("claude-desktop", url)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(documents, st.sampled_from([None, 2, "\t"]))
def test_everything_else_stays_and_uninstall_restores_it(
    file: ClientFile, document: dict[str, Any], indent: int | str | None
) -> None:
    file.path.write_text(json.dumps(document, indent=indent))
    own = dict(document.get("mcpServers", {}))
    own.pop(OWN_NAME, None)

    install(file, ENTRY)
    installed = json.loads(file.path.read_text())
    uninstall(file)
    restored = json.loads(file.path.read_text())

    assert installed == {**document, "mcpServers": {**own, OWN_NAME: ENTRY}}
    assert restored == {**document, "mcpServers": own}


def test_comments_survive_and_uninstall_restores_every_character(file: ClientFile) -> None:
    text = """{
  // what I use
  "mcpServers": {
    "a": {"command": "x"}, // works
  },
}
"""
    file.path.write_text(text)

    outcome = install(file, ENTRY)
    installed = file.path.read_text()
    uninstall(file)

    assert outcome.backup is not None
    assert outcome.backup.read_text() == text
    assert all(line in installed for line in text.splitlines())
    assert file.path.read_text() == text


def test_a_byte_order_mark_and_line_ends_of_windows_stay(file: ClientFile) -> None:
    data = b'\xef\xbb\xbf{\r\n  "mcpServers": {\r\n    "a": {}\r\n  }\r\n}\r\n'
    file.path.write_bytes(data)

    install(file, ENTRY)
    installed = file.path.read_bytes()
    uninstall(file)

    assert installed.startswith(b"\xef\xbb\xbf{")
    assert installed.count(b"\n") == installed.count(b"\r\n")
    assert file.path.read_bytes() == data


def test_what_the_user_added_to_our_entry_stays(file: ClientFile) -> None:
    file.path.write_text(json.dumps({"mcpServers": {OWN_NAME: {**ENTRY, "env": {"A": "1"}}}}))

    same = install(file, ENTRY)
    moved = install(file, {"url": "http://127.0.0.1:1/mcp"})

    assert (same.deed, moved.deed) == ("already installed", "updated")
    assert json.loads(file.path.read_text())["mcpServers"][OWN_NAME] == {
        "url": "http://127.0.0.1:1/mcp",
        "env": {"A": "1"},
    }


@pytest.mark.parametrize("text", ['{"mcpServers": {', "not json", '{"a": }'])
def test_a_broken_file_is_refused_and_left_alone(file: ClientFile, text: str) -> None:
    file.path.write_text(text)

    for attempt in (lambda: install(file, ENTRY), lambda: uninstall(file)):
        with pytest.raises(ConfigSyntaxError, match="line 1, column"):
            attempt()

    assert file.path.read_text() == text
    assert list(file.path.parent.iterdir()) == [file.path]


@pytest.mark.parametrize("data", [b'{"mcpServers": []}', b"[]", b'{"a": "\xff"}'])
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_file_of_another_shape_is_refused_and_left_alone(
    file: ClientFile, data: bytes, dry_run: bool
) -> None:
    file.path.write_bytes(data)

    with pytest.raises(ConfigError):
        install(file, ENTRY, dry_run=dry_run)

    assert file.path.read_bytes() == data


def test_an_empty_file_is_filled(file: ClientFile) -> None:
    file.path.write_text("\n")

    install(file, ENTRY)

    assert json.loads(file.path.read_text()) == {"mcpServers": {OWN_NAME: ENTRY}}


def test_a_dry_run_writes_nothing(file: ClientFile) -> None:
    assert install(file, ENTRY, dry_run=True).deed == "installed"
    assert not file.path.exists()

    install(file, ENTRY)
    before = file.path.read_bytes()

    assert uninstall(file, dry_run=True).deed == "removed"
    assert file.path.read_bytes() == before

"""The entrance of the command line: what it offers, and how errors leave it."""

import importlib
import inspect

import pytest
from cyclopts import App
from tests.cli.conftest import Workplace

from trunkline.cli.main import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_help_says(name: str) -> None:
    path, line = COMMANDS[name]
    module, _, function = path.partition(":")

    command = getattr(importlib.import_module(module), function)
    doc = command.help if isinstance(command, App) else inspect.getdoc(command)

    assert doc is not None
    assert doc.splitlines()[0] == line


def test_help_and_version_need_no_configuration(workplace: Workplace) -> None:
    asked = [workplace.run(*words) for words in ([], ["--help"], ["serve", "--help"])]
    version = workplace.run("--version")

    assert [done.returncode for done in asked] == [0, 0, 0]
    assert all(name in asked[0].stdout for name in COMMANDS)
    assert asked[0].stdout == asked[1].stdout
    assert "as many clients as connect" in asked[2].stdout
    assert version.stdout.startswith("trunkline ")


def test_what_the_system_refuses_is_a_sentence(workplace: Workplace) -> None:
    (workplace.folder / "home").write_text("in the way")
    (workplace.folder / ".cursor").mkdir()
    (workplace.folder / ".cursor" / "mcp.json").write_text(
        '{"mcpServers": {"a": {"command": "x"}}}'
    )

    done = workplace.run("import", "--from", "cursor")

    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith("[system_refusal]\n")

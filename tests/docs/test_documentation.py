"""The documentation says what the program does: commands, codes, settings and links exist."""

import ast
import importlib
import json
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from cyclopts import CycloptsError
from pydantic import AliasChoices, BaseModel

import trunkline
from trunkline.cli.main import commands
from trunkline.downstream.config import ProblemCode
from trunkline.errors import TrunklineError
from trunkline.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
DERIVED = {"TRUNKLINE_HOME"}
"""Settings whose default depends on the machine."""


def commands_in(page: Path) -> Iterator[str]:
    """The lines of a page's `sh` blocks that run something of ours, continued lines joined."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"\s*(trunkline|make)\b", line):
                yield line.strip()


SHOWN = [(page.name, line) for page in PAGES for line in commands_in(page)]


@pytest.mark.parametrize(("page", "line"), SHOWN, ids=lambda value: value.partition("#")[0].strip())
def test_every_command_shown_exists(page: str, line: str) -> None:
    program, *arguments = shlex.split(line, comments=True)

    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert [word for word in arguments if "=" not in word] or arguments, page
        assert {word for word in arguments if "=" not in word} <= set(targets), page
    else:
        parses(arguments)


def parses(arguments: list[str]) -> None:
    """Fail unless the command line understands these arguments."""
    try:
        commands().parse_args(arguments, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        pytest.fail(f"trunkline {shlex.join(arguments)}: {error}")


def test_a_command_that_does_not_exist_would_be_found() -> None:
    with pytest.raises(pytest.fail.Exception):
        parses(["serve", "--no-such-option"])
    assert SHOWN


def all_codes() -> set[str]:
    """Every code that can reach somebody: those of the error classes, and those given in place."""
    for module in pkgutil.walk_packages(trunkline.__path__, "trunkline."):
        if "__main__" not in module.name and ".share" not in module.name:
            importlib.import_module(module.name)
    sources = "".join(path.read_text() for path in (ROOT / "server").rglob("*.py"))
    found = {*get_args(ProblemCode), *re.findall(r'"code": "([a-z_]+)"', sources)}
    classes: list[type[TrunklineError]] = [TrunklineError]
    while classes:
        one = classes.pop()
        if one.__module__.startswith("trunkline."):
            found.add(one.code)
        classes.extend(one.__subclasses__())
    return found


def test_every_error_code_is_documented_and_no_other() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    table = text.partition("## Codes")[2]

    assert set(re.findall(r"^\| `([A-Za-z_]+)` \|", table, re.MULTILINE)) == all_codes()


def variables(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    """Every setting as its environment variable, with its default as documented."""
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        first = alias.choices[0] if isinstance(alias, AliasChoices) else None
        variable = str(first) if first is not None else prefix + name.upper()
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from variables(annotation, f"{variable}__")
        else:
            yield variable, written(field.get_default(call_default_factory=True))


def written(value: object) -> str:
    """A default as docs/settings.md writes it."""
    if value is None:
        return "not set"
    return f"`{json.dumps(list(value))}`" if isinstance(value, tuple) else f"`{value}`"


def test_every_setting_is_documented_with_its_default_and_no_other() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| (.*?) \| (.+?) \|$",
        (ROOT / "docs" / "settings.md").read_text(),
        re.MULTILINE,
    )
    documented = {name: default for name, default, _ in rows}
    actual = dict(variables(Settings, "TRUNKLINE_"))

    assert documented.keys() == actual.keys()
    for name in actual.keys() - DERIVED:
        assert documented[name] == actual[name], name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_changelog_says_what_is_unreleased() -> None:
    unreleased = (ROOT / "CHANGELOG.md").read_text().partition("## Unreleased\n")[2]

    assert re.match(r"\n- (Added|Changed|Fixed|Removed)", unreleased)


def test_the_decisions_have_three_lines_each() -> None:
    text = (ROOT / "docs" / "decisions.md").read_text()
    entries = [block.splitlines() for block in text.split("\n\n") if block.startswith("**")]

    assert entries
    for first, *others in entries:
        assert first.endswith("**"), first
        assert [line.partition(":")[0] for line in others] == ["Why", "What would change it"], first


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_shown_is_python(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        ast.parse(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_json_shown_is_json(page: Path) -> None:
    for block in re.findall(r"^```json\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        json.loads(block)

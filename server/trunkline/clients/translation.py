"""
An entry of a client's configuration in the words of mcp.json.

The two look alike, but what is implied is not: units, folders, and what `${...}` stands for.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

from trunkline.clients.places import ClientFile
from trunkline.models import Json

_INPUT = re.compile(r"\$\{input:([^{}]+)\}")


def translate(entry: Json, file: ClientFile) -> Json:
    """An entry that does the same in mcp.json as *entry* does in *file*."""
    new: Json = dict(entry)
    if isinstance(environment := new.get("env"), dict):
        # VS Code takes numbers, and null for a variable that is not to be set.
        new["env"] = {
            name: str(value) if _is_number(value) else value
            for name, value in environment.items()
            if value is not None
        }
    if file.client == "claude-code" and _is_number(milliseconds := new.get("timeout")):
        new["timeout"] = milliseconds / 1000
    if file.client == "claude-desktop":
        return _with_texts(new, lambda text: text.replace("${", "$${"))
    new = _with_texts(new, lambda text: _INPUT.sub(lambda match: _reference(match[1]), text))
    if file.project is None:
        return new
    return _in_project(new, file.project)


def inputs_of(entry: Json) -> dict[str, str]:
    """What an entry asks its user for -> the environment variable that is used in its place."""
    found: dict[str, str] = {}

    def look(text: str) -> str:
        found.update((name, _variable(name)) for name in _INPUT.findall(text))
        return text

    _with_texts(entry, look)
    return found


def _in_project(entry: Json, project: Path) -> Json:
    """An entry of a project's own file, usable from anywhere."""

    def place(text: str) -> str:
        text = text.replace("${workspaceFolder}", str(project))
        return text.replace("${workspaceFolderBasename}", project.name)

    entry = _with_texts(entry, place)
    cwd = entry.get("cwd") or ""
    # One that begins with a reference or ~ is a whole path once it is expanded.
    if "command" in entry and isinstance(cwd, str) and not cwd.startswith(("${", "~")):
        entry["cwd"] = str(project / cwd)
    return entry


def _reference(asked: str) -> str:
    return f"${{{_variable(asked)}}}"


def _variable(asked: str) -> str:
    """`github-token` as an environment variable: GITHUB_TOKEN."""
    return re.sub(r"[^A-Za-z0-9]+", "_", asked).upper().lstrip("0123456789_") or "INPUT"


def _with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A copy in which every text, at any depth, has been changed. Names stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_with_texts(item, change) for item in value]
    if isinstance(value, dict):
        return {name: _with_texts(item, change) for name, item in value.items()}
    return value


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)

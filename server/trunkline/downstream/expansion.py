"""
`${...}` in the texts of mcp.json, replaced by what it stands for.

    ${NAME}  ${env:NAME}      an environment variable
    ${NAME:-default}          the default where the variable is not set, or empty
    ${workspaceFolder}        the folder of the configuration, ${workspaceFolderBasename} its name
    ${userHome}               the home directory
    ${pathSeparator}  ${/}    what stands between the parts of a path
    ${client.…}  ${user.…}    about whoever calls: kept as references (`credentials`)
    ${org.name}
    $${NAME}                  the text ${NAME} itself

A lone `$`, `$$` or `$NAME` is nothing special, and what a variable holds is not looked into again.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline.downstream.credentials import PREFIXES, Reference, Template

_NAME = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)")


class ExpansionError(Exception):
    """A reference that stands for nothing. `str()` is a sentence about it, without the server."""


class VariableMissing(ExpansionError):
    """An environment variable that is not set and has no default."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the environment variable {name} is not set. "
            f"Set it, or give it a default: ${{{name}:-default}}."
        )
        self.name = name


@dataclass(frozen=True, slots=True)
class Expansion:
    """What references stand for in one configuration file."""

    environ: Mapping[str, str]
    folder: Path
    """The folder that `${workspaceFolder}` means."""

    def expand(self, text: str) -> str:
        """*text* with every reference replaced. Raises `ExpansionError`."""
        template = self.template(text)
        for reference in template.references:
            raise ExpansionError(
                f"{reference} is about whoever calls, and that can only be told in "
                '"headers", "env" or "args".'
            )
        return template.fill({})

    def template(self, text: str) -> Template:
        """*text*, of which nothing is left to replace but what depends on whoever calls."""
        parts: list[str | Reference] = []
        at = 0
        while (start := text.find("${", at)) >= 0:
            if start > at and text[start - 1] == "$":
                parts += text[at : start - 1], "${"
                at = start + 2
            else:
                end = _end_of_reference(text, start)
                parts += text[at:start], self._meaning(text[start + 2 : end - 1])
                at = end
        return Template(tuple(part for part in (*parts, text[at:]) if part != ""))

    def _meaning(self, reference: str) -> str | Reference:
        known = {
            "workspaceFolder": str(self.folder),
            "workspaceFolderBasename": self.folder.name,
            "pathSeparator": os.sep,
            "/": os.sep,
        }
        if reference in known:
            return known[reference]
        if reference == "userHome":
            return self.environ.get("HOME") or self.environ.get("USERPROFILE") or str(Path.home())
        if reference.startswith(PREFIXES):
            if (meant := Reference.read(reference)) is None:
                raise ExpansionError(_nothing_of_a_caller(reference))
            return meant
        name, has_default, default = reference.partition(":-")
        match = _NAME.fullmatch(name)
        if match is None:
            raise ExpansionError(_explain(reference))
        value = self.environ.get(match[1])
        if has_default:
            return value or self.expand(default)
        if value is None:
            raise VariableMissing(match[1])
        return value


def _end_of_reference(text: str, start: int) -> int:
    """The offset behind the brace that closes the reference at *start*."""
    depth = 0
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    raise ExpansionError('a "${" has no "}". Close it, or write "$${" for these very characters.')


def _nothing_of_a_caller(reference: str) -> str:
    return (
        f"${{{reference}}} is nothing that is known of a caller. There are "
        "${client.authorization}, ${user.token:NAME}, ${user.name} and ${org.name}."
    )


def _explain(reference: str) -> str:
    if reference.startswith("input:"):
        return (
            f"${{{reference}}} asks a person, and here is nobody to ask. "
            "Set an environment variable and write ${NAME} with its name."
        )
    return (
        f"${{{reference}}} stands for nothing known. Name an environment variable, "
        f"or write $${{{reference}}} for these very characters."
    )

"""
The servers that a person's clients know, gathered for our mcp.json.

What they mean is kept, secrets included; `translation` puts it in our words. We ourselves are left
out: a gateway that starts itself never ends.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.clients.document import change_document, entries_at, read_document
from trunkline.clients.installing import OWN_NAME
from trunkline.clients.places import ClientFile
from trunkline.clients.translation import inputs_of, translate
from trunkline.errors import ConfigError
from trunkline.jsonc import Node, parse
from trunkline.jsonc_edit import set_member
from trunkline.models import Json

TABLES: Final = ("mcpServers", "servers")
"""Where servers may stand in our own mcp.json; new ones go to the first that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedServer:
    """A server as mcp.json has it, and the file it comes from."""

    name: str
    entry: Json
    source: ClientFile


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What the clients' files came to."""

    servers: tuple[ImportedServer, ...] = ()
    problems: tuple[str, ...] = ()
    """Sentences: files that cannot be read, and what has to be set before a server works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What an import did to mcp.json."""

    added: tuple[str, ...]
    """The names the servers have there: another than before where one was taken."""

    present: tuple[str, ...]
    """Servers that were there already."""

    backup: Path | None = None
    """The copy of mcp.json as it was before, if it was changed."""


def import_servers(files: Iterable[ClientFile]) -> ImportResult:
    """
    Gather the servers of *files*, which need not exist.

    A server that several clients know is taken once. Of different servers with one name, the later
    ones get another name. A file that is broken is a problem; the others are read.
    """
    servers: dict[str, ImportedServer] = {}
    problems: list[str] = []
    for file in files:
        try:
            root = read_document(file.path)
        except ConfigError as error:
            problems.append(str(error))
            continue
        for name, entry in ({} if root is None else entries_at(root, file.table)).items():
            if is_trunkline(name, entry):
                continue
            translated = translate(entry, file)
            free = _free_name(name, translated, {key: one.entry for key, one in servers.items()})
            if free is None:
                continue
            servers[free] = ImportedServer(name=free, entry=translated, source=file)
            problems += (
                f"{file.title} asks for {asked!r} when it starts {name!r}. "
                f"Set the environment variable {variable} before Trunkline starts."
                for asked, variable in inputs_of(entry).items()
            )
    return ImportResult(servers=tuple(servers.values()), problems=tuple(dict.fromkeys(problems)))


def write_import(result: ImportResult, path: Path, *, dry_run: bool = False) -> Written:
    """
    Add the servers of *result* to the mcp.json at *path*, and change nothing else in it.

    With *dry_run* nothing is written. Raises `ConfigError` if the file is not one to be changed,
    and `SystemRefusal`.
    """
    added: list[str] = []
    present: list[str] = []

    def add_all(text: str) -> str:
        added.clear()
        present.clear()
        root = parse(text)
        table = next((key for key in TABLES if root.member(key)), TABLES[0])
        there = _servers_of(root)
        for server in result.servers:
            name = _free_name(server.name, server.entry, there)
            if name is None:
                present.append(server.name)
                continue
            text = set_member(text, (table, name), server.entry)
            there[name] = server.entry
            added.append(name)
        return text

    backup = change_document(path, add_all, dry_run=dry_run)
    return Written(added=tuple(added), present=tuple(present), backup=backup)


def is_trunkline(name: str, entry: Json) -> bool:
    """Whether an entry of a client starts or names a Trunkline."""
    command, args = entry.get("command"), entry.get("args")
    program = re.split(r"[/\\]", command)[-1] if isinstance(command, str) else ""
    words = [program.removesuffix(".exe"), *(args if isinstance(args, list) else ())]
    return name == OWN_NAME or OWN_NAME in words


def _servers_of(root: Node) -> dict[str, Json]:
    there: dict[str, Json] = {}
    for table in TABLES:
        there |= entries_at(root, (table,))
    return there


def _free_name(name: str, entry: Json, taken: Mapping[str, Json]) -> str | None:
    """*name*, or *name* with a number if another server has it; None if it is the same server."""
    free, number = name, 1
    while free in taken:
        if _identity(taken[free]) == _identity(entry):
            return None
        number += 1
        free = f"{name}-{number}"
    return free


def _identity(entry: Json) -> str:
    """What makes two entries the same server: the program with its arguments, or the URL."""
    url = entry.get("url") or entry.get("serverUrl") or entry.get("httpUrl")
    if isinstance(url, str):
        return url.rstrip("/")
    return json.dumps([entry.get("command"), entry.get("args") or []], sort_keys=True)

"""
mcp.json: which servers to connect to, and how.

The Claude Desktop form (`{"mcpServers": {name: {...}}}`), or VS Code's (`servers`), plus keys of
our own; docs/configuration.md has them all. Comments and trailing commas are welcome. Nothing in
the file makes reading fail: what is wrong is reported with its place, and the other servers work.

    text ─ jsonc ─> nodes ─ Entry ─> ServerConfig, or problems
                               └ Expansion replaces ${...}
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from trunkline.downstream.entry import ConfigProblem, Entry, ProblemCode, Source, did_you_mean
from trunkline.downstream.expansion import Expansion
from trunkline.downstream.server_config import ServerConfig, Sharing, ToolRules, Transport
from trunkline.downstream.server_entry import read_server
from trunkline.jsonc import JsonSyntaxError, Member, Node, duplicates, parse
from trunkline.models import Json, ProviderId

__all__ = [
    "Changes",
    "Config",
    "ConfigProblem",
    "ProblemCode",
    "ServerConfig",
    "Sharing",
    "ToolRules",
    "Transport",
    "difference",
    "read_config",
    "read_entry",
]

TABLES: Final = ("mcpServers", "servers")
"""The keys that servers stand under: everybody's, and VS Code's."""

PASSED_OVER: Final = frozenset({"$schema", "inputs"})
EXAMPLE: Final = '{"mcpServers": {"time": {"command": "mcp-server-time"}}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What mcp.json says."""

    servers: tuple[ServerConfig, ...] = ()
    """Every server that can be used, in the order of the file."""

    problems: tuple[ConfigProblem, ...] = ()
    is_readable: bool = True
    """Whether the file said anything at all about servers."""

    def keeping(self, previous: Self) -> Self:
        """This, with the servers of *previous* while the file is not readable: half saved, say."""
        return self if self.is_readable else replace(self, servers=previous.servers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What it takes to get from one configuration to another."""

    added: tuple[ServerConfig, ...] = ()
    removed: tuple[ProviderId, ...] = ()
    changed: tuple[ServerConfig, ...] = ()
    """These need a new connection."""

    renamed: tuple[ServerConfig, ...] = ()
    """These are connected as they should be; their names, rules, rank or timeout are others."""


def difference(old: Config, new: Config) -> Changes:
    """What has changed, server by server. One that stayed as it was is not mentioned."""
    before = {server.id: server for server in old.servers}
    now = {server.id: server for server in new.servers}
    kept = [(before[one], server) for one, server in now.items() if one in before]
    return Changes(
        added=tuple(server for one, server in now.items() if one not in before),
        removed=tuple(one for one in before if one not in now),
        changed=tuple(new for old, new in kept if not new.connection_equals(old)),
        renamed=tuple(
            new
            for old, new in kept
            if new.connection_equals(old) and (new != old or new.position != old.position)
        ),
    )


def read_config(path: Path, environ: Mapping[str, str]) -> Config:
    """
    Read mcp.json, with *environ* for the variables it refers to.

    Never raises for what is in the file, or for there being none: that is among the `problems`.
    """
    text = _read_text(path)
    if isinstance(text, ConfigProblem):
        return Config(problems=(text,), is_readable=False)
    return parse_config(text, environ, workspace_of(path))


def read_entry(name: str, entry: Json, environ: Mapping[str, str], folder: Path) -> Config:
    """
    One server that was added by an administrator, in the words of mcp.json.

    Relative paths begin at *folder*. Never raises for what is in it: see `problems`.
    """
    return parse_config(json.dumps({"mcpServers": {name: entry}}), environ, folder)


def parse_config(text: str, environ: Mapping[str, str], folder: Path) -> Config:
    """What the text of a mcp.json says. *folder* is the one it is about."""
    try:
        root = parse(text)
    except JsonSyntaxError as error:
        return Config(problems=(_syntax_problem(error),), is_readable=False)
    source = Source(text)
    if not isinstance(root.value, dict):
        source.complain(
            "config_invalid", f"The file holds no object. Begin with {EXAMPLE}.", root.start
        )
        return Config(problems=tuple(source.problems), is_readable=False)
    expansion = Expansion(environ, folder)
    servers = tuple(_servers(root, source, expansion))
    return Config(servers=servers, problems=tuple(source.problems))


def workspace_of(path: Path) -> Path:
    """The folder a configuration is about: its own, or the one that has it in a `.vscode`."""
    folder = path.absolute().parent
    return folder.parent if folder.name in {".vscode", ".cursor"} else folder


def _read_text(path: Path) -> str | ConfigProblem:
    """The text of the file, or why there is none."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return ConfigProblem(
            code="config_missing",
            message=f"There is no file {path}. Create it, with {EXAMPLE} for a start.",
        )
    except IsADirectoryError:
        return ConfigProblem(
            code="config_unreadable", message=f"{path} is a folder. Name the file inside it."
        )
    except UnicodeDecodeError as error:
        return ConfigProblem(
            code="config_unreadable",
            message=f"{path} is not UTF-8 text: its byte {error.start + 1} fits nothing. "
            "Save it again as UTF-8.",
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return ConfigProblem(
            code="config_unreadable",
            message=f"{path} cannot be read: {reason or error}. Check its permissions.",
        )
    if not text.strip():
        return ConfigProblem(
            code="config_syntax",
            message=f"The file is empty. Begin with {EXAMPLE}.",
            line=1,
            column=1,
        )
    return text


def _syntax_problem(error: JsonSyntaxError) -> ConfigProblem:
    return ConfigProblem(
        code="config_syntax", message=str(error), line=error.line, column=error.column
    )


def _servers(root: Node, source: Source, expansion: Expansion) -> Iterator[ServerConfig]:
    """Every usable server of the document."""
    _check_top(root, source)
    found: list[Member] = []
    for table in root.members:
        if table.name not in TABLES:
            continue
        if isinstance(table.value.value, dict):
            found += table.value.members
        else:
            source.complain(
                "config_invalid",
                f'"{table.name}" needs an object: name, then server.',
                table.value.start,
            )
    twice = duplicates(found)
    for position, member in enumerate(found):
        if member in twice:
            source.complain(
                "config_duplicate",
                f"There are two servers named {member.name!r}: the first is used. Rename this one.",
                member.start,
                server=member.name,
            )
        elif (server := _server(member, source, expansion, position)) is not None:
            yield server


def _check_top(root: Node, source: Source) -> None:
    """Complain of what is wrong beside the servers."""
    for member in root.members:
        if member.name in TABLES or member.name in PASSED_OVER:
            continue
        value = member.value
        if value.member("command") or value.member("url"):
            advice = 'It looks like a server: move it into "mcpServers".'
        else:
            advice = did_you_mean(member.name, TABLES)
        source.complain(
            "config_unknown_key",
            f'"{member.name}" is not a key of mcp.json. {advice}',
            member.start,
        )
    for member in duplicates(root.members):
        source.complain(
            "config_duplicate", f'"{member.name}" is there twice. Put both into one.', member.start
        )
    if not any(root.member(table) for table in TABLES):
        source.complain(
            "config_invalid", f'There is no "mcpServers". Begin with {EXAMPLE}.', root.start
        )


def _server(
    member: Member, source: Source, expansion: Expansion, position: int
) -> ServerConfig | None:
    name, node = member.name, member.value
    if not name.strip() or not name.isprintable():
        source.complain(
            "config_invalid",
            f"{name!r} is no name for a server. Give it one that can be read.",
            member.start,
            server=name,
        )
        return None
    if not isinstance(node.value, dict):
        source.complain(
            "config_invalid",
            f"The server {name!r} needs an object with its keys.",
            node.start,
            server=name,
        )
        return None
    # What a server that is switched off refers to need not be there.
    is_off = node.value.get("disabled") is True
    entry = Entry(node, source, server=name, expansion=None if is_off else expansion)
    return read_server(entry, position, expansion.folder)

"""
Our own entry in a client's configuration: put in, taken out, and nothing else touched.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from trunkline.clients.document import change_document, entries_at, read_document
from trunkline.clients.places import ClientFile, ClientName
from trunkline.errors import UsageError
from trunkline.jsonc_edit import remove_member, set_member
from trunkline.models import Json

OWN_NAME: Final = "trunkline"
"""What our entry is called everywhere."""

ROUTE: Final = frozenset({"type", "command", "args", "url"})
"""The keys that say how to reach us; any other in our entry is the user's."""

Deed = Literal["installed", "updated", "already installed", "removed", "not installed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was done to a client's configuration."""

    deed: Deed
    path: Path
    backup: Path | None = None
    """The copy of the file as it was before, if it was changed."""


def own_command() -> tuple[str, ...]:
    """How this Trunkline is started from anywhere: its script, or Python with the module."""
    name = "trunkline.exe" if sys.platform == "win32" else "trunkline"
    script = Path(sys.executable).absolute().with_name(name)
    return (str(script),) if script.is_file() else (sys.executable, "-m", "trunkline")


def stdio_entry(client: ClientName, command: Sequence[str], config: Path | None = None) -> Json:
    """The entry that makes a client start Trunkline, with *config* as its mcp.json."""
    program, *args = command
    args = [*args, "serve", *(() if config is None else ("--config", str(config.absolute())))]
    entry: Json = {"command": program, "args": args}
    return entry if client in ("claude-desktop", "cursor") else {"type": "stdio", **entry}


def http_entry(client: ClientName, url: str) -> Json:
    """
    The entry that connects a client to a Trunkline that runs.

    Raises `UsageError` for Claude Desktop, whose file has only programs to start.
    """
    if client == "claude-desktop":
        raise UsageError(
            "Claude Desktop's file can only name programs to start. Leave --http out, "
            "or enter the URL in its settings, under Connectors."
        )
    return {"url": url} if client == "cursor" else {"type": "http", "url": url}


def install(file: ClientFile, entry: Json, *, dry_run: bool = False) -> Outcome:
    """
    Enter *entry* under our name; what else somebody wrote into our entry stays. With *dry_run*
    nothing is written.

    Raises `ConfigError` if the file is not one to be changed, and `SystemRefusal`.
    """
    present = _present(file)
    kept = {key: value for key, value in (present or {}).items() if key not in ROUTE}
    if present == (entry := {**entry, **kept}):
        return Outcome(deed="already installed", path=file.path)
    way = (*file.table, OWN_NAME)
    backup = change_document(file.path, lambda text: set_member(text, way, entry), dry_run=dry_run)
    deed: Deed = "installed" if present is None else "updated"
    return Outcome(deed=deed, path=file.path, backup=backup)


def uninstall(file: ClientFile, *, dry_run: bool = False) -> Outcome:
    """Take our entry out. Raises like `install`."""
    if _present(file) is None:
        return Outcome(deed="not installed", path=file.path)
    way = (*file.table, OWN_NAME)
    backup = change_document(file.path, lambda text: remove_member(text, way), dry_run=dry_run)
    return Outcome(deed="removed", path=file.path, backup=backup)


def _present(file: ClientFile) -> Json | None:
    """Our entry as it stands in the file now."""
    root = read_document(file.path)
    return None if root is None else entries_at(root, file.table).get(OWN_NAME)

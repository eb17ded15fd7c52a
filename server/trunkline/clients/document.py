"""
A configuration file of somebody else's, read and changed with care.

    bytes ─ UTF-8 ─> text ─ jsonc ─> servers                         (reading)
    bytes ─ UTF-8 ─> text ─ jsonc_edit ─> text ─> bytes, backed up   (changing)

A file that cannot be understood is never written.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trunkline.errors import ConfigError, ConfigSyntaxError
from trunkline.files import rewrite
from trunkline.jsonc import JsonSyntaxError, Node, parse
from trunkline.jsonc_edit import NotAnObject
from trunkline.models import Json

Change = Callable[[str], str]


def read_document(path: Path) -> Node | None:
    """
    The document in a file; None if there is no file, or nothing in it.

    Raises `ConfigError` if it cannot be read, and `ConfigSyntaxError` if it is not JSON.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    return _parse(path, data) if data.strip() else None


def entries_at(root: Node, table: tuple[str, ...]) -> dict[str, Json]:
    """The servers of a document; what is no object is left out."""
    found: Any = root.value
    for name in table:
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, dict)}


def change_document(path: Path, change: Change, *, dry_run: bool = False) -> Path | None:
    """
    Replace the text of a file by what *change* makes of it; one that holds nothing counts as `{}`.

    Returns the copy of the old file, if one was made. With *dry_run* all is done but the writing.
    Raises `ConfigError` if the file is not one to be changed, and whatever *change* and
    `files.rewrite` raise; then nothing has been written.
    """

    def apply(data: bytes) -> bytes:
        if not data.strip():
            return change("{}\n").encode()
        _parse(path, data)
        return change(data.decode()).encode()

    try:
        if not dry_run:
            return rewrite(path, apply)
        apply(path.read_bytes() if path.exists() else b"")
    except NotAnObject as error:
        place = f'as "{error}"' if str(error) else "at its beginning"
        raise ConfigError(
            f"{path} has something else than an object {place}. Correct that first."
        ) from error
    return None


def _parse(path: Path, data: bytes) -> Node:
    try:
        return parse(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text. Save it again as UTF-8.") from error
    except JsonSyntaxError as error:
        raise ConfigSyntaxError(
            f"{path} is not JSON, line {error.line}, column {error.column}: {error} "
            "Nothing was changed in it."
        ) from error

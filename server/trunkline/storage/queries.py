"""
The named statements of sql/queries, and where the SQL files are.

A statement is written, explained and named in its file; a repository method sends one of them.
The items of the catalog live in four tables of one shape: items.sql is written once, for
`mcp.{items}`, and read once for each.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from trunkline.models import Kind

_PACKAGED = Path(__file__).parents[1] / "share" / "sql"
_CHECKOUT = Path(__file__).parents[3] / "sql"
SQL: Final = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
"""The folder of SQL files: the wheel brings its own, a checkout has it at the top."""

TABLES: Final[Mapping[Kind, str]] = {
    "tools": "tools",
    "prompts": "prompts",
    "resources": "resources",
    "templates": "resource_templates",
}
"""The table, in the schema `mcp`, that items of a kind live in."""

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def load(file: str) -> Mapping[str, str]:
    """The statements of one file, by name. Raises `OSError` if the installation lacks it."""
    _, *parts = _NAME.split((SQL / "queries" / file).read_text(encoding="utf-8"))
    return MappingProxyType(dict(zip(parts[::2], parts[1::2], strict=True)))


@cache
def load_for(kind: Kind) -> Mapping[str, str]:
    """The statements of items.sql for the items of one kind."""
    return MappingProxyType(
        {
            name: text.replace("{items}", TABLES[kind]).replace("{kind}", kind)
            for name, text in load("items.sql").items()
        }
    )

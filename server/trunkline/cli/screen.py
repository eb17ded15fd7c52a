"""
What the command line says, and where: results on stdout, everything else on stderr.

Much of what is shown comes from servers that nobody has vetted. On a terminal their text is
stripped of control characters, which could otherwise rewrite the screen.
"""

import io
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import to_json

CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Everything a terminal obeys instead of showing, but for tab and line feed."""

GAP: Final = "  "

TONES: Final = {"CONNECTED": "green", "CONNECTING": "cyan", "DEGRADED": "yellow", "ERROR": "red"}
"""Words of a table that have a colour."""


def put(text: str) -> None:
    """Write one piece of a result to stdout."""
    _write(_safe(text, sys.stdout.isatty()))


def put_json(value: Any) -> None:
    """Write a result as indented JSON to stdout."""
    _write(to_json(value, indent=2).decode())


def say(text: str = "") -> None:
    """Tell the person in front of the screen something."""
    sys.stderr.write(f"{_safe(text, sys.stderr.isatty())}\n")
    sys.stderr.flush()


def put_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: drawn on a terminal, aligned columns with one row per line otherwise."""
    if sys.stdout.isatty():
        _draw(columns, rows)
        return
    for line in aligned([columns, *rows]):
        put(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines whose columns stand below each other."""
    flat = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*flat, strict=True)]
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in flat
    ]


def count(number: int, noun: str, plural: str = "") -> str:
    """*number* of a thing: "1 tool", "2 tools"."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def tolerate_any_character() -> None:
    """Let a terminal that cannot show a character show its code instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _write(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough: `trunkline list | head`. Let the rest go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(CONTROLS.sub("", cell), TONES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def _safe(text: str, on_terminal: bool) -> str:
    return CONTROLS.sub("", text) if on_terminal else text

"""
What has changed of a tool, so that a person can read it.

Member by member, as lines: sentences of a description, sorted JSON of a schema. Unchanged lines
are left out but for a few around; nothing that has changed is ever shortened, and what cannot be
seen is shown as its code, for whoever accepts a definition has to have seen all of it.

    description
      Adds two numbers.
    - Returns [-the sum-].
    + Returns {+whatever it likes+}.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

from trunkline.models import Json
from trunkline.security.pins.digest import PINNED, digest, plain_numbers
from trunkline.security.pins.scan_text import escaped, unmasked

AROUND: Final = 2
"""Unchanged lines that are shown around changed ones."""

MOST: Final = 1_000
"""Lines that are compared one by one. Beyond, all of the old ones go and all of the new ones come:
comparing takes longer the more there are, and a server may send what it likes."""

WORDS: Final = 200
"""Words of one line that are compared one by one."""

_SENTENCE_END = re.compile(r"(?<=[.!?;])(?=\s)")
_WORD = re.compile(r"\s+|[\w\\]+|[^\w\s]")

_Opcode = tuple[str, int, int, int, int]


def difference(old: Json, new: Json) -> str:
    """What makes *new* of *old*, as text; "" if nothing does. Either may be empty."""
    return "\n".join(
        "\n".join((key, *lines)) for key in PINNED if (lines := list(_compared(key, old, new)))
    )


def described(definition: Json) -> str:
    """A whole definition, in the same form."""
    return "\n".join(
        "\n".join((key, *(f"  {line}" for line in _lines(definition[key], exact=False))))
        for key in PINNED
        if key in definition
    )


def _compared(key: str, old: Json, new: Json) -> Iterator[str]:
    if _of(key, old) == _of(key, new):
        return
    exact = _looks(key, old) == _looks(key, new)
    before = _lines(old[key], exact=exact) if key in old else []
    after = _lines(new[key], exact=exact) if key in new else []
    if max(len(before), len(after)) > MOST:
        groups: Iterable[list[_Opcode]] = [[("replace", 0, len(before), 0, len(after))]]
    else:
        groups = SequenceMatcher(None, before, after).get_grouped_opcodes(AROUND)
    for number, group in enumerate(groups):
        if number:
            yield "  …"
        for opcode in group:
            yield from _shown(opcode, before, after)


def _shown(opcode: _Opcode, before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    what, begin, end, start, stop = opcode
    old, new = list(before[begin:end]), list(after[start:stop])
    if what == "equal":
        yield from (f"  {line}" for line in old)
        return
    if len(old) == len(new) == 1:
        old[0], new[0] = _marked(old[0], new[0])
    yield from (f"- {line}" for line in old)
    yield from (f"+ {line}" for line in new)


def _marked(old: str, new: str) -> tuple[str, str]:
    """Two lines with the words marked in which they differ."""
    before, after = _WORD.findall(old), _WORD.findall(new)
    if max(len(before), len(after)) > WORDS:
        return old, new
    left, right = list[str](), list[str]()
    for what, begin, end, start, stop in SequenceMatcher(None, before, after).get_opcodes():
        gone, come = "".join(before[begin:end]), "".join(after[start:stop])
        left.append(gone if what == "equal" or not gone else f"[-{gone}-]")
        right.append(come if what == "equal" or not come else f"{{+{come}+}}")
    return "".join(left), "".join(right)


def _lines(value: Any, *, exact: bool) -> list[str]:
    """A member as lines. *exact*: letters beyond ASCII are shown as their codes, too."""
    if isinstance(value, str):
        lines = [part for line in value.split("\n") for part in _SENTENCE_END.split(line)]
    else:
        text = json.dumps(plain_numbers(value), indent=2, sort_keys=True, ensure_ascii=False)
        lines = text.split("\n")
    return [escaped(line, all_beyond_ascii=exact) for line in lines]


def _of(key: str, definition: Json) -> bytes | None:
    """What a member is compared by; None if it is not there."""
    return digest({key: definition[key]}) if key in definition else None


def _looks(key: str, definition: Json) -> str | None:
    """What a member looks like."""
    if key not in definition:
        return None
    return unmasked(json.dumps(definition[key], sort_keys=True, ensure_ascii=False))

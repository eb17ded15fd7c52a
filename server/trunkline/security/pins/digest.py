"""
What of a tool is pinned, and how it is told from another.

Whatever a model reads or a client decides by: names, descriptions, schemas, hints. Icons are
pictures and `_meta` is between programs. What JSON says counts, and not how it is written: the
order of keys and the form of numbers make no difference, and every character does.
"""

import hashlib
import json
import re
from typing import Any, Final

from trunkline.models import Json

PINNED: Final = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
"""The members that are compared, in the order they are shown."""

EXACT: Final = 2**53
"""Below this every integer has a form with a point that means the same."""

_POINTED = re.compile(r"[\[:,]-?\d+(?:\.|[eE])")


def pinned_part(definition: Json) -> Json:
    """The members of a tool that are compared."""
    return {key: definition[key] for key in PINNED if key in definition}


def digest(definition: Json) -> bytes:
    """
    SHA-256 of the canonical form: keys sorted, no white space, ASCII, 1.0 written as 1.

    Much like RFC 8785, but integers beyond 64 bits keep every digit, and half a surrogate pair is
    no error. Raises `ValueError` for what JSON cannot say.
    """
    text = _canonical(pinned_part(definition))
    if _POINTED.search(text):
        text = _canonical(plain_numbers(pinned_part(definition)))
    return hashlib.sha256(text.encode()).digest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain_numbers(value: Any) -> Any:
    """*value* with 1.0 as 1, which JSON does not tell apart."""
    if isinstance(value, dict):
        return {key: plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain_numbers(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    return value

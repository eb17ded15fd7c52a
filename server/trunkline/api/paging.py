"""
Long lists, a page at a time.

A cursor names the last one of a page, and not how many there were before it: whatever is added or
taken away meanwhile, nothing is told twice or passed over. What is in it is nobody's business.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from trunkline.errors import InvalidArguments

T = TypeVar("T")

Key = tuple[str, ...]
"""What a list is ordered by. No two of it have the same."""

MOST: Final = 500

Limit = Annotated[int, Query(ge=1, le=MOST, description="How many to tell at most.")]
Cursor = Annotated[
    str | None, Query(max_length=4_000, description="`next` of the page before this one.")
]


class Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None = None
    """The `cursor` of the next page; null if there is none."""


def after(items: Iterable[T], key: Callable[[T], Key], cursor: str | None) -> list[T]:
    """What comes after a cursor, in order. Raises `InvalidArguments`."""
    ordered = sorted(items, key=key)
    if cursor is None:
        return ordered
    last = read_cursor(cursor)
    return [item for item in ordered if key(item) > last]


def page(items: Iterable[T], key: Callable[[T], Key], limit: int) -> tuple[Sequence[T], str | None]:
    """The first so many, and the cursor of what comes after them."""
    found = list(islice(items, limit + 1))
    return found[:limit], to_cursor(key(found[limit - 1])) if len(found) > limit else None


def to_cursor(key: Key) -> str:
    """A place in a list, for a client."""
    return urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> Key:
    """The place that a cursor was made of. Raises `InvalidArguments`."""
    try:
        key = json.loads(urlsafe_b64decode(cursor.encode() + b"==="))
    except (ValueError, RecursionError):
        key = None
    if not isinstance(key, list) or not all(isinstance(part, str) for part in key):
        raise InvalidArguments("The cursor is none of ours. Leave it out to begin at the start.")
    return tuple(key)

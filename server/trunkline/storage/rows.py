"""
What is stored, as types: rows become these at the edge of the database and travel no further.

PostgreSQL's text takes neither NUL nor half a surrogate pair, and downstreams send both. In a name
each of them is written as U+E000 and four hex digits, and so is U+E000 itself: every name has one
written form and comes back as it was. A definition is kept as JSON text, where both are escapes.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self
from uuid import UUID

from pydantic_core import from_json

from trunkline.errors import NotStorable
from trunkline.models import Json, Kind
from trunkline.wire import encode

Org = UUID | None
"""Whose: an organisation, or None for what is global and for who has no organisation."""

Origin = Literal["file", "api", "plugin"]
"""Where a server was named: mcp.json, a request of an administrator, or a plugin."""

Operation = Literal["upsert", "delete"]

Connection = Any
"""An asyncpg connection, or a pool's proxy of one, which the type checker cannot see through."""

LONGEST: Final = 255
"""Characters that the name of a server, a skill or an organisation may have."""

MAX_NAME: Final = 64
"""Characters that the served name of a tool or prompt may have."""

_UNFIT = re.compile("[\0\ud800-\udfff\ue000]")
_WRITTEN = re.compile("\ue000([0-9a-f]{4})")


def to_text(text: str) -> str:
    """*text* as PostgreSQL takes it."""
    return _UNFIT.sub(lambda found: f"\ue000{ord(found[0]):04x}", text)


def from_text(text: str) -> str:
    """The text that `to_text` was given."""
    return _WRITTEN.sub(lambda found: chr(int(found[1], 16)), text)


def to_name(text: str) -> str:
    """The name of a server, a skill or an organisation, likewise. Raises `NotStorable`."""
    name = to_text(text)
    if not 1 <= len(name) <= LONGEST:
        raise NotStorable(
            f"The name {text[:40]!r} has {len(name)} characters, and may have 1 to {LONGEST}. "
            "Choose another."
        )
    return name


def to_json(item: Mapping[str, Any]) -> str:
    """*item* as JSON text that a json column takes. Raises `NotStorable` for what JSON is not."""
    try:
        text = encode(dict(item)).decode()
        if "NaN" in text or "Infinity" in text:
            from_json(text, allow_inf_nan=False)
        return text
    except ValueError:
        pass  # half a surrogate pair is not UTF-8, but it can be escaped
    try:
        return json.dumps(item, ensure_ascii=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotStorable(
            "It cannot be written as JSON: it has a number such as NaN or 1e400, something that is "
            "no JSON value, or too many levels."
        ) from error


def from_stored_json(text: str) -> Json:
    """The object that `to_json` was given."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


def digest(text: str) -> bytes:
    """What text that is in the database is compared by."""
    return hashlib.sha256(text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Item:
    """One tool, prompt, resource or template, as it is to be stored."""

    own_name: str
    """The server's own name, URI or URI template, of any length."""

    name: str
    """The one it is served under."""

    definition: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item of the catalog, as it is stored."""

    id: int
    """Stable for the life of the item."""

    server_id: int
    org: Org
    own_name: str
    name: str
    definition: Json

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(
            row["id"],
            row["source_server_id"],
            row["org_id"],
            from_text(row["own_name"]),
            from_text(row["name"]),
            from_stored_json(row["definition"]),
        )


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync did. All zero: nothing was written."""

    inserted: int = 0
    """Items that are new, or that were hidden and are back."""

    updated: int = 0
    """Items with another definition or name."""

    hidden: int = 0
    moved: int = 0
    """Items that only changed their place in the list."""

    left_out: Mapping[str, str] | None = None
    """The own names of items that could not be stored, each with a sentence why."""

    @property
    def changed(self) -> bool:
        return bool(self.inserted or self.updated or self.hidden or self.moved)


@dataclass(frozen=True, slots=True)
class ServerRow:
    """A server, as it is stored."""

    id: int
    org: Org
    name: str
    origin: Origin
    config: Json
    about: Json
    """What it said of itself: instructions, capabilities, server info."""

    position: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(
            row["id"],
            row["org_id"],
            from_text(row["name"]),
            row["origin"],
            from_stored_json(row["config"]),
            from_stored_json(row["about"]),
            row["position"],
        )


@dataclass(frozen=True, slots=True)
class SkillRow:
    """A skill: what a group of tools is good for."""

    id: int
    org: Org
    name: str
    description: str
    group: str = ""
    """What it is listed under, such as `Productivity`."""

    keywords: tuple[str, ...] = ()
    """What people call it: with name and description, the card that it is found by."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(
            row["id"],
            row["org_id"],
            from_text(row["name"]),
            from_text(row["description"]),
            from_text(row["group_name"]),
            tuple(from_text(word) for word in row["keywords"]),
        )


@dataclass(frozen=True, slots=True)
class AssignmentRow:
    """That a tool belongs to a skill."""

    tool_id: int
    skill_id: int
    confidence: float
    """0 to 1."""

    is_primary: bool
    """Whether it is the one skill that the tool is counted under."""


@dataclass(frozen=True, slots=True)
class ToolSkillRow:
    """One skill of one tool, by their names."""

    org: Org
    server: str
    own_name: str
    skill: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one tool, summed."""

    count: int
    errors: int
    seconds: float
    buckets: Sequence[int] = ()
    """How many calls took how long; the bounds are the caller's, and always the same."""

    last_used: datetime | None = None
    """Set by the database: when calls were last added."""


@dataclass(frozen=True, slots=True)
class Errand:
    """One item that the index is behind on, claimed by a worker."""

    kind: Kind
    item_id: int
    operation: Operation
    version: int
    """Counts the changes of the item: what is struck off is what was seen."""

    claim: UUID
    attempts: int
    """How often it was tried before."""

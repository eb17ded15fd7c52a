"""
The audit: who did what, in rows that are only ever added, read, and dropped when they are old.

Rows come with the chain they belong to and their place in it, so sending one twice stores it once.
What requests ask for is `AuditEntries`; no request comes to `AuditRepository`.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self, get_args
from uuid import UUID

import asyncpg

from trunkline.errors import NotStorable, StorageError
from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.rows import to_text

_STATEMENTS = load("audit.sql")

Outcome = Literal["ok", "tool_error", "denied", "failed", "cancelled"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

PAGE: Final = 2_000
"""Rows that are read at a time when all are."""

EXPIRED: Final = 5_000
"""Rows that go in one statement."""

START: Final = UUID(int=0)
"""Before every chain."""


@dataclass(slots=True, kw_only=True)
class AuditRow:
    """
    One thing that somebody did, or was refused. Texts are as PostgreSQL takes them.

    It is finished when it has its hash, and is not changed any more.
    """

    chain: UUID
    """Of the process that wrote it."""

    place: int
    """In its chain, from 1 up."""

    hash: bytes
    """Over the hash of the row before it and everything else in this one."""

    at: datetime
    action: str
    outcome: Outcome
    face: str
    """How they came: `stdio`, `http`, `cli` or `api`."""

    request: str | None = None
    subject: str | None = None
    user: str | None = None
    org: str | None = None
    role: str | None = None
    server: str | None = None
    own_name: str | None = None
    name: str | None = None
    arguments_hash: bytes | None = None
    arguments: Any = None
    """Redacted; None unless policy wants them."""

    code: str | None = None
    duration_ms: float | None = None
    causes: list[dict[str, str]] | None = None
    id: int = 0
    """Given by the database."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        values = dict(row)
        for name in ("arguments", "causes"):
            values[name] = json.loads(values[name]) if values[name] is not None else None
        return cls(user=values.pop("user_name"), **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which entries are wanted. In patterns, `*` stands for anything."""

    who: str | None = None
    """A pattern of the subject or the user."""

    what: str | None = None
    """A pattern of the action, of the name, or of `server/own name`."""

    outcome: Outcome | None = None
    since: datetime | None = None
    after: int | None = None
    """The id that all are to come after."""

    before: int | None = None
    """The id that all are to come before."""


class AuditEntries:
    """What an organisation may look at: what was done in it. Every method raises `StorageError`."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def find(self, org: str | None, wanted: AuditFilter, limit: int) -> list[AuditRow]:
        """
        The newest *limit* entries that fit, the oldest of them first.

        *org* is an organisation's name. With None they are of all, for administrators of
        everything: whoever asks so has decided that they may.
        """
        rows = await self._pool.fetch(
            _STATEMENTS["find"],
            to_text(org) if org is not None else None,
            _like(wanted.who),
            _like(wanted.what),
            wanted.outcome,
            wanted.since,
            wanted.after,
            wanted.before,
            limit,
        )
        return [AuditRow.of(row) for row in reversed(rows)]


class AuditRepository:
    """The whole audit, as processes write and check it. Every method raises `StorageError`."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def add(self, rows: Sequence[AuditRow]) -> None:
        """
        Add rows; one that is there already stays as it is.

        Raises `NotStorable` if the database will never take one of them: then none is added.
        """
        try:
            await self._pool.execute(_STATEMENTS["add"], *zip(*map(_values, rows), strict=True))
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise NotStorable("An entry of the audit cannot be stored as it is.") from error
        except asyncpg.PostgresError as error:
            raise StorageError("The database does not take the audit. See its log.") from error

    async def walk(self) -> AsyncIterator[AuditRow]:
        """Every entry, chain by chain, in the order of its places."""
        chain, place = START, 0
        while rows := await self._pool.fetch(_STATEMENTS["walk"], chain, place, PAGE):
            for row in rows:
                yield AuditRow.of(row)
            chain, place = rows[-1]["chain"], rows[-1]["place"]

    async def expire(self, days: int) -> int:
        """Let go of entries older than so many *days*; how many there were."""
        gone = 0
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_STATEMENTS["allow_expiry"])
                tag = await connection.execute(_STATEMENTS["expire"], days, EXPIRED)
            gone += (now := int(tag.rpartition(" ")[2]))
            if now < EXPIRED:
                return gone


def _values(row: AuditRow) -> tuple[Any, ...]:
    """A row in the order of the statement's parameters."""
    return (
        *(row.chain, row.place, row.hash, row.at, row.request, row.subject, row.user, row.org),
        *(row.role, row.face, row.action, row.server, row.own_name, row.name, row.arguments_hash),
        _json(row.arguments),
        *(row.outcome, row.code, row.duration_ms),
        _json(row.causes),
    )


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _like(pattern: str | None) -> str | None:
    """A pattern of ours as one of SQL's."""
    if pattern is None:
        return None
    pattern = to_text(pattern)
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, f"\\{special}")
    return pattern.replace("*", "%")

"""
Pins: what tools were when they were accepted, and what they have become since.

What processes see is written in lots, in one transaction each: whoever comes second finds the pin
of whoever came first and compares with that. Hashes come from above; here they are only compared.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from trunkline.errors import NotStorable
from trunkline.models import Json
from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.repositories.items import lots
from trunkline.storage.rows import (
    Connection,
    Org,
    from_stored_json,
    from_text,
    to_json,
    to_name,
    to_text,
)

_STATEMENTS = load("pins.sql")

Place = tuple[str, str]
"""A server's name, and a tool's own name there."""

_Row = tuple[str, str, str, bytes, bool]
"""Server, own name, definition, hash, whether it came late; as the database takes them."""

ROWS: Final = 5_000
"""Rows that one transaction holds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A tool as a process sees it."""

    server: str
    own_name: str
    definition: Mapping[str, Any]
    hash: bytes
    is_late: bool
    """Whether it is new on a server that was there before."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a tool is compared with."""

    accepted: bytes
    accepted_by: str | None
    """None: nobody has looked at it; it was taken as it was first seen."""

    is_late: bool
    pending: bytes | None
    """What it has become; None if that is nothing else."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        by = row["accepted_by"]
        return cls(
            row["accepted_hash"],
            from_text(by) if by is not None else None,
            row["is_late"],
            row["pending_hash"],
        )


@dataclass(frozen=True, slots=True)
class PinRow:
    """A pin, with the definitions."""

    server: str
    own_name: str
    accepted: Json
    accepted_at: datetime
    pending: Json | None
    pending_since: datetime | None
    pinned: Pinned

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        pending = row["pending"]
        return cls(
            *_place(row),
            from_stored_json(row["accepted"]),
            row["accepted_at"],
            from_stored_json(pending) if pending is not None else None,
            row["pending_since"],
            Pinned.of(row),
        )


class PinRepository:
    """The pins of one scope: an organisation's own servers, or those that are everybody's."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def see(self, org: Org, name: str | None, seen: Iterable[Seen]) -> dict[Place, Pinned]:
        """
        Pin what has no pin, keep what has changed as pending, and let go of what is as it was.

        Returns what is compared with from now on. What JSON cannot say is passed over. *name* is
        the organisation's, for whoever listens.
        """
        found: dict[Place, Pinned] = {}
        for lot in _lots(_rows(seen)):
            async with self._pool.acquire() as connection, connection.transaction():
                found |= await self._see(org, name, connection, lot)
        return found

    async def of_server(self, org: Org, server: str) -> dict[Place, Pinned]:
        """What the tools of one server are compared with."""
        rows = await self._pool.fetch(_STATEMENTS["of_server"], org, to_text(server))
        return {_place(row): Pinned.of(row) for row in rows}

    async def list_scope(self, org: Org) -> list[PinRow]:
        """Every pin of this scope, by server and name."""
        return [PinRow.of(row) for row in await self._pool.fetch(_STATEMENTS["list_scope"], org)]

    async def find(self, org: Org, server: str, own_name: str) -> PinRow | None:
        """The pin of one tool."""
        row = await self._pool.fetchrow(
            _STATEMENTS["find"], org, to_text(server), to_text(own_name)
        )
        return PinRow.of(row) if row is not None else None

    async def accept(
        self, org: Org, name: str | None, place: Place, looked_at: bytes, by: str
    ) -> bool:
        """Accept what has this hash. False if the tool is something else, or not there."""
        server, own_name = to_text(place[0]), to_text(place[1])
        async with self._pool.acquire() as connection, connection.transaction():
            done = await connection.fetchval(
                _STATEMENTS["accept"], org, server, own_name, looked_at, to_text(by)
            )
            if done is not None:
                await _announce(connection, name, [server], by_us=False)
        return done is not None

    async def forget(self, org: Org, name: str | None, server: str) -> int:
        """Let go of every pin of a server; return how many there were."""
        async with self._pool.acquire() as connection, connection.transaction():
            gone = await connection.fetchval(_STATEMENTS["forget"], org, to_text(server))
            if gone:
                await _announce(connection, name, [to_text(server)], by_us=False)
        return gone

    async def _see(
        self, org: Org, name: str | None, connection: Connection, rows: Sequence[_Row]
    ) -> dict[Place, Pinned]:
        run = _STATEMENTS
        added = await connection.execute(run["add"], org, *zip(*rows, strict=True))
        servers, own_names = [row[0] for row in rows], [row[1] for row in rows]
        there = {
            (row["server"], row["own_name"]): Pinned.of(row)
            for row in await connection.fetch(run["lock"], org, servers, own_names)
        }
        changed = [row for row in rows if _is_news(there.get(row[:2]), row[3])]
        back = [row[:2] for row in rows if _is_back(there.get(row[:2]), row[3])]
        if changed:
            await connection.execute(run["pend"], org, *zip(*(r[:4] for r in changed), strict=True))
        if back:
            await connection.execute(run["clear"], org, *zip(*back, strict=True))
        if changed or back or not added.endswith(" 0"):
            await _announce(connection, name, sorted(set(servers)), by_us=True)
        pending = {row[:2]: row[3] for row in changed} | dict.fromkeys(back)
        return {
            (from_text(place[0]), from_text(place[1])): Pinned(
                pin.accepted, pin.accepted_by, pin.is_late, pending.get(place, pin.pending)
            )
            for place, pin in there.items()
        }


class AllPins:
    """The pins of every organisation. No request comes here: the process itself compares."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def load(self) -> dict[tuple[str | None, str, str], Pinned]:
        """What each tool is compared with, by its organisation's name, server and own name."""
        rows = await self._pool.fetch(_STATEMENTS["load"])
        return {
            (None if row["org"] is None else from_text(row["org"]), *_place(row)): Pinned.of(row)
            for row in rows
        }


def _rows(seen: Iterable[Seen]) -> Iterator[_Row]:
    for one in seen:
        try:
            definition, server = to_json(one.definition), to_name(one.server)
        except NotStorable:
            continue
        yield server, to_text(one.own_name), definition, one.hash, one.is_late


def _lots(rows: Iterator[_Row]) -> Iterator[Sequence[_Row]]:
    """Rows as many at a time as one transaction is to hold."""
    # The statements hold rows in this order, in every process.
    everything = sorted(rows, key=lambda row: row[:2])
    for start in range(0, len(everything), ROWS):
        yield from lots(everything[start : start + ROWS])  # pyright: ignore[reportReturnType]


def _is_news(pin: Pinned | None, seen: bytes) -> bool:
    return pin is not None and seen not in (pin.accepted, pin.pending)


def _is_back(pin: Pinned | None, seen: bytes) -> bool:
    return pin is not None and seen == pin.accepted and pin.pending is not None


async def _announce(
    connection: Connection, name: str | None, servers: Sequence[str], *, by_us: bool
) -> None:
    org = to_text(name) if name is not None else None
    await connection.execute(_STATEMENTS["announce"], org, servers, by_us)


def _place(row: Mapping[str, Any]) -> Place:
    return from_text(row["server"]), from_text(row["own_name"])

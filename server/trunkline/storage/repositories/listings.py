"""
Everything one server lists, kept in one transaction: the server, its items, and the outbox.

    server ────┐
    about ─────┼─ one transaction ─> rows + outbox + NOTIFY
    items ─────┘
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import asyncpg

from trunkline.errors import CatalogFull, OrgNotFound, ServerNotFound, SyncConflict
from trunkline.models import KINDS, Json, Kind
from trunkline.storage.changes import Changes
from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.repositories.items import ATTEMPTS, CROSSED, ItemRepository
from trunkline.storage.rows import (
    Connection,
    Item,
    Org,
    Origin,
    ServerRow,
    Synced,
    to_json,
    to_name,
)

_SERVERS = load("servers.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A server and what it lists, as it is to be stored."""

    name: str
    origin: Origin
    config: Json
    position: int
    about: Json
    """What it says of itself."""

    items: Mapping[Kind, Sequence[Item]]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a sync has stored."""

    server: ServerRow
    synced: Mapping[Kind, Synced]

    @property
    def changed(self) -> bool:
        return any(one.changed for one in self.synced.values())

    @property
    def left_out(self) -> dict[str, str]:
        """The own names of items that could not be stored, each with a sentence why."""
        return {
            name: why for one in self.synced.values() for name, why in (one.left_out or {}).items()
        }


class ListingRepository:
    """Whole listings."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool
        self._items = {kind: ItemRepository(pool, kind) for kind in KINDS}

    async def sync(self, org: Org, listed: Listed) -> Stored:
        """
        Make *listed* what is stored of its server; all of it or nothing.

        What is as it was is not written, and the row of a server that an administrator added is not
        written at all. Raises `StorageError`, `OrgNotFound`, `ServerNotFound` for an added server
        that has been taken away, and `NotStorable` if not the items but the server itself has a
        name or an `about` that cannot be stored.
        """
        changes: dict[Kind, Changes] = {
            kind: Changes(kind, listed.items.get(kind, ())) for kind in KINDS
        }
        for _ in range(ATTEMPTS):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    return await self._sync(connection, org, listed, changes)
            except CROSSED:
                continue  # another server took a name between our looking and our writing
            except asyncpg.ForeignKeyViolationError as error:
                raise OrgNotFound(org) from error
            except asyncpg.SequenceGeneratorLimitExceededError as error:
                raise CatalogFull("items") from error
        raise SyncConflict(f"Other servers kept taking the names of {listed.name!r}. Try again.")

    async def _sync(
        self, connection: Connection, org: Org, listed: Listed, changes: Mapping[Kind, Changes]
    ) -> Stored:
        server = await self._server(connection, org, listed)
        await connection.fetchval(_SERVERS["describe"], org, server.id, to_json(listed.about))
        return Stored(
            replace(server, about=dict(listed.about)),
            {
                kind: await self._items[kind].sync_within(org, connection, server.id, changes[kind])
                for kind in KINDS
            },
        )

    async def _server(self, connection: Connection, org: Org, listed: Listed) -> ServerRow:
        name = to_name(listed.name)
        if listed.origin == "api":
            row = await connection.fetchrow(_SERVERS["keep"], org, name)
            if row is None:
                raise ServerNotFound(listed.name)
        else:
            given = (listed.origin, to_json(listed.config), listed.position)
            row = await connection.fetchrow(_SERVERS["put"], org, name, *given)
        return ServerRow.of(row)

"""
Tools, prompts, resources and templates: one repository for the items of each kind.

A sync reads what is known of a server under a lock, compares it here, and sends only what differs.
So a list that is as it was costs one query, writes nothing, and draws no id.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import asyncpg

from trunkline.errors import CatalogFull, ServerNotFound, SyncConflict
from trunkline.models import Kind
from trunkline.storage.changes import Changes, Known, Plan
from trunkline.storage.pool import Source
from trunkline.storage.queries import load_for
from trunkline.storage.rows import Connection, Item, ItemRow, Org, Synced, from_text

ATTEMPTS: Final = 5
"""How often a sync is tried when others take the names it wanted."""

LOT: Final = 32_000_000
"""Characters that one statement writes: PostgreSQL takes no message of a gigabyte."""

CROSSED: Final = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError)
"""What a sync meets when another one takes a name between its looking and its writing."""


class ItemRepository:
    """The items of one kind."""

    def __init__(self, pool: Source, kind: Kind) -> None:
        self._pool = pool
        self.kind: Kind = kind
        self._statements = load_for(kind)

    async def sync(self, org: Org, server_id: int, items: Sequence[Item]) -> Synced:
        """
        Make *items* the ones of a server of this scope, in one transaction with the outbox.

        Of two items with one own or one served name the first is kept; a name that another server
        has stays with it; what JSON cannot say is not stored. What is left out is told.
        Raises `ServerNotFound`, `CatalogFull`, `SyncConflict`.
        """
        changes = Changes(self.kind, items)
        for _ in range(ATTEMPTS):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    return await self.sync_within(org, connection, server_id, changes)
            except CROSSED:
                # Another server took a name between our looking and our writing; now it shows.
                continue
            except asyncpg.SequenceGeneratorLimitExceededError as error:
                raise CatalogFull(self.kind) from error
        raise SyncConflict(f"Other servers kept taking the names of these {self.kind}. Try again.")

    async def list_visible(self, org: Org) -> list[ItemRow]:
        """What an organisation may see, in the order of the servers and of their lists."""
        rows = await self._pool.fetch(self._statements["list_visible"], org)
        return [ItemRow.of(row) for row in rows]

    async def find(self, org: Org, ids: Sequence[int]) -> list[ItemRow]:
        """Those of these items that an organisation may see, by id."""
        rows = await self._pool.fetch(self._statements["find"], org, ids)
        return [ItemRow.of(row) for row in rows]

    async def count_visible(self, org: Org) -> int:
        """How many items an organisation may see."""
        return await self._pool.fetchval(self._statements["count_visible"], org)

    async def delete_by_server(self, org: Org, server_id: int) -> int:
        """Delete all items of a server of this scope; return how many there were."""
        return await self._pool.fetchval(self._statements["delete_by_server"], org, server_id)

    async def of_server(self, org: Org, server_id: int) -> list[ItemRow]:
        """What a server of this scope lists, in its order."""
        rows = await self._pool.fetch(self._statements["of_server"], org, server_id)
        return [ItemRow.of(row) for row in rows]

    async def ids(self, org: Org, server_id: int) -> dict[str, int]:
        """The ids of what a server of this scope lists, by its own names."""
        rows = await self._pool.fetch(self._statements["ids"], org, server_id)
        return {from_text(row["own_name"]): row["id"] for row in rows}

    async def sync_within(
        self, org: Org, connection: Connection, server_id: int, changes: Changes
    ) -> Synced:
        """`sync` as a part of the caller's transaction, who sees to it that it is tried again."""
        run = self._statements
        if await connection.fetchval(run["lock_server"], org, server_id) is None:
            raise ServerNotFound(str(server_id))
        rows = await connection.fetch(run["known"], org, server_id)
        known = {row["own_hash"]: Known(*row) for row in rows}
        wanted = changes.names_new_to(known)
        taken = await connection.fetch(run["taken"], org, server_id, wanted) if wanted else []
        plan = changes.against(known, {row["name"] for row in taken})
        await self._write(connection, org, server_id, plan)
        return plan.synced

    async def _write(self, connection: Connection, org: Org, server_id: int, plan: Plan) -> None:
        run = self._statements
        if plan.hide:
            await connection.execute(run["hide"], org, plan.hide)
        if plan.rename:
            await connection.execute(run["give_up_names"], org, plan.rename)
        for lot in lots(plan.update):
            await connection.execute(run["update"], org, *zip(*lot, strict=True))
        if plan.move:
            await connection.execute(run["move"], org, *zip(*plan.move, strict=True))
        for lot in lots(sorted(plan.insert, key=lambda row: row[1])):
            await connection.execute(run["insert"], org, server_id, *zip(*lot, strict=True))
        if plan.synced.changed:
            await connection.execute(run["announce"], server_id)


def lots(rows: Sequence[tuple[Any, str, str, bytes, int]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Rows to be written, in their order, as many at a time as one statement is to take."""
    start = size = 0
    for end, row in enumerate(rows):
        length = sum(len(value) for value in row if isinstance(value, str))
        if end > start and size + length > LOT:
            yield rows[start:end]
            start, size = end, 0
        size += length
    if rows[start:]:
        yield rows[start:]

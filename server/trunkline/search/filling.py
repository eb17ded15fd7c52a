"""
Filling an index outside of this process from the rows: for the first time, with another model's
vectors, or because somebody asked for it.

Searches go on meanwhile, on what was filled before; the switch comes at the end. Changes that come
while it runs are in the outbox, and are brought to what is being filled like to any index.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from trunkline.errors import PointIdMissing, PointIdOverflow
from trunkline.index.index import Index, Ref
from trunkline.models import KINDS, Kind
from trunkline.search.findables import findables
from trunkline.search.points import Findable, PointMaker
from trunkline.storage.pool import Database
from trunkline.storage.repositories.everything import Everything
from trunkline.storage.rows import ItemRow

log = structlog.get_logger(__name__)

PAGE: Final = 500
"""Items read, embedded and sent at a time."""


class Switchable(Index, Protocol):
    """An index that is filled beside the one that is searched."""

    async def prepare(self) -> bool:
        """Create what is missing; tell whether it is what is searched."""
        ...

    async def switch(self) -> None:
        """Let searches find it from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Drift:
    """How an index differs from the catalog."""

    missing: tuple[str, ...] = ()
    """Items that it lacks, as `server: name`."""

    outdated: tuple[str, ...] = ()
    """Items that it has as they were before."""

    left: tuple[str, ...] = ()
    """Items that it has and the catalog has no more."""

    @property
    def is_none(self) -> bool:
        return not (self.missing or self.outdated or self.left)

    def __str__(self) -> str:
        parts = [
            f"{len(names)} {what} (the first is {names[0]})"
            for what, names in (
                ("missing", self.missing),
                ("out of date", self.outdated),
                ("left over", self.left),
            )
            if names
        ]
        return "; ".join(parts) or "none"


class Filling:
    """Fills one index from one database."""

    def __init__(self, database: Database, index: Switchable, maker: PointMaker) -> None:
        self._everything = Everything(database)
        self._index, self._maker = index, maker

    async def total(self) -> int:
        """How many items there are to fill in. Raises `StorageError`."""
        return sum([await self._everything.count(kind) for kind in KINDS])

    async def fill(self, on_progress: Callable[[int], None] = lambda _: None) -> int:
        """
        Put everything in, take what is left over out, and switch; return how many items there are.

        *on_progress* hears how many items have been done. Raises `StorageError`, `IndexFailure` and
        `EmbeddingError`; what was done until then stays, and is not searched yet.
        """
        await self._index.prepare()
        done, there = 0, set[tuple[str, int | None]]()
        async for page in self._pages():
            there |= {_key(item.ref) for item in page}
            await self._put(page)
            done += len(page)
            on_progress(done)
        left = [ref async for ref, _ in self._index.contents() if _key(ref) not in there]
        await self._index.delete(left)
        # What came while this ran was not in `there`, and may have been delivered.
        await self._put(await self._stored(left))
        await self._index.switch()
        log.info("index.filled", items=done, removed=len(left))
        return done

    async def _put(self, items: Sequence[Findable]) -> None:
        """
        Put these in, and again those that have changed meanwhile.

        A change is delivered by others as soon as it is stored. Had it come between our reading and
        our writing, the old would stand above the new; so what was written has to be what is
        stored afterwards as well.
        """
        while items:
            try:
                await self._index.upsert(await self._maker.make(items))
            except (PointIdOverflow, PointIdMissing) as error:
                log.warning("index.left_out", code=error.code, reason=str(error))
            stored = {_key(item.ref): item for item in await self._stored([i.ref for i in items])}
            await self._index.delete([one.ref for one in items if _key(one.ref) not in stored])
            written = {_key(item.ref): item.content_hash for item in items}
            items = [one for key, one in stored.items() if one.content_hash != written[key]]

    async def _stored(self, refs: Sequence[Ref]) -> list[Findable]:
        """What is stored of these items by now."""
        found: list[Findable] = []
        for kind in KINDS:
            ids = [ref.db_id for ref in refs if ref.kind == kind and ref.db_id is not None]
            found += await self._findables(
                kind, await self._everything.items(kind, ids) if ids else []
            )
        return found

    async def _findables(self, kind: Kind, rows: Sequence[ItemRow]) -> list[Findable]:
        return findables(
            kind, rows, await self._everything.servers({row.server_id for row in rows})
        )

    async def drift(self) -> Drift:
        """How the index differs from the rows. Raises `StorageError` and `IndexFailure`."""
        found = {_key(ref): (ref, key) async for ref, key in self._index.contents()}
        missing: list[str] = []
        outdated: list[str] = []
        async for page in self._pages():
            for item in page:
                seen = found.pop(_key(item.ref), None)
                if seen is None:
                    missing.append(_name(item.ref))
                elif seen[1] != item.content_hash:
                    outdated.append(_name(item.ref))
        left = [_name(ref) for ref, _ in found.values()]
        return Drift(tuple(missing), tuple(outdated), tuple(left))

    async def _pages(self) -> AsyncIterator[list[Findable]]:
        """Everything that is stored, whosever it is."""
        for kind in KINDS:
            after = 0
            while rows := await self._everything.page(kind, after, PAGE):
                after = rows[-1].id
                yield await self._findables(kind, rows)


def _key(ref: Ref) -> tuple[str, int | None]:
    return ref.kind, ref.db_id


def _name(ref: Ref) -> str:
    return f"{ref.server}: {ref.own_name}"

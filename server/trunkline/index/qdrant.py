"""
The index in Qdrant.

One instance is one space of vectors, with a collection of its own. It writes there, and searches
through an alias, which `switch` moves to its collection once that is filled:

    prepare ── upsert ── upsert ── ... ── switch ── search
                                            │
    of another model:  search  ─────────────┴── IndexNotFilled

So what is searched is always whole. Whoever's vectors are not in it is told so, and searches in
process meanwhile (`FallbackIndex`). Importing this takes two seconds: it is imported where a Qdrant
is configured.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from qdrant_client import AsyncQdrantClient, models

from trunkline.errors import (
    IndexFailure,
    IndexNotFilled,
    IndexRefused,
    PointIdMissing,
    PointIdOverflow,
)
from trunkline.index import qdrant_schema
from trunkline.index.failures import translated
from trunkline.index.index import Match, Point, Query, Ref
from trunkline.index.point_ids import CAPACITY
from trunkline.index.qdrant_points import hash_of, id_of, ref_of, to_qdrant
from trunkline.index.qdrant_query import arguments, lets_nothing_through, matches_of
from trunkline.index.qdrant_schema import Space
from trunkline.index.retry import BACKOFF, Backoff, retrying

log = structlog.get_logger(__name__)

BATCH: Final = 100
"""Points in one request: 8 MB of JSON at 4,096 dimensions, a quarter of what Qdrant accepts."""

PAGE: Final = 1000
"""Points read at once when all are."""

SHOWN: Final = 5
"""Point ids that a line in the log names."""

T = TypeVar("T")


class QdrantIndex:
    """Points of one space, in Qdrant. Methods raise `IndexFailure` when it cannot do its work."""

    def __init__(
        self,
        client: AsyncQdrantClient,
        space: Space,
        *,
        prefix: str = "trunkline",
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._client, self._backoff = client, backoff
        self.space, self.alias = space, prefix
        self.collection = space.collection(prefix)
        self._prepared = False
        self._searched: str | None = None
        """The collection that the alias led to when it was last looked at."""

    # -- the collection -----------------------------------------------------------------------

    async def prepare(self) -> bool:
        """
        Create what is missing; tell whether the alias leads here already.

        If not, the collection has to be filled, and then `switch`ed to. Raises `IndexMismatch` if
        there is a collection of this name that cannot hold this space's points.
        """
        await self._ask("prepare", self._create, subject=self.collection)
        self._prepared = True
        return await self.is_searched()

    async def is_searched(self) -> bool:
        """Whether the alias leads to this collection."""
        self._searched = await self._ask("aliases", self._alias_target)
        return self._searched == self.collection

    async def switch(self) -> None:
        """
        Let searches find this collection from now on, and drop the one they found before.

        The alias moves in one step: every search finds the one or the other. Does nothing the
        second time.
        """
        if await self.is_searched():
            return
        before = self._searched
        move = partial(self._client.update_collection_aliases, self._moves(before))
        await self._ask("switch", move, subject=self.collection)
        self._searched = self.collection
        log.info("qdrant.switched", alias=self.alias, to=self.collection, before=before)
        if before is not None:
            drop = partial(self._client.delete_collection, before)
            await self._ask("drop", drop, subject=before)

    async def ping(self) -> None:
        """Ask once, without another try, whether searches can be answered now."""
        with translated():
            self._searched = await self._alias_target()
            await self._client.count(self.alias, exact=False)
        if self._searched != self.collection:
            raise IndexNotFilled

    # -- points -------------------------------------------------------------------------------

    async def upsert(self, points: Sequence[Point]) -> None:
        """
        Add points, or replace those of the same rows, a hundred at a time.

        Raises `PointIdOverflow` or `PointIdMissing` for one that cannot be numbered, when all the
        others are there.
        """
        records: list[models.PointStruct] = []
        unnumbered: IndexFailure | None = None
        for point in points:
            try:
                records.append(to_qdrant(point, self.space))
            except (PointIdOverflow, PointIdMissing) as error:
                unnumbered = error
        await self._send(records)
        if unnumbered is not None:
            raise unnumbered

    async def _send(self, records: Sequence[models.PointStruct]) -> None:
        await self._be_prepared()
        for start in range(0, len(records), BATCH):
            batch = records[start : start + BATCH]
            send = partial(self._client.upsert, self.collection, batch, wait=True)
            await self._ask("upsert", send, subject=_points([int(record.id) for record in batch]))

    async def delete(self, refs: Sequence[Ref]) -> None:
        """Take points out, of what is searched as well, should that be another collection."""
        ids = [id_of(ref) for ref in refs if (ref.db_id or 0) < CAPACITY]
        if not ids:
            return
        await self._be_prepared()
        searched = self.alias if self._searched else self.collection
        for collection in {self.collection, searched}:
            send = partial(self._client.delete, collection, list(ids), wait=True)
            await self._ask("delete", send, subject=_points(ids))
        log.info(f"Deleted vector{_plural(ids)}: {_numbers(ids)}")

    async def search(self, query: Query) -> list[Match]:
        """
        The best matches, best first; equal ones by kind, server and name.

        Raises `IndexNotFilled` if the alias does not lead to where these vectors are.
        """
        if lets_nothing_through(query):
            return []
        try:
            return await self._search(query)
        except IndexRefused as error:
            # Nothing is filled yet, or with another model's vectors, which have another name.
            if await self.is_searched():
                raise
            raise IndexNotFilled from error

    async def count(self) -> int:
        """How many points this collection has, exactly."""
        return (await self._ask("count", partial(self._client.count, self.collection))).count

    async def contents(self) -> AsyncIterator[tuple[Ref, bytes]]:
        """Every point of this collection, in the order of their numbers."""
        offset: Any = None
        while True:
            read = partial(self._client.scroll, self.collection, limit=PAGE, offset=offset)
            page, offset = await self._ask("scroll", read)
            for record in page:
                yield ref_of(record), hash_of(record)
            if offset is None:
                return

    # -- requests -----------------------------------------------------------------------------

    async def _ask(
        self, operation: str, call: Callable[[], Awaitable[T]], *, subject: str = ""
    ) -> T:
        async def once() -> T:
            with translated():
                return await call()

        return await retrying(operation, once, subject=subject, backoff=self._backoff)

    async def _be_prepared(self) -> None:
        """Prepare, if that could not be done when it was first asked for."""
        if not self._prepared:
            await self.prepare()

    async def _create(self) -> None:
        await qdrant_schema.check_version(self._client)
        if not await self._client.collection_exists(self.collection):
            try:
                with translated():
                    await qdrant_schema.create(self._client, self.collection, self.space)
                log.info("qdrant.created", collection=self.collection, vectors=self.space.dense)
            except IndexRefused:
                # Another process, or an attempt of ours whose answer was lost, came first.
                if not await self._client.collection_exists(self.collection):
                    raise
        await qdrant_schema.check(self._client, self.collection, self.space)
        await qdrant_schema.index_payload(self._client, self.collection)

    async def _alias_target(self) -> str | None:
        aliases = (await self._client.get_aliases()).aliases
        return next((one.collection_name for one in aliases if one.alias_name == self.alias), None)

    def _moves(self, before: str | None) -> list[models.AliasOperations]:
        """What makes the alias lead here."""
        here = models.CreateAlias(collection_name=self.collection, alias_name=self.alias)
        lead = models.CreateAliasOperation(create_alias=here)
        if before is None:
            return [lead]
        gone = models.DeleteAlias(alias_name=self.alias)
        return [models.DeleteAliasOperation(delete_alias=gone), lead]

    async def _search(self, query: Query) -> list[Match]:
        asked = arguments(query, self.space)
        if asked is None:
            return []
        found = await self._ask("search", partial(self._client.query_points, self.alias, **asked))
        return matches_of(found.points, query, self.space, asked)


def _points(ids: Sequence[int]) -> str:
    return f"point{_plural(ids)} {_numbers(ids)}"


def _plural(ids: Sequence[int]) -> str:
    return "s" if len(ids) > 1 else ""


def _numbers(ids: Sequence[int]) -> str:
    """The first few of them, so that a line in the log stays one."""
    shown = ", ".join(map(str, ids[:SHOWN]))
    return f"{shown} and {len(ids) - SHOWN} more" if len(ids) > SHOWN else shown

"""
Keeps the index of this process what the catalog is.

It compares every snapshot with what it has put in, and embeds what is new in the background. So it
needs neither the database nor the outbox, and what left the catalog is found no more.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

import anyio.lowlevel
import structlog

from trunkline.catalog.catalog import Catalog
from trunkline.errors import EmbeddingError, OrgNotFound
from trunkline.index.index import Index, Point, Ref
from trunkline.models import KINDS, Json
from trunkline.search.points import Findable, PointMaker
from trunkline.storage.rows import Org

log = structlog.get_logger(__name__)

BATCH: Final = 200
"""Items that are read, embedded and put in before others have their turn."""

AGAIN: Final = 10.0
"""Seconds after which an embedding that did not answer is asked again."""

PATIENCE: Final = 5.0
"""Seconds that what is new waits for its vectors. Then it can be found by its terms."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """An item as it is in the index."""

    definition: Json
    """Compared by identity first: a list that is as it was brings the same objects."""

    title: str
    content_hash: bytes


class Indexer:
    """Follows a catalog. `run` is to be running for the rest to work."""

    def __init__(
        self,
        catalog: Catalog,
        index: Index,
        maker: PointMaker,
        scope: Callable[[str | None], Org],
        *,
        again: float = AGAIN,
        patience: float = PATIENCE,
    ) -> None:
        """*scope* finds an organisation by the name that the catalog has for it."""
        self._catalog, self._index, self._maker, self._scope = catalog, index, maker, scope
        self._again, self._patience = again, patience
        self._seen: dict[Ref, _Seen] = {}
        """What need not be put in anew unless it changes."""

        self._there: set[Ref] = set()
        """All that is in the index, or may be."""

        self._is_blind = False
        """Whether the embedding has failed in this round."""

        self._wake = asyncio.Event()
        self._wake.set()
        self._is_working = False
        catalog.listeners.append(lambda *_: self._wake.set())

    @property
    def is_current(self) -> bool:
        """Whether everything that is served can be found."""
        return not self._is_working and not self._wake.is_set()

    def renew(self) -> None:
        """Make every point anew: the skill cards are others."""
        self._seen.clear()
        self._wake.set()

    async def run(self) -> NoReturn:
        """Follow the catalog until cancelled."""
        while True:
            await self._wake.wait()
            self._is_working = True
            self._wake.clear()
            try:
                await self._follow()
            except Exception:  # what cannot be indexed must not end what is served
                log.exception("indexer.crashed")
                self._seen.clear()
                self._call_again()
            self._is_working = False

    async def _follow(self) -> None:
        self._is_blind = False
        there: set[Ref] = set()
        changed: list[Findable] = []
        for ref, definition, title in self._items():
            there.add(ref)
            seen = self._seen.get(ref)
            if seen is not None and seen.definition is definition and seen.title == title:
                continue
            item = Findable.of(ref, definition, title)
            key = item.content_hash
            if seen is None or seen.content_hash != key:
                changed.append(item)
            self._seen[ref] = _Seen(definition, title, key)
            if len(changed) >= BATCH:
                await self._put(changed)
                changed = []
        await self._put(changed)
        gone = self._there - there
        await self._index.delete(list(gone))
        self._there -= gone
        for ref in gone:
            self._seen.pop(ref, None)

    def _items(self) -> Iterator[tuple[Ref, Json, str]]:
        """Everything that is served, to whomever."""
        for offer in self._catalog.snapshot.offers:
            try:
                org = self._scope(offer.org)
            except OrgNotFound:
                continue  # it is being made, and the next snapshot finds it
            for kind in KINDS:
                for entry in offer.entries[kind]:
                    ref = Ref(org, kind, offer.provider, entry.own)
                    yield ref, entry.definition, offer.title

    async def _put(self, items: Sequence[Findable]) -> None:
        if not items:
            return
        points = await self._points(items)
        self._there.update(item.ref for item in items)
        await self._index.upsert(points)
        await anyio.lowlevel.checkpoint()

    async def _points(self, items: Sequence[Findable]) -> list[Point]:
        """Their points; without vectors from the first that cannot be had, so that nobody waits."""
        is_known = all(item.ref in self._there for item in items)
        if not self._is_blind:
            try:
                # What can be found already waits as long as it takes: a slow embedding is one too.
                async with asyncio.timeout(None if is_known else self._patience):
                    return await self._maker.make(items)
            except (EmbeddingError, TimeoutError) as error:
                log.info("indexer.without_vectors", reason=str(error) or "It does not answer.")
                self._is_blind = True
                self._call_again()
        for item in items:
            self._seen.pop(item.ref, None)
        return self._maker.make_unembedded(items)

    def _call_again(self) -> None:
        asyncio.get_running_loop().call_later(self._again, self._wake.set)

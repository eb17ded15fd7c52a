"""
The index of a Trunkline without Qdrant, and the fallback of one with it.

Everything is held by slot: slot 7 is row 7 of the matrix, 7 in the postings, and place 7 of every
mask. A slot that falls free is given to the next new point, so that nothing ever moves. A search is
arithmetic over whole columns:

    org ── seen ──┬── dense.score ──┐
                  │                 ├── fuse ── boosts ── the best of those wanted
                  └── terms.rank ───┘

What an organisation may see is also what a score is measured against. So nothing of another
organisation shows in it, and the other filters choose from the answer without changing its order.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import anyio.lowlevel

from trunkline.index.bm25 import Ranking, TermIndex
from trunkline.index.dense import DenseIndex
from trunkline.index.fusion import Scores, best, fuse
from trunkline.index.index import Match, Point, Query, Ref
from trunkline.index.labels import Labels

BATCH: Final = 200
"""Points that are put in before others have their turn: about ten milliseconds."""


class InProcessIndex:
    """
    Points in memory.

    It belongs to the event loop: a search is over within it, in a millisecond or two. Vectors and
    queries of other dimensions than it was made for raise `IndexMismatch`.
    """

    def __init__(self, dimensions: int) -> None:
        self._slots: dict[Ref, int] = {}
        self._points: list[tuple[Ref, bytes]] = []
        self._free: list[int] = []
        self._dense = DenseIndex(dimensions)
        self._terms = TermIndex()
        self._labels = Labels()

    async def upsert(self, points: Sequence[Point]) -> None:
        """Add points, or replace those of the same items. All are checked before the first."""
        for point in points:
            self._dense.check(point.vector.size, repr(point.ref.own_name))
        for done, point in enumerate(points, start=1):
            self._put(point)
            if done % BATCH == 0:
                await anyio.lowlevel.checkpoint()

    async def delete(self, refs: Sequence[Ref]) -> None:
        """Take points out. One that is not there is no error."""
        for ref in refs:
            slot = self._slots.pop(ref, None)
            if slot is not None:
                self._terms.drop(slot)
                self._labels.drop(slot)
                self._free.append(slot)

    async def search(self, query: Query) -> list[Match]:
        """
        The best matches, best first; equal ones by kind, server and name.

        `query.vector` may be several rows, one for each thing that is asked for: see `DenseIndex`.
        By terms alone only what has one of them is found. A query that says nothing finds nothing.
        """
        await anyio.lowlevel.checkpoint()  # whoever searches in a loop leaves others their turn
        size = len(self._points)
        dense = None if query.vector is None else self._dense.score(query.vector, size)
        seen = self._labels.seen_by(query, size)
        wanted = seen & self._labels.wanted_by(query, size)
        if query.limit < 1 or not wanted.any():
            return []

        ranking = self._terms.rank(query.terms, seen)
        lexical = ranking.scores if ranking else None
        if dense is None and lexical is not None:
            wanted &= lexical > 0
        lists = [scores for scores in (dense, lexical) if scores is not None]
        if not lists:
            return []
        scores = fuse(lists, seen) + self._labels.boosts(query.boosts, size)
        slots = best(scores, wanted, query.limit, self._order)
        return [self._match(slot, scores, dense, ranking) for slot in slots]

    async def count(self) -> int:
        """How many points there are."""
        return len(self._slots)

    async def contents(self) -> AsyncIterator[tuple[Ref, bytes]]:
        """Every point's item and content hash, as they were when the first was asked for."""
        for ref, content_hash in [self._points[slot] for slot in self._slots.values()]:
            yield ref, content_hash

    def _put(self, point: Point) -> None:
        slot = self._slots.get(point.ref)
        if slot is None:
            slot = self._free.pop() if self._free else len(self._points)
            self._slots[point.ref] = slot
        entry = point.ref, point.content_hash
        self._points[slot : slot + 1] = [entry]
        self._dense.put(slot, point.vector)
        self._terms.put(slot, point.terms)
        self._labels.put(slot, point.ref, point.skills)

    def _order(self, slot: int) -> tuple[str, str, str, str]:
        ref, _ = self._points[slot]
        return ref.kind, ref.server, ref.own_name, str(ref.org or "")

    def _match(
        self, slot: int, scores: Scores, dense: Scores | None, ranking: Ranking | None
    ) -> Match:
        return Match(
            ref=self._points[slot][0],
            score=float(scores[slot]),
            dense=None if dense is None else float(dense[slot]),
            lexical=None if ranking is None else float(ranking.scores[slot]),
            terms={} if ranking is None else self._terms.explain(ranking, slot),
        )

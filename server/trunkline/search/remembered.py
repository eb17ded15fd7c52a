"""
Searches that are remembered: the same words again cost neither an embedding nor a search.

What is kept is what the index said, as references. Whether the asker may see them is looked up in
the catalog each time (see `search`), so a remembered answer shows nothing that has left.

    Search ── RememberedSearcher ──┬── cache
                                   └── Searcher ── index
    Indexer, deliveries ── ForgettingIndex ── index, and then: forget

An index outside of this process has one answer for all processes, and they share what is
remembered. The index in this process is its own, and so are the answers.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from hashlib import blake2b
from typing import Any
from uuid import UUID

from trunkline.cache.cache import Cache
from trunkline.cache.results import canonical
from trunkline.index.index import Index, Match, Point, Query, Ref
from trunkline.search.skills import SkillCards
from trunkline.search.strategies import Answer, Searcher, Strategy
from trunkline.storage.rows import Org


class RememberedSearcher:
    """A `Searcher` whose answers are kept for a while, unless they are degraded."""

    def __init__(self, searcher: Searcher, cache: Cache, *, source: str, ttl: float) -> None:
        """*source* names the index and the embedding; *ttl* is in seconds."""
        self._searcher, self._cache, self._source, self._ttl = searcher, cache, source, ttl

    async def search(
        self,
        words: str,
        filters: Query,
        *,
        strategy: Strategy = "hybrid",
        cards: SkillCards | None = None,
    ) -> Answer:
        """What `Searcher.search` answers, or has answered. Raises `IndexFailure`."""

        async def ask() -> Any:
            return _packed(
                await self._searcher.search(words, filters, strategy=strategy, cards=cards)
            )

        key = _key(self._source, words, filters, strategy)
        packed = await self._cache.get_or_compute(
            "search", filters.org, key, ask, ttl=self._seconds
        )
        return _unpacked(packed)

    def _seconds(self, packed: Any) -> float:
        return 0.0 if packed["degraded"] else self._ttl


class ForgettingIndex:
    """An index that, whenever it changes, has the searches forgotten that could tell."""

    def __init__(self, index: Index, cache: Cache) -> None:
        self._index, self._cache = index, cache

    async def search(self, query: Query) -> list[Match]:
        return await self._index.search(query)

    async def upsert(self, points: Sequence[Point]) -> None:
        """Also if it fails: some may be in it by then."""
        try:
            await self._index.upsert(points)
        finally:
            await self._forget(point.ref.org for point in points)

    async def delete(self, refs: Sequence[Ref]) -> None:
        """Also if it fails: some may have left by then."""
        try:
            await self._index.delete(refs)
        finally:
            await self._forget(ref.org for ref in refs)

    async def count(self) -> int:
        return await self._index.count()

    def contents(self) -> AsyncIterator[tuple[Ref, bytes]]:
        return self._index.contents()

    async def _forget(self, orgs: Iterable[Org]) -> None:
        """What is global is in everybody's answers, so it has all of them forgotten."""
        changed = set(orgs)
        for org in (None,) if None in changed else changed:
            await self._cache.invalidate("search", org)


def _key(source: str, words: str, filters: Query, strategy: Strategy) -> str:
    """Everything that an answer depends on, but the org. What was asked cannot be read from it."""
    asked = [source, words, strategy, filters.limit]
    asked += [_sorted(some) for some in (filters.kinds, filters.servers, filters.skills)]
    return blake2b(canonical(asked), digest_size=16).hexdigest()


def _sorted(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _packed(answer: Answer) -> Any:
    """An answer as JSON."""
    return {
        "matches": [
            [
                str(match.ref.org) if match.ref.org is not None else None,
                match.ref.kind,
                match.ref.server,
                match.ref.own_name,
                match.ref.db_id,
                float(match.score),
                None if match.dense is None else float(match.dense),
                None if match.lexical is None else float(match.lexical),
                {term: float(score) for term, score in match.terms.items()},
            ]
            for match in answer.matches
        ],
        "strategy": answer.strategy,
        "degraded": answer.degraded,
        "skills": [[name, float(confidence)] for name, confidence in answer.skills],
    }


def _unpacked(packed: Any) -> Answer:
    return Answer(
        [
            Match(
                ref=Ref(UUID(org) if org is not None else None, kind, server, own_name, db_id),
                score=score,
                dense=dense,
                lexical=lexical,
                terms=terms,
            )
            for org, kind, server, own_name, db_id, score, dense, lexical, terms in packed[
                "matches"
            ]
        ],
        packed["strategy"],
        packed["degraded"],
        [(name, confidence) for name, confidence in packed["skills"]],
    )

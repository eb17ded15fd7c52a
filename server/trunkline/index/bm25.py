"""
BM25 over postings that change in place.

Every term has the slots it occurs in and how often, side by side in two arrays. A query walks the
arrays of its own terms only, and what depends on the collection (how many there are, how long they
are, how many have the term) is counted while it does, among those the asker may see: so an update
costs no more than its own terms, and no organisation's items show in the scores of another's.

S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trunkline.index.fusion import Mask, Scores

K1: Final = 2.0
"""How much more the next occurrence of a term counts."""

B: Final = 0.75
"""How much a long text's terms count for less."""


class Postings:
    """The slots one term occurs in, in no order, and how often in each."""

    __slots__ = ("_counts", "_size", "_slots")

    def __init__(self) -> None:
        self._slots = np.zeros(2, np.int32)
        self._counts = np.zeros(2, np.float32)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, slot: int, count: float) -> None:
        if self._size == len(self._slots):
            self._slots = np.resize(self._slots, 2 * self._size)
            self._counts = np.resize(self._counts, 2 * self._size)
        self._slots[self._size] = slot
        self._counts[self._size] = count
        self._size += 1

    def remove(self, slot: int) -> None:
        """Take a slot out; the last one takes its place."""
        (place,) = np.flatnonzero(self._slots[: self._size] == slot)
        self._size -= 1
        self._slots[place] = self._slots[self._size]
        self._counts[place] = self._counts[self._size]

    def among(self, mask: Mask | None) -> tuple[NDArray[np.int32], Scores]:
        """The slots that are meant, all if there is no mask, and the counts of each."""
        slots, counts = self._slots[: self._size], self._counts[: self._size]
        if mask is None:
            return slots, counts
        kept = mask[slots]
        return slots[kept], counts[kept]


class TermIndex:
    """The terms of everything there is, by slot."""

    def __init__(self) -> None:
        self._postings: defaultdict[str, Postings] = defaultdict(Postings)
        self._terms: dict[int, tuple[tuple[str, ...], Scores]] = {}
        self._lengths = np.zeros(0, np.float32)

    def put(self, slot: int, terms: Mapping[str, float]) -> None:
        """Set the terms of a slot. Counts that are not above zero are none."""
        self.drop(slot)
        counts = {term: count for term, count in terms.items() if 0 < count < math.inf}
        if slot >= len(self._lengths):
            self._lengths = np.resize(self._lengths, max(64, 2 * slot))
        self._lengths[slot] = sum(counts.values())
        self._terms[slot] = tuple(counts), np.fromiter(counts.values(), np.float32, len(counts))
        for term, count in counts.items():
            self._postings[term].add(slot, count)

    def drop(self, slot: int) -> None:
        """Forget a slot's terms, if there are any."""
        terms, _ = self._terms.pop(slot, ((), None))
        for term in terms:
            postings = self._postings[term]
            postings.remove(slot)
            if not postings:
                del self._postings[term]

    def rank(self, query: Mapping[str, float], among: Mask) -> "Ranking | None":
        """
        Score the slots of those *among*, which are also the ones that are counted.

        None if none of the query's terms occurs there.
        """
        size = int(np.count_nonzero(among))
        mask = None if size == len(self._terms) else among
        norms = self._norms(among)
        scores, weights = np.zeros(len(among), np.float32), dict[str, float]()
        for term in (term for term in query if term in self._postings):
            slots, counts = self._postings[term].among(mask)
            if len(slots):
                weights[term] = query[term] * _rarity(len(slots), size)
                scores[slots] += weights[term] * _saturated(counts, norms[slots])
        return Ranking(scores, weights, norms) if weights else None

    def explain(self, ranking: "Ranking", slot: int) -> dict[str, float]:
        """What each of the query's terms gave to a slot's score."""
        terms, counts = self._terms[slot]
        gains = _saturated(counts, ranking.norms[slot]).tolist()
        return {
            term: ranking.weights[term] * gain
            for term, gain in zip(terms, gains, strict=True)
            if term in ranking.weights
        }

    def _norms(self, among: Mask) -> Scores:
        """What each slot's counts are held against: more for a text longer than the mean."""
        lengths = self._lengths[: len(among)]
        mean = float(lengths[among].mean()) or 1.0
        return np.add(lengths * (K1 * B / mean), K1 * (1 - B), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The scores of one query, and what is needed to explain them."""

    scores: Scores
    weights: Mapping[str, float]
    """How much each of the query's terms counts: its weight there, and how rare it is."""

    norms: Scores


def _rarity(having: int, size: int) -> float:
    """The inverse document frequency, in the form that is never below zero."""
    return math.log(1 + (size - having + 0.5) / (having + 0.5))


def _saturated(counts: Scores, norms: Scores) -> Scores:
    """Each further occurrence counts for less, and all of them for at most `K1 + 1`."""
    return np.divide(counts * (K1 + 1), counts + norms, dtype=np.float32)

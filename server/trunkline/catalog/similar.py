"""
Names that somebody may have meant who wrote one that does not exist.

Comparing with every name takes half a second where there are ten thousand. So the names that share
most groups of three letters are found first, and only those are compared.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import chain
from typing import Final

from trunkline.catalog.offer import Entry

SUGGESTIONS: Final = 3
COMPARED: Final = 30
LIKENESS: Final = 0.6
"""How alike two names have to be, of 1: what `difflib` takes for a close match."""

LONGEST: Final = 256
"""Characters of a wrong name that are looked at."""


class Spelling:
    """The names of one list, for finding similar ones."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: list[Entry] = list(entries)
        self._having: defaultdict[str, list[int]] = defaultdict(list)
        for index, entry in enumerate(self._entries):
            for group in _groups(entry.name):
                self._having[group].append(index)

    def similar(self, name: str) -> list[str]:
        """Up to three names, best first. One that matches without its namespace is as good."""
        name = name[:LONGEST]
        shared = Counter(chain.from_iterable(self._having.get(one, ()) for one in _groups(name)))
        candidates = nlargest(COMPARED, shared, key=lambda index: (shared[index], -index))
        alike = [(self._likeness(index, name), -index) for index in candidates]
        best = nlargest(SUGGESTIONS, [one for one in alike if one[0] >= LIKENESS])
        return [self._entries[-index].name for _, index in best]

    def _likeness(self, index: int, name: str) -> float:
        entry = self._entries[index]
        matcher = SequenceMatcher(None, b=name.lower(), autojunk=False)
        ratios: list[float] = []
        for known in {entry.name, entry.own}:
            matcher.set_seq1(known[:LONGEST].lower())
            ratios.append(matcher.ratio())
        return max(ratios)


def _groups(name: str) -> set[str]:
    """The groups of three characters in a name, its ends included."""
    padded = f" {name.lower()} "
    return {padded[start : start + 3] for start in range(len(padded) - 2)}

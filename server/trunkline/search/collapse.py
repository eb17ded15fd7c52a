"""
One hit for what several servers offer alike.

Five servers that all wrap one API would otherwise be the first five hits for it. Two items are
taken for one if they are of one kind, of different servers, called the same but for spelling, and
described in nearly the same words. The best of them is the hit, and the others are listed with it:
nothing that was found is lost.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from trunkline.index.index import Ref
from trunkline.search.terms import split_terms

NEAR: Final = 0.8
"""The share of two texts' different terms that both have (Jaccard), from which they are alike."""

LONGEST: Final = 2_000
"""Characters of a text that are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One item that was found."""

    ref: Ref
    score: float
    name: str
    """Its server's own name for it."""

    text: str
    """What it does: its description, and the names of its parameters."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One candidate, and those it stands for."""

    best: Candidate
    also: list[Candidate] = field(default_factory=list["Candidate"])


def collapse(candidates: Iterable[Candidate]) -> list[Hit]:
    """The hits for candidates that come best first, in the same order."""
    hits: list[Hit] = []
    of_name: defaultdict[tuple[str, str], list[Hit]] = defaultdict(list)
    for candidate in candidates:
        namesakes = of_name[candidate.ref.kind, _called(candidate.name)]
        same = next((hit for hit in namesakes if _stands_for(hit, candidate)), None)
        if same:
            same.also.append(candidate)
        else:
            hits.append(Hit(candidate))
            namesakes.append(hits[-1])
    return hits


def _stands_for(hit: Hit, candidate: Candidate) -> bool:
    """Whether a candidate does what the hit does, on another server than any of it."""
    servers = {(one.ref.org, one.ref.server) for one in (hit.best, *hit.also)}
    if (candidate.ref.org, candidate.ref.server) in servers:
        return False
    ours, theirs = _words(hit.best.text[:LONGEST]), _words(candidate.text[:LONGEST])
    return len(ours & theirs) >= NEAR * len(ours | theirs) > 0


def _called(name: str) -> str:
    """The same for names that differ in case and in what stands between their words only."""
    return "".join(filter(str.isalnum, name)).casefold() or name


@lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    return frozenset(split_terms(text))

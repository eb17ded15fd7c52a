"""
What an index holds and answers, for the one in this process and for Qdrant alike.

An index knows points, not texts: whoever fills it has embedded the text and counted its terms, and
whoever asks has done the same with the query. It can be thrown away at any time and made again from
the catalog.

    catalog entry ── search.text ──> Point ── upsert ──> Index
    words ── search ──> Query ── search ──> Index ──> Match
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from trunkline.models import Kind

Vector = NDArray[np.float32]
"""One embedding, of length one."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Which item of the catalog a point stands for."""

    org: UUID | None
    """Whose it is; None for what belongs to everyone."""

    kind: Kind
    server: str
    own_name: str
    """The server's own name, URI or URI template."""

    db_id: int | None = field(default=None, compare=False)
    """The id of its row. None while the catalog could not be stored; Qdrant needs one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One item, as an index keeps it."""

    ref: Ref
    vector: Vector
    terms: Mapping[str, float]
    """How often each term occurs, weighted by where."""

    skills: Sequence[str] = ()
    content_hash: bytes = b""
    """SHA-256 of the text it was made of, to tell what an index is behind on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked of an index. Every filter that is None lets everything through."""

    org: UUID | None
    """Only its points and the global ones are found. There is no query without this filter."""

    vector: Vector | None = None
    """None asks by terms alone. Several rows: one for each thing asked for; the nearest counts."""

    terms: Mapping[str, float] = field(default_factory=dict)
    """Empty asks by vector alone."""

    kinds: frozenset[Kind] | None = None
    servers: frozenset[str] | None = None
    skills: frozenset[str] | None = None
    boosts: Mapping[str, float] = field(default_factory=dict)
    """By skill: what is added to the fused score of its points (the best of a point's skills)."""

    limit: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One point that answers a query."""

    ref: Ref
    score: float
    """Fused; comparable within one answer only."""

    dense: float | None = None
    """Cosine, where the index tells it."""

    lexical: float | None = None
    """BM25, where the index tells it."""

    terms: Mapping[str, float] = field(default_factory=dict)
    """What each of the query's terms gave to `lexical`, where the index tells it."""


class Index(Protocol):
    """Points, found by vector and by terms."""

    async def upsert(self, points: Sequence[Point]) -> None:
        """Add points, or replace those of the same items."""
        ...

    async def delete(self, refs: Sequence[Ref]) -> None:
        """Take points out. One that is not there is no error."""
        ...

    async def search(self, query: Query) -> list[Match]:
        """The best matches, best first; equal ones in a stable order."""
        ...

    async def count(self) -> int:
        """How many points there are."""
        ...

    def contents(self) -> AsyncIterator[tuple[Ref, bytes]]:
        """Every point's item and content hash, in any order."""
        ...

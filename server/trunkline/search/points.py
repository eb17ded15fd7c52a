"""
From items of the catalog to the points of an index: texts read, embedded, classified, counted.

    definition ── ItemText ──┬── dense ── Vectors ── classify ── Point
                             └── terms ─────────────────────────┘
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trunkline.index.index import Point, Ref
from trunkline.models import Json
from trunkline.search.cards import CardShelf
from trunkline.search.skills import Skill
from trunkline.search.text import ItemText
from trunkline.search.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Findable:
    """One item, as it is to be found."""

    ref: Ref
    text: ItemText

    @classmethod
    def of(cls, ref: Ref, definition: Json, server_title: str) -> "Findable":
        """Read an item's definition, under its server's own name for it."""
        named = (
            definition
            if ref.kind in ("resources", "templates")
            else {
                **definition,
                "name": ref.own_name,
            }
        )
        return cls(ref, ItemText.of(ref.kind, named, server=ref.server, server_title=server_title))

    @property
    def content_hash(self) -> bytes:
        """The same for what would make the same point, whatever the embedding."""
        text = self.text
        read = (text.server, text.servers, text.name, text.description, text.about)
        said = "\0".join((*read, text.parameters))
        return hashlib.sha256(said.encode("utf-8", "replace")).digest()


class PointMaker:
    """Makes points."""

    def __init__(self, vectors: Vectors, cards: CardShelf) -> None:
        self._vectors, self._cards = vectors, cards

    @property
    def model(self) -> str:
        """The embedding that the vectors are of."""
        return self._vectors.embedding.model

    async def make(self, items: Sequence[Findable]) -> list[Point]:
        """The points of these items. Raises `EmbeddingError`."""
        vectors = await self._vectors.of([item.text.dense for item in items])
        return [
            self._point(item, vector, self._skills(item, vector))
            for item, vector in zip(items, vectors, strict=True)
        ]

    def make_unembedded(self, items: Sequence[Findable]) -> list[Point]:
        """The same while the embedding is away: found by their terms, and by nothing else."""
        nothing = np.zeros(self._vectors.embedding.dimensions, np.float32)
        return [self._point(item, nothing, []) for item in items]

    def _skills(self, item: Findable, vector: NDArray[np.float32]) -> Sequence[Skill]:
        return self._cards.skills_of(item.ref, vector) if item.ref.kind == "tools" else ()

    def _point(self, item: Findable, vector: NDArray[np.float32], skills: Sequence[Skill]) -> Point:
        return Point(
            ref=item.ref,
            vector=vector,
            terms=item.text.count_terms(),
            skills=[skill.name for skill in skills],
            content_hash=item.content_hash,
        )

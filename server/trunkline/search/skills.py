"""
Skills: what tools are good for, and how surely a text has to do with each.

A skill is found by its card. Its nearness to a text is the mean of two cosines: with the card as a
whole, which says what kind of thing the skill is, and with the nearest of its keywords, which are
what people say. How near is near differs from one embedding to another, so what counts is by how
many standard deviations a card is nearer than all cards are on the average; of that, a logistic
curve makes a confidence. docs/skills.md says how well that does.

    card ── embed ──┐
                    ├── nearness ── confidence ── up to three skills
    text ── embed ──┘
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from trunkline.search.embedding.embedding import Embedding

MOST: Final = 3
"""Skills that one text can have."""

LEAST: Final = 0.2
"""What a confidence has to reach for a text to have the skill."""

PRIMARY: Final = 0.5
"""What it has to reach for the surest skill to be the one that a tool is counted under."""

MIDDLE: Final = 2.15
STEEPNESS: Final = 2.0
"""
The logistic curve: at how many deviations a skill is as likely as not, and how fast that changes.

Fitted by logistic regression to 9,312 judged pairs of a tool and a skill: docs/skills.md
(J. Platt, "Probabilistic outputs for support vector machines", 1999).
"""

NO_SPREAD: Final = 1e-6
"""A standard deviation that is rounding."""

Floats = NDArray[np.float32]


class Card(Protocol):
    """What a skill is found by."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def keywords(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Skill:
    """A skill that a tool or a query has."""

    name: str
    confidence: float
    """0 to 1: of a hundred such at 0.7, seventy are right."""


class SkillCards:
    """The cards that hold for one organisation, embedded."""

    def __init__(
        self, names: Sequence[str], wholes: Floats, keywords: Floats, starts: Sequence[int]
    ) -> None:
        """*starts* tells where in *keywords* those of each card begin; each has at least one."""
        self.names = tuple(names)
        self._wholes, self._keywords, self._starts = wholes, keywords, starts

    @classmethod
    async def embed(cls, cards: Sequence[Card], embedding: Embedding) -> Self:
        """Embed cards, in one go. Raises `EmbeddingError`."""
        texts, starts = [_whole(card) for card in cards], list[int]()
        for card in cards:
            starts.append(len(texts) - len(cards))
            texts += _words(card)
        vectors = await embedding.embed(texts)
        wholes, keywords = vectors[: len(cards)], vectors[len(cards) :]
        return cls([card.name for card in cards], wholes, keywords, starts)

    def confidences(self, vectors: Floats) -> Floats:
        """
        How surely each text has each skill: a row for every vector, a column for every name.

        A vector of zeros, which is what a text is that says nothing, has none.
        """
        nearness = self._nearness(vectors)
        mean = nearness.mean(axis=1, keepdims=True)
        spread = nearness.std(axis=1, keepdims=True)
        deviations = (nearness - mean) / np.maximum(spread, NO_SPREAD)
        likely = 1 / (1 + np.exp(STEEPNESS * (MIDDLE - deviations)))
        return np.asarray(likely * (spread > NO_SPREAD), np.float32)

    def skills_of(self, vectors: Floats, *, least: float = LEAST) -> list[list[Skill]]:
        """The skills of each text that reach *least*, the surest first."""
        if not self.names:
            return [[] for _ in vectors]
        return [
            choose(zip(self.names, row.tolist(), strict=True), least=least)
            for row in self.confidences(vectors)
        ]

    def _nearness(self, vectors: Floats) -> Floats:
        nearest = np.maximum.reduceat(vectors @ self._keywords.T, self._starts, axis=1)
        return (vectors @ self._wholes.T + nearest) / np.float32(2)


def choose(confidences: Iterable[tuple[str, float]], *, least: float = LEAST) -> list[Skill]:
    """Those skills that are sure enough, the surest first, and no more than one may have."""
    sure = [Skill(name, confidence) for name, confidence in confidences if confidence >= least]
    return sorted(sure, key=lambda skill: (-skill.confidence, skill.name))[:MOST]


def primary_of(skills: Sequence[Skill]) -> Skill | None:
    """The one skill that a tool is counted under, out of its skills with the surest first."""
    return skills[0] if skills and skills[0].confidence >= PRIMARY else None


def _whole(card: Card) -> str:
    return card.description or card.name


def _words(card: Card) -> list[str]:
    """A card's keywords: without any, its name is what people say."""
    return [word for word in card.keywords if word.strip()] or [card.name]

"""
Which skills tools have: found offline, by the cards that are nearest.

The index asks, with the vectors that it has of its tools anyway, so that nothing is embedded twice
and tens of thousands of tools take a moment. A tool that no card is near to has no skill; it is
found all the same, because a skill only ever adds to a score.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import anyio.lowlevel

from trunkline.search.skills import Floats, Skill, SkillCards

BATCH: Final = 100
"""Tools that are classified before others have their turn: about three milliseconds."""


class Classifier(Protocol):
    """Tools in, skills out."""

    async def classify(self, texts: Sequence[str], vectors: Floats) -> list[list[Skill]]:
        """The skills of each tool, the surest first, by its text or by the vector of that text."""
        ...


class OfflineClassifier:
    """A classifier that needs nobody."""

    def __init__(self, cards: SkillCards) -> None:
        self._cards = cards

    async def classify(self, texts: Sequence[str], vectors: Floats) -> list[list[Skill]]:
        """The skills of each tool by its vector. Its text is not looked at."""
        found: list[list[Skill]] = []
        for start in range(0, len(vectors), BATCH):
            found += self._cards.skills_of(vectors[start : start + BATCH])
            await anyio.lowlevel.checkpoint()
        return found

"""
The skill cards that hold for each organisation, read from the database and embedded once.

Cards change rarely and by hand: they are looked at again now and then, and whoever classified by
the old ones is told.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import structlog

from trunkline.errors import EmbeddingError, StorageError
from trunkline.search.embedding.embedding import Embedding
from trunkline.search.skills import SkillCards
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.rows import Org, SkillRow

log = structlog.get_logger(__name__)

LOOK: Final = 60.0
"""Seconds between two looks whether cards have changed."""

FIRST_LOOK: Final = 0.2
"""Seconds between two looks until there are any."""


class CardShelf:
    """Cards by organisation. None are there until `run` has seen a database."""

    def __init__(
        self,
        skills: SkillRepository,
        embedding: Embedding,
        is_usable: Callable[[], bool],
    ) -> None:
        self._skills, self._embedding, self._is_usable = skills, embedding, is_usable
        self.on_change: Callable[[], None] | None = None
        """Called after cards have become others."""

        self._cards: dict[Org, SkillCards] = {}
        self._rows: dict[Org, Sequence[SkillRow]] = {}
        self._wanted: set[Org] = {None}

    def of(self, org: Org) -> SkillCards | None:
        """The cards of an organisation; the global ones until its own have been read."""
        self._wanted.add(org)
        return self._cards.get(org) or self._cards.get(None)

    async def run(self) -> NoReturn:
        """Keep the cards of every organisation that was asked for, until cancelled."""
        while True:
            if self._is_usable():
                try:
                    await self.look()
                except (StorageError, EmbeddingError) as error:
                    log.info("skills.not_read", code=error.code)
            await asyncio.sleep(LOOK if self._cards else FIRST_LOOK)

    async def look(self) -> None:
        """Read the cards, and embed those that are new. Raises `StorageError`, `EmbeddingError`."""
        changed = False
        for org in tuple(self._wanted):
            rows = await self._skills.list_effective(org)
            if rows != self._rows.get(org):
                self._cards[org] = await SkillCards.embed(rows, self._embedding)
                self._rows[org] = rows
                changed = True
        if changed and self.on_change is not None:
            self.on_change()

"""
The skill cards that hold for each organisation, and the skills that tools have by them.

Cards are read from the database and embedded once. They change rarely and by hand: they are looked
at again now and then, and whoever classified by the old ones is told. Where a language model
classifies, its answers are kept as rows, and read here; the embedding fills in until there are any.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

import numpy as np
import structlog

from trunkline.errors import EmbeddingError, StorageError
from trunkline.index.index import Ref
from trunkline.search.classification import Classifier, OfflineClassifier
from trunkline.search.embedding.embedding import Embedding
from trunkline.search.skills import Floats, Skill, SkillCards
from trunkline.storage.pool import Database
from trunkline.storage.repositories.everything import Everything
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.rows import Org, SkillRow

log = structlog.get_logger(__name__)

LOOK: Final = 60.0
"""Seconds between two looks whether cards have changed."""

FIRST_LOOK: Final = 0.2
"""Seconds between two looks whether there is a database."""

AGAIN: Final = 5.0
"""Seconds after which cards that could not be read or embedded are tried again."""

MakeClassifier = Callable[[Sequence[SkillRow], Classifier], Classifier]
"""Makes a better classifier for cards, with one to fall back on."""


class CardShelf:
    """Cards by organisation. None are there until `run` has seen a database."""

    def __init__(
        self,
        database: Database,
        embedding: Embedding,
        is_usable: Callable[[], bool],
        make_classifier: MakeClassifier | None = None,
    ) -> None:
        """*make_classifier* makes those that ask a model; None leaves it to the embedding."""
        self._skills, self._everything = SkillRepository(database), Everything(database)
        self._embedding, self._is_usable = embedding, is_usable
        self._make_classifier = make_classifier
        self.on_change: Callable[[bool], None] | None = None
        """Called after cards, or skills of tools, have become others. It is told whether there
        were cards before, by which tools were classified."""

        self.looked = asyncio.Event()
        """Set once cards have been read, or could not be."""

        self._cards: dict[Org, SkillCards] = {}
        self._rows: dict[Org, Sequence[SkillRow]] = {}
        self._classifiers: dict[Org, Classifier] = {}
        self._assigned: Mapping[Ref, Sequence[Skill]] = {}
        self._wanted: set[Org] = {None}

    def of(self, org: Org) -> SkillCards | None:
        """The cards of an organisation; the global ones until its own have been read."""
        self._wanted.add(org)
        return self._cards.get(org) or self._cards.get(None)

    def ids(self, org: Org) -> Mapping[str, int]:
        """The ids of an organisation's skills by name; none until its cards have been read."""
        self._wanted.add(org)
        return {row.name: row.id for row in self._rows.get(org, ())}

    def classifier(self, org: Org) -> Classifier | None:
        """Who says which skills the tools of an organisation have; None until it has cards."""
        self._wanted.add(org)
        return self._classifiers.get(org)

    def skills_of(self, ref: Ref, vector: Floats) -> Sequence[Skill]:
        """The skills of one tool, the surest first, as far as is known without asking anybody."""
        if (assigned := self._assigned.get(ref)) is not None:
            return assigned
        cards = self.of(ref.org)
        return cards.skills_of(vector[np.newaxis])[0] if cards is not None else ()

    async def run(self) -> NoReturn:
        """Keep the cards of every organisation that was asked for, until cancelled."""
        while True:
            if self._is_usable():
                try:
                    await self.look()
                except (StorageError, EmbeddingError) as error:
                    log.info("skills.not_read", code=error.code)
                self.looked.set()
            if self.looked.is_set():
                await asyncio.sleep(LOOK if self._cards else AGAIN)
            else:
                await asyncio.sleep(FIRST_LOOK)

    async def look(self) -> None:
        """Read the cards, and embed those that are new. Raises `StorageError`, `EmbeddingError`."""
        had_cards, changed = bool(self._cards), False
        for org in tuple(self._wanted):
            rows = await self._skills.list_effective(org)
            if rows != self._rows.get(org):
                await self._take(org, rows)
                changed = True
        if await self.look_at_tools() or changed:
            self._tell(had_cards and changed)

    async def look_at_tools(self) -> bool:
        """Read what a model has said of tools; return whether that was news."""
        if self._make_classifier is None:
            return False
        assigned: defaultdict[Ref, list[Skill]] = defaultdict(list)
        for row in await self._everything.tool_skills():
            ref = Ref(row.org, "tools", row.server, row.own_name)
            assigned[ref].append(Skill(row.skill, row.confidence))
        is_news, self._assigned = assigned != self._assigned, assigned
        return is_news

    async def learned(self) -> None:
        """A model has said something of tools. Raises `StorageError`."""
        if await self.look_at_tools():
            self._tell(False)

    async def _take(self, org: Org, rows: Sequence[SkillRow]) -> None:
        cards = await SkillCards.embed(rows, self._embedding)
        offline = OfflineClassifier(cards)
        make = self._make_classifier
        self._classifiers[org] = make(rows, offline) if make is not None else offline
        self._cards[org], self._rows[org] = cards, rows

    def _tell(self, must_classify: bool) -> None:
        if self.on_change is not None:
            self.on_change(must_classify)

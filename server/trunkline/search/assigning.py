"""
The skills of tools, kept as rows: an errand of the outbox for every tool that is new or changed.

The index of a process can tell skills by itself. Rows are for those who look at the catalog from
outside, and for what a language model says, which nobody wants to pay for twice.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import structlog

from trunkline.errors import EmbeddingError
from trunkline.search.cards import CardShelf
from trunkline.search.findables import findables
from trunkline.search.points import Findable
from trunkline.search.skills import Skill, primary_of
from trunkline.search.vectors import Vectors
from trunkline.storage.pool import Database
from trunkline.storage.repositories.everything import Everything
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.rows import AssignmentRow, Errand, Org

log = structlog.get_logger(__name__)


class SkillDelivery:
    """Classifies the tools that errands are about."""

    def __init__(self, database: Database, vectors: Vectors, cards: CardShelf) -> None:
        self._everything = Everything(database)
        self._skills = SkillRepository(database)
        self._vectors, self._cards = vectors, cards

    async def deliver(self, errands: Sequence[Errand]) -> None:
        """
        Keep the skills of these tools. Raises `StorageError`.

        A tool that cannot be classified now is found all the same, and classified when it changes,
        or its cards do.
        """
        ids = [errand.item_id for errand in errands if errand.kind == "tools"]
        rows = await self._everything.items("tools", ids) if ids else []
        servers = await self._everything.servers({row.server_id for row in rows}) if rows else []
        by_org: defaultdict[Org, list[Findable]] = defaultdict(list)
        for item in findables("tools", rows, servers):
            by_org[item.ref.org].append(item)
        for org, items in by_org.items():
            await self._classify(org, items)
        if by_org:
            await self._cards.learned()

    async def _classify(self, org: Org, items: Sequence[Findable]) -> None:
        classifier, ids = self._cards.classifier(org), self._cards.ids(org)
        if classifier is None:
            return  # its cards are read in a moment, and then all tools are looked at
        texts = [item.text.dense for item in items]
        try:
            skills = await classifier.classify(texts, await self._vectors.of(texts))
        except EmbeddingError as error:
            log.info("skills.not_assigned", tools=len(items), code=error.code)
            return
        tools = [item.ref.db_id for item in items]
        assignments = [
            row
            for tool, found in zip(tools, skills, strict=True)
            for row in _rows(tool, found, ids)
        ]
        await self._skills.classify(org, [tool for tool in tools if tool is not None], assignments)


def _rows(tool: int | None, skills: Sequence[Skill], ids: Mapping[str, int]) -> list[AssignmentRow]:
    primary = primary_of(skills)
    return [
        AssignmentRow(tool, ids[skill.name], skill.confidence, skill is primary)
        for skill in skills
        if tool is not None and skill.name in ids
    ]

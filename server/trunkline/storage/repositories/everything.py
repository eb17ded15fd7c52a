"""
What the process itself reads, whosever it is: to fill an index, and to classify tools.

No request comes here. Whoever answers one asks the other repositories, which ask for whom.
"""

from collections.abc import Collection, Sequence

from trunkline.models import Kind
from trunkline.storage.pool import Source
from trunkline.storage.queries import load, load_for
from trunkline.storage.rows import ItemRow, ServerRow, ToolSkillRow, from_text

_SERVERS = load("servers.sql")
_SKILLS = load("skills.sql")


class Everything:
    """The rows of every organisation, without those that are hidden."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def items(self, kind: Kind, ids: Sequence[int]) -> list[ItemRow]:
        """The items of these ids, in their order."""
        rows = await self._pool.fetch(load_for(kind)["read"], ids)
        return [ItemRow.of(row) for row in rows]

    async def page(self, kind: Kind, after: int, limit: int) -> list[ItemRow]:
        """The next items whose ids are higher than *after*."""
        rows = await self._pool.fetch(load_for(kind)["page"], after, limit)
        return [ItemRow.of(row) for row in rows]

    async def highest(self, kind: Kind) -> int:
        """The highest id of a kind; 0 if there is none."""
        return await self._pool.fetchval(load_for(kind)["highest"])

    async def count(self, kind: Kind) -> int:
        """How many items of a kind there are."""
        return await self._pool.fetchval(load_for(kind)["count_all"])

    async def servers(self, ids: Collection[int]) -> list[ServerRow]:
        """The servers of these ids."""
        rows = await self._pool.fetch(_SERVERS["read"], list(ids))
        return [ServerRow.of(row) for row in rows]

    async def tool_skills(self) -> list[ToolSkillRow]:
        """What every scope says of its own tools, the surest first."""
        rows = await self._pool.fetch(_SKILLS["assigned"])
        return [
            ToolSkillRow(
                row["org_id"],
                from_text(row["server"]),
                from_text(row["own_name"]),
                from_text(row["skill"]),
                row["confidence"],
            )
            for row in rows
        ]

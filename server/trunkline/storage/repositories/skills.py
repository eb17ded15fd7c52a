"""
Skills, and which tools belong to them.

An organisation sees its own skills and the global ones, and changes its own.
"""

from collections.abc import Sequence

from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.repositories.putting import put
from trunkline.storage.rows import (
    AssignmentRow,
    Org,
    SkillRow,
    to_name,
    to_text,
)

_STATEMENTS = load("skills.sql")


class SkillRepository:
    """Skills and assignments."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def put(
        self,
        org: Org,
        name: str,
        description: str,
        *,
        group: str = "",
        keywords: Sequence[str] = (),
    ) -> int:
        """
        The id of the skill of that name in this scope, made or given another card if need be.

        Raises `OrgNotFound`, `NotStorable`, and `SyncConflict` if others keep putting the same one.
        """
        words = [to_text(word) for word in keywords]
        values = (org, to_name(name), to_text(description), to_text(group), words)
        return (await put(self._pool, _STATEMENTS["put"], *values))["id"]

    async def list_visible(self, org: Org) -> list[SkillRow]:
        """The skills an organisation may see, by name."""
        rows = await self._pool.fetch(_STATEMENTS["list_visible"], org)
        return [SkillRow.of(row) for row in rows]

    async def list_effective(self, org: Org) -> list[SkillRow]:
        """The skills that hold for an organisation, by name: its own stand before global ones."""
        rows = await self._pool.fetch(_STATEMENTS["list_effective"], org)
        return [SkillRow.of(row) for row in rows]

    async def delete(self, org: Org, skill_id: int) -> list[int]:
        """Delete a skill of this scope; return the ids of the tools that were in it."""
        rows = await self._pool.fetch(_STATEMENTS["delete"], org, skill_id)
        return [row["tool_id"] for row in rows]

    async def assign(
        self, org: Org, skill_id: int, assignments: Sequence[AssignmentRow]
    ) -> list[int]:
        """
        Put tools into a skill of this scope; return the ids of those that are in it now.

        Tools the organisation may not see are left out. A tool's primary skill is the last one
        that was said to be.
        """
        tools = [one.tool_id for one in assignments]
        primary = [one.tool_id for one in assignments if one.is_primary]
        confidence = [one.confidence for one in assignments]
        marks = [one.is_primary for one in assignments]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_STATEMENTS["lock_scope"], org)
            await connection.execute(_STATEMENTS["yield_primary"], org, skill_id, primary)
            rows = await connection.fetch(
                _STATEMENTS["assign"], org, skill_id, tools, confidence, marks
            )
        return [row["tool_id"] for row in rows]

    async def classify(
        self, org: Org, tool_ids: Sequence[int], assignments: Sequence[AssignmentRow]
    ) -> int:
        """
        Make *assignments* all that this scope says of these tools of its own; return how many.

        The skills may be its own or global ones. What another organisation has, or what is hidden,
        is left out.
        """
        columns = zip(
            *((one.tool_id, one.skill_id, one.confidence, one.is_primary) for one in assignments),
            strict=True,
        )
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_STATEMENTS["lock_scope"], org)
            await connection.execute(_STATEMENTS["clear"], org, tool_ids)
            if not assignments:
                return 0
            return await connection.fetchval(_STATEMENTS["classify"], org, *columns)

    async def of_tools(self, org: Org, tool_ids: Sequence[int]) -> list[AssignmentRow]:
        """The skills of these tools that an organisation may see, the surest first."""
        rows = await self._pool.fetch(_STATEMENTS["of_tools"], org, tool_ids)
        return [AssignmentRow(**row) for row in rows]

"""
Skills, and which tools belong to them.

An organisation sees its own skills and the global ones, and changes its own.
"""

from collections.abc import Sequence

import asyncpg

from trunkline.storage.queries import load
from trunkline.storage.repositories.putting import put
from trunkline.storage.rows import AssignmentRow, Org, SkillRow, from_text, to_text

_STATEMENTS = load("skills.sql")


class SkillRepository:
    """Skills and assignments."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def put(self, org: Org, name: str, description: str) -> int:
        """
        The id of the skill of that name in this scope, made or described anew if need be.

        Raises `OrgNotFound`, and `SyncConflict` if others keep putting the same one.
        """
        values = (org, to_text(name), to_text(description))
        return (await put(self._pool, _STATEMENTS["put"], *values))["id"]

    async def list_visible(self, org: Org) -> list[SkillRow]:
        """The skills an organisation may see, by name."""
        rows = await self._pool.fetch(_STATEMENTS["list_visible"], org)
        return [
            SkillRow(
                row["id"], row["org_id"], from_text(row["name"]), from_text(row["description"])
            )
            for row in rows
        ]

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

    async def of_tools(self, org: Org, tool_ids: Sequence[int]) -> list[AssignmentRow]:
        """The skills of these tools that an organisation may see, the surest first."""
        rows = await self._pool.fetch(_STATEMENTS["of_tools"], org, tool_ids)
        return [AssignmentRow(**row) for row in rows]

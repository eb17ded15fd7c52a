"""
How tools do, by the organisation that called them: sums that are only ever added to.
"""

from collections.abc import Mapping, Sequence

from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.rows import Calls, Org

_STATEMENTS = load("statistics.sql")


class StatisticsRepository:
    """Calls, errors and how long they took, tool by tool."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def record(self, org: Org, calls: Mapping[int, Calls]) -> None:
        """Add calls by clients of *org*, by tool id. Tools it may not see are passed over."""
        await self._pool.execute(
            _STATEMENTS["record"],
            org,
            list(calls),
            [one.count for one in calls.values()],
            [one.errors for one in calls.values()],
            [one.seconds for one in calls.values()],
            ["{" + ",".join(str(number) for number in one.buckets) + "}" for one in calls.values()],
        )

    async def of_tools(self, org: Org, tool_ids: Sequence[int]) -> dict[int, Calls]:
        """What clients of *org* called of these tools, by tool id."""
        rows = await self._pool.fetch(_STATEMENTS["of_tools"], org, tool_ids)
        return {
            row["tool_id"]: Calls(
                row["calls"], row["errors"], row["seconds"], row["buckets"], row["last_used"]
            )
            for row in rows
        }

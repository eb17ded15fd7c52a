"""
Where the way down has left the data: a table `mcp.*_backup_NNNN` for each that it took away.

The way up takes them up again. Nothing else reads or removes them.
"""

from collections.abc import Collection
from dataclasses import dataclass

from trunkline.storage.rows import Connection


@dataclass(frozen=True, slots=True)
class Backup:
    """One table that the way down has kept."""

    table: str
    rows: int


async def list_backups(connection: Connection, versions: Collection[int]) -> list[Backup]:
    """What is kept of the migrations with these *versions*, in the order of the tables' names."""
    names = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'mcp' AND tablename ~ $1 ORDER BY 1",
        f"_backup_({'|'.join(f'{version:04}' for version in versions)})$",
    )
    return [await _count(connection, name) for (name,) in names]


async def _count(connection: Connection, name: str) -> Backup:
    rows = await connection.fetchval(f'SELECT count(*) FROM mcp."{name}"')  # noqa: S608 - a table's own name
    return Backup(f"mcp.{name}", rows)

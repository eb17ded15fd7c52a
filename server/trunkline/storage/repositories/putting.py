"""
Putting a row that may be there: the statement looks first, so that no id is drawn for nothing.

Two that look at once both see nothing, and one of them breaks the unique index. It looks again,
and then the row is there to see.
"""

from typing import Any, Final

import asyncpg

from trunkline.errors import OrgNotFound, SyncConflict
from trunkline.storage.pool import Source
from trunkline.storage.rows import Org

ATTEMPTS: Final = 3


async def put(pool: Source, statement: str, org: Org, name: str, *values: Any) -> Any:
    """Run a `put` statement and return its row. Raises `OrgNotFound` or `SyncConflict`."""
    for _ in range(ATTEMPTS):
        try:
            return await pool.fetchrow(statement, org, name, *values)
        except asyncpg.UniqueViolationError:
            continue
        except asyncpg.ForeignKeyViolationError as error:
            raise OrgNotFound(org) from error
    raise SyncConflict(f"{name!r} kept being changed by others. Try again.")

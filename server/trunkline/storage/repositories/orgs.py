"""
Organisations: the tenants that everything else is scoped by.

These are the process's own questions. Whoever lets a request come here has decided that it may.
"""

from uuid import UUID

from trunkline.errors import OrgNotFound
from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.rows import from_text, to_name, to_text

_STATEMENTS = load("orgs.sql")


class OrgRepository:
    """The organisations there are."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def put(self, name: str) -> UUID:
        """The id of the organisation of that name, made if need be. Raises `NotStorable`."""
        return await self._pool.fetchval(_STATEMENTS["put"], to_name(name))

    async def find(self, name: str) -> UUID:
        """The id of the organisation of that name. Raises `OrgNotFound`."""
        found: UUID | None = await self._pool.fetchval(_STATEMENTS["find"], to_text(name))
        if found is None:
            raise OrgNotFound(name)
        return found

    async def list_all(self) -> dict[str, UUID]:
        """Every organisation, by name."""
        rows = await self._pool.fetch(_STATEMENTS["list_all"])
        return {from_text(row["name"]): row["id"] for row in rows}

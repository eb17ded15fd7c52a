"""
Servers, as they are kept: those of mcp.json, and those that administrators added.
"""

from trunkline.models import Json
from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.repositories.putting import put
from trunkline.storage.rows import Org, Origin, ServerRow, to_json, to_name, to_text

_STATEMENTS = load("servers.sql")


class ServerRepository:
    """Servers by scope and name."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def put(
        self, org: Org, name: str, *, origin: Origin, config: Json, position: int = 0
    ) -> ServerRow:
        """
        Keep a server under a name. The same again writes nothing; a deleted one is back as it was.

        A name that an administrator gave keeps its row as it was added, whatever a file or a plugin
        puts there: look at the `origin` of what is returned.
        Raises `OrgNotFound`, `NotStorable`, and `SyncConflict` if others keep putting the same one.
        """
        values = (origin, to_json(config), position)
        return ServerRow.of(await put(self._pool, _STATEMENTS["put"], org, to_name(name), *values))

    async def describe(self, org: Org, server_id: int, about: Json) -> bool:
        """Keep what a server of this scope says of itself; return whether that was news."""
        text = to_json(about)
        return await self._pool.fetchval(_STATEMENTS["describe"], org, server_id, text) is not None

    async def list_visible(self, org: Org) -> list[ServerRow]:
        """The servers an organisation may see, in their order."""
        rows = await self._pool.fetch(_STATEMENTS["list_visible"], org)
        return [ServerRow.of(row) for row in rows]

    async def list_scope(self, org: Org) -> list[ServerRow]:
        """The servers of this scope alone, in their order."""
        rows = await self._pool.fetch(_STATEMENTS["list_scope"], org)
        return [ServerRow.of(row) for row in rows]

    async def of_id(self, org: Org, server_id: int) -> ServerRow | None:
        """A server of this scope; None if there is none, or it is hidden."""
        row = await self._pool.fetchrow(_STATEMENTS["of_id"], org, server_id)
        return None if row is None or row["hidden"] else ServerRow.of(row)

    async def find(self, org: Org, name: str) -> ServerRow | None:
        """The server an organisation means by a name; None if it may see none."""
        row = await self._pool.fetchrow(_STATEMENTS["find"], org, to_text(name))
        return ServerRow.of(row) if row is not None else None

    async def hide(self, org: Org, server_id: int) -> bool:
        """
        Delete a server of this scope with all of its items; return whether it was there.

        They are gone for everybody at once; the items' rows go when the index has let go of them.
        The server's own row stays, so that it can come back as what it was.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_STATEMENTS["lock"], org, server_id)
            return await connection.fetchval(_STATEMENTS["hide"], org, server_id) is not None

"""
What is stored of the catalog, read and written in the words of the catalog.

Rows are scoped by organisation ids; everything in this process knows organisations by name. This is
where one becomes the other.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trunkline.catalog.listed import listing_of
from trunkline.errors import OrgNotFound
from trunkline.models import KINDS, Kind, Listing
from trunkline.storage import migrations
from trunkline.storage.pool import Database
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.listings import Listed, ListingRepository, Stored
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.rows import Item, ItemRow, Org, ServerRow


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of a server's listing."""

    fingerprint: str
    """Of the configuration that it was listed under."""

    listing: Listing
    """Compared by identity: a provider that has this very object has it from here."""

    server_id: int
    items: Mapping[Kind, Sequence[Item]]
    """What the rows are."""


class Records:
    """The rows of every organisation. Every method raises `StorageError`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._servers, self._listings = ServerRepository(database), ListingRepository(database)
        self._items = {kind: ItemRepository(database, kind) for kind in KINDS}
        self._orgs: dict[str | None, Org] = {None: None}

    async def migrate(self) -> None:
        """Bring the schema to where it has to be. Raises `MigrationError`."""
        async with self._database.acquire() as connection:
            await migrations.up(connection)

    # -- organisations ------------------------------------------------------------------------

    def scope(self, org: str | None) -> Org:
        """The id of an organisation that was there when last looked. Raises `OrgNotFound`."""
        if org not in self._orgs:
            raise OrgNotFound(org)
        return self._orgs[org]

    def name(self, org: Org) -> str | None:
        """The name of an organisation's id."""
        return next((name for name, one in self._orgs.items() if one == org), None)

    async def scope_made(self, org: str | None) -> Org:
        """The id of an organisation, which is made if mcp.json is the first to name it."""
        if org is not None and org not in self._orgs:
            self._orgs[org] = await OrgRepository(self._database).put(org)
        return self._orgs[org]

    # -- reading ------------------------------------------------------------------------------

    async def servers(self) -> list[ServerRow]:
        """The servers of every organisation, and the global ones."""
        self._orgs = {None: None, **await OrgRepository(self._database).list_all()}
        return [row for org in self._orgs.values() for row in await self._servers.list_scope(org)]

    async def listings(self, rows: Iterable[ServerRow]) -> dict[tuple[Org, str], Kept]:
        """What these servers listed when they were last seen, by scope and name."""
        listed = [row for row in rows if row.about]
        items: defaultdict[int, dict[Kind, list[ItemRow]]] = defaultdict(dict)
        for org in {row.org for row in listed}:
            for kind in KINDS:
                for item in await self._items[kind].list_visible(org):
                    items[item.server_id].setdefault(kind, []).append(item)
        return {(row.org, row.name): _kept(row, items[row.id]) for row in listed}

    async def tool_ids(self, org: Org, server_id: int) -> Mapping[str, int]:
        """The ids of a server's tools by its own names."""
        return await self._items["tools"].ids(org, server_id)

    # -- writing ------------------------------------------------------------------------------

    async def sync(self, org: Org, listed: Listed) -> Stored:
        """Make *listed* what is stored of its server, in one transaction with the outbox."""
        return await self._listings.sync(org, listed)

    async def hide(self, org: Org, server_id: int) -> None:
        """Delete a server and all of its items, for everybody at once."""
        await self._servers.hide(org, server_id)


def _kept(row: ServerRow, items: Mapping[Kind, Iterable[ItemRow]]) -> Kept:
    rows: dict[Kind, tuple[ItemRow, ...]] = {kind: tuple(items.get(kind, ())) for kind in KINDS}
    return Kept(
        str(row.about.get("fingerprint")),
        listing_of(row.about, rows),
        row.id,
        {
            kind: tuple(Item(one.own_name, one.name, one.definition) for one in rows[kind])
            for kind in KINDS
        },
    )

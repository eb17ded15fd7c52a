"""
The catalog and its rows, each following the other.

What providers list is stored before it is served; what was stored is served until they have
answered; what other processes store is followed. One task does all of it, so nothing here crosses
with itself.

    put ─> draft ─> ONE transaction (rows + outbox) ─> publish
    start, reconnection ─> migrate ─> load ─> servers that were added, lists as last seen
    NOTIFY of another process ─> read ─> servers that were added; ask the server, or recall its list

While the database is away, drafts are published unstored, and stored when it is back. A database
that is slow holds a draft up for `PATIENCE` and no longer.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from trunkline.catalog.catalog import Catalog
from trunkline.catalog.listed import about, items_of, listing_of
from trunkline.catalog.offer import Offer
from trunkline.catalog.snapshot import Snapshot
from trunkline.downstream.config import ServerConfig
from trunkline.errors import (
    MigrationEdited,
    OrgNotFound,
    SchemaTooNew,
    StorageError,
    StorageUnavailable,
)
from trunkline.models import KINDS, Kind, Listing
from trunkline.providers.downstream import DownstreamProvider
from trunkline.providers.servers import Servers
from trunkline.storage import migrations
from trunkline.storage.pool import Database
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.listings import Listed, ListingRepository
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.rows import ItemRow, Org, ServerRow

log = structlog.get_logger(__name__)

CHANNEL: Final = "mcp_catalog"

PATIENCE: Final = 2.0
"""Seconds a draft waits to be stored before it is served all the same."""

AGAIN: Final = 5.0
"""Seconds after which what could not be stored is tried again, while the database is there."""

FATAL: Final = (SchemaTooNew, MigrationEdited)
"""A database that this program must not touch."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of a server's listing."""

    fingerprint: str
    """Of the configuration that it was listed under."""

    listing: Listing
    """Compared by identity: a provider that has this very object has it from here."""

    server_id: int


class Registry:
    """Keeps a catalog and a database in step. `run` is to be running for the rest to work."""

    def __init__(
        self, catalog: Catalog, servers: Servers, database: Database, opened: asyncio.Event
    ) -> None:
        """*opened* is set once what was stored is being served, or cannot be."""
        self._opened = opened
        self.trouble: StorageError | None = None
        """Why changes are not being stored now; None while they are."""

        self._catalog, self._servers, self._database = catalog, servers, database
        self._source = str(servers.path.absolute())
        self._listings = ListingRepository(database)
        self._rows = ServerRepository(database)
        self._items = {kind: ItemRepository(database, kind) for kind in KINDS}
        self._orgs: dict[str | None, Org] = {None: None}
        """Organisations by name."""

        self._kept: dict[tuple[Org, str], Kept] = {}
        """By scope and name."""

        self._stored: dict[str, tuple[Org, Listed, int]] = {}
        """What is stored of a server that is served here: its scope, its part, its row's id."""

        self._heard: defaultdict[int, set[str]] = defaultdict(set)
        """What others have changed: a server's id, and `servers` or the kinds of its items."""

        self._usable = asyncio.Event()
        """Set while the database is there, with a schema that is as it has to be."""

        self._must_open = False
        self._is_dirty = True
        """Whether something was drafted, or forgotten, that is not stored."""

        self._is_late = False
        """Whether the database has taken more than our patience over a draft."""

        self._wake = asyncio.Event()
        catalog.on_draft = self._drafted

    def known(self, config: ServerConfig) -> Listing | None:
        """What a server listed when it was last seen, if it is still configured the same."""
        kept = self._kept_of(config)
        return kept.listing if kept is not None else None

    async def tool_ids(self, server: str) -> dict[str, int]:
        """The ids of a server's tools by its own names; none while it is not stored."""
        if server not in self._stored:
            return {}
        org, _, server_id = self._stored[server]
        return await self._items["tools"].ids(org, server_id)

    def is_usable(self) -> bool:
        """Whether the database is there, with a schema that is as it has to be."""
        return self._usable.is_set()

    @property
    def is_behind(self) -> bool:
        """Whether something was listed that is not served yet."""
        return self._catalog.has_draft

    def scope_of(self, org: str | None) -> Org:
        """The organisation of that name, as rows have it. Raises `OrgNotFound`."""
        if org not in self._orgs:
            raise OrgNotFound(org)
        return self._orgs[org]

    async def wait_usable(self, seconds: float) -> None:
        """
        Return when the database is there and its schema is as it has to be.

        Raises the `StorageError` that is in the way after so many *seconds*.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._usable.wait()
        except TimeoutError:
            trouble = self.trouble or self._database.reason
            raise trouble or StorageUnavailable(
                "The database is being brought up to date. Try again in a moment."
            ) from None

    async def refresh(self) -> None:
        """Follow what this process itself has changed of the servers. Raises `StorageError`."""
        self._take_added(await self._all_servers())

    def forget(self, name: str) -> None:
        """The row of a server was hidden: whoever has its name here is to be stored anew."""
        self._stored.pop(name, None)
        self._drafted()

    async def run(self) -> None:
        """
        Keep in step until cancelled.

        Raises `SchemaTooNew` and `MigrationEdited`: a database that this program must not touch.
        """
        listening = self._database.listening(CHANNEL, on_message=self._hear, on_start=self._reopen)
        with listening, self._database.notifying(self._turned):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tidy_plugins())
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._turn()

    # -- events -------------------------------------------------------------------------------

    def _drafted(self) -> None:
        self._is_dirty = True
        self._wake.set()
        if self._is_late or not self._usable.is_set():
            self._catalog.publish(self._catalog.draft())

    def _hear(self, payload: str) -> None:
        said = json.loads(payload)
        if said.get("by") != self._database.name:
            self._heard[said["server"]].add(said["kind"])
            self._wake.set()

    def _reopen(self) -> None:
        """Listening has begun: what was notified until now was not heard."""
        self._must_open = True
        self._wake.set()

    def _turned(self, is_available: bool) -> None:
        if not is_available:
            self._close(self._database.reason)

    def _close(self, trouble: StorageError | None) -> None:
        """Serve what there is, stored or not."""
        self._usable.clear()
        self.trouble = trouble
        if self._catalog.has_draft:
            self._catalog.publish(self._catalog.draft())

    # -- turns --------------------------------------------------------------------------------

    async def _turn(self) -> None:
        try:
            if self._must_open:
                self._must_open = False
                await self._open()
            if self._usable.is_set():
                await self._follow()
                if self._is_dirty:
                    await self._store_and_publish()
                self._opened.set()
        except FATAL:
            raise
        except StorageError as error:
            if self.trouble is None or self.trouble.code != error.code:
                log.warning("registry.not_stored", code=error.code, reason=str(error))
            self._try_again(error)
        except Exception as error:  # what is served must not end with what keeps it
            log.exception("registry.crashed")
            reason = StorageError("The catalog could not be stored. The log has the reason.")
            reason.__cause__ = error
            self._try_again(reason)

    def _try_again(self, error: StorageError) -> None:
        self._must_open = self._is_dirty = True
        self._close(error)
        self._opened.set()
        asyncio.get_running_loop().call_later(AGAIN, self._wake.set)

    async def _open(self) -> None:
        """Bring the schema up to date, and everything that is stored into the catalog."""
        async with self._database.acquire() as connection:
            await migrations.up(connection)
        rows = await self._all_servers()
        before, self._kept = self._kept, await self._listings_of(rows)
        self._stored.clear()
        self._usable.set()
        self._is_dirty, self.trouble = True, None
        self._take_added(rows)
        recalled = {id(kept.listing) for kept in before.values()}
        for provider in self._servers.roster.providers:
            if provider.listing is None or id(provider.listing) in recalled:
                self._recall(provider)
        await self._tidy(rows)

    async def _follow(self) -> None:
        """Take what other processes have stored."""
        heard, self._heard = self._heard, defaultdict(set)
        if not heard:
            return
        rows = await self._all_servers()
        relisted = [row for row in rows if heard.get(row.id, set()) - {"servers"}]
        self._kept.update(await self._listings_of(relisted))
        self._take_added(rows)
        for row in relisted:
            provider = self._servers.provider(row.name)
            if provider is not None and self._kept_of(provider.config) is not None:
                if provider.is_connected:
                    # It may be another child, with a state of its own: it is asked itself.
                    provider.relist()
                else:
                    self._recall(provider)
        there = {row.id for row in rows}
        for name, (_, _, server_id) in list(self._stored.items()):
            if server_id in heard and server_id not in there:
                # Hidden by a process that does not have it; one that has it shows it again.
                del self._stored[name]
                self._is_dirty = True

    def _recall(self, provider: DownstreamProvider) -> None:
        kept = self._kept_of(provider.config)
        if kept is not None and not provider.config.disabled:
            provider.recall(kept.listing)

    def _kept_of(self, config: ServerConfig) -> Kept | None:
        """What is stored of a server, if it was listed under this configuration."""
        if config.transport == "memory" or config.org not in self._orgs:
            return None
        kept = self._kept.get((self._orgs[config.org], config.name))
        return kept if kept is not None and kept.fingerprint == config.fingerprint else None

    # -- reading ------------------------------------------------------------------------------

    async def _all_servers(self) -> list[ServerRow]:
        """The servers of every scope."""
        self._orgs = {None: None, **await OrgRepository(self._database).list_all()}
        return [row for org in self._orgs.values() for row in await self._rows.list_scope(org)]

    async def _listings_of(self, rows: Iterable[ServerRow]) -> dict[tuple[Org, str], Kept]:
        """What these servers listed when they were last seen."""
        listed = [row for row in rows if row.about]
        items: defaultdict[int, dict[Kind, list[ItemRow]]] = defaultdict(dict)
        for org in {row.org for row in listed}:
            for kind in KINDS:
                for item in await self._items[kind].list_visible(org):
                    items[item.server_id].setdefault(kind, []).append(item)
        return {
            (row.org, row.name): Kept(
                str(row.about.get("fingerprint")), listing_of(row.about, items[row.id]), row.id
            )
            for row in listed
        }

    def _take_added(self, rows: Iterable[ServerRow]) -> None:
        names = {org: name for name, org in self._orgs.items()}
        self._servers.take_added([(row, names.get(row.org)) for row in rows if row.origin == "api"])

    # -- storing ------------------------------------------------------------------------------

    async def _store_and_publish(self) -> None:
        self._is_dirty = False
        draft = self._catalog.draft()
        failures: list[Exception] = []

        async def store() -> None:
            try:
                await self._store(draft)
            except Exception as error:  # noqa: BLE001 - raised below, when the draft is served
                failures.append(error)

        try:
            async with asyncio.TaskGroup() as tasks:
                storing = tasks.create_task(store())
                await asyncio.wait({storing}, timeout=PATIENCE)
                self._is_late = not storing.done()
                self._catalog.publish(draft)
        finally:
            self._is_late = False
        if failures:
            raise failures[0]

    async def _store(self, draft: Snapshot) -> None:
        """Make the rows what the draft is; what is as it was is not looked at."""
        there = {offer.provider for offer in draft.offers}
        for name in self._stored.keys() - there:
            await self._withdraw(name)
        crowded = [offer for offer in draft.offers if await self._put(draft, offer)]
        for offer in crowded:
            # The names it wanted may have been given up meanwhile by one that came later.
            self._stored.pop(offer.provider, None)
            await self._put(draft, offer, is_last=True)

    async def _put(self, draft: Snapshot, offer: Offer, *, is_last: bool = False) -> bool:
        """Store one provider's part. True if something had to be left out."""
        name, provider = offer.provider, self._servers.provider(offer.provider)
        origin = self._servers.origin(name)
        if provider is None or origin is None or provider.listing is None:
            return False  # it has just left
        listing, config = provider.listing, provider.config
        listed = self._listed(draft, offer, provider)
        if (before := self._stored.get(name)) is not None and before[1] == listed:
            return False
        org = await self._scope(offer.org)
        if (kept := self._kept_of(config)) is not None and kept.listing is listing:
            self._stored[name] = (org, listed, kept.server_id)  # that is where it came from
            return False
        try:
            stored = await self._listings.sync(org, listed)
        except ValueError as error:  # no JSON: a plugin in this process can make such a thing
            log.warning("registry.left_out", server=name, reason=str(error))
            return False
        self._stored[name] = (org, listed, stored.server.id)
        # A copy, for this provider's own listing is not from here.
        self._kept[org, name] = Kept(config.fingerprint, replace(listing), stored.server.id)
        if stored.left_out and is_last:
            own, why = next(iter(stored.left_out.items()))
            log.warning(
                "registry.left_out", server=name, items=len(stored.left_out), first=own, reason=why
            )
        return bool(stored.left_out)

    def _listed(self, draft: Snapshot, offer: Offer, provider: DownstreamProvider) -> Listed:
        """A provider's part of a draft, as it is stored."""
        origin = self._servers.origin(offer.provider)
        assert origin is not None
        assert provider.listing is not None
        row = self._servers.added[offer.provider].row if origin == "api" else None
        return Listed(
            name=offer.provider,
            origin=origin,
            config=row.config if row is not None else {"source": self._source},
            position=row.position if row is not None else offer.position,
            about=about(provider.listing, provider.config.fingerprint),
            items=items_of(draft, offer),
        )

    async def _scope(self, org: str | None) -> Org:
        """The organisation of a name; one that mcp.json is the first to name is made."""
        if org not in self._orgs:
            assert org is not None
            self._orgs[org] = await OrgRepository(self._database).put(org)
        return self._orgs[org]

    async def _withdraw(self, name: str) -> None:
        """Hide what a server had, and the server itself unless an administrator keeps it."""
        org, listed, server_id = self._stored[name]
        if listed.origin != "api":
            await self._rows.hide(org, server_id)
        elif name in self._servers.added:
            await self._listings.sync(org, replace(listed, items={}))
        del self._stored[name]

    # -- what nobody has any more -------------------------------------------------------------

    async def _tidy(self, rows: Iterable[ServerRow]) -> None:
        """Hide what the mcp.json of this process had when it ran before, and has no more."""
        if not self._servers.file.is_readable:
            return
        there = {config.name for config in self._servers.file.servers if not config.disabled}
        for row in rows:
            if row.origin == "file" and self._is_ours(row) and row.name not in there:
                await self._rows.hide(row.org, row.id)

    async def _tidy_plugins(self) -> None:
        """The same for plugins, once it is known which there are."""
        await self._servers.plugins.settled.wait()
        await self._opened.wait()
        try:
            for row in await self._all_servers():
                gone = row.name not in self._servers.roster.plugins()
                if row.origin == "plugin" and self._is_ours(row) and gone:
                    await self._rows.hide(row.org, row.id)
        except StorageError as error:
            log.info("registry.not_tidied", code=error.code)

    def _is_ours(self, row: ServerRow) -> bool:
        return row.config.get("source") == self._source

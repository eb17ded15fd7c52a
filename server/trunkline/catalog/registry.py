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
from collections.abc import Iterable, Mapping
from typing import Final

import structlog

from trunkline.catalog.catalog import Catalog
from trunkline.catalog.records import Records
from trunkline.catalog.storing import Storing
from trunkline.downstream.config import ServerConfig
from trunkline.errors import (
    MigrationEdited,
    SchemaTooNew,
    StorageError,
    StorageUnavailable,
)
from trunkline.models import Listing, ProviderId
from trunkline.providers.downstream import DownstreamProvider
from trunkline.providers.servers import Servers
from trunkline.storage.pool import Database
from trunkline.storage.rows import Org, ServerRow

log = structlog.get_logger(__name__)

CHANNEL: Final = "mcp_catalog"

PATIENCE: Final = 2.0
"""Seconds a draft waits to be stored before it is served all the same."""

AGAIN: Final = 5.0
"""Seconds after which what could not be stored is tried again, while the database is there."""

FATAL: Final = (SchemaTooNew, MigrationEdited)
"""A database that this program must not touch."""


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
        self._records = Records(database)
        self._storing = Storing(servers, self._records, self._source)
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
        kept = self._storing.kept_of(config)
        return kept.listing if kept is not None else None

    def scope_of(self, org: str | None) -> Org:
        """The organisation of that name, as rows have it. Raises `OrgNotFound`."""
        return self._records.scope(org)

    async def scope_made(self, org: str | None) -> Org:
        """The same, made if it is the first time that it has anything. Raises `StorageError`."""
        return await self._records.scope_made(org)

    async def tool_ids(self, server: ProviderId) -> Mapping[str, int]:
        """The ids of a server's tools by its own names; none while it is not stored."""
        return await self._storing.tool_ids(server)

    def is_usable(self) -> bool:
        """Whether the database is there, with a schema that is as it has to be."""
        return self._usable.is_set()

    @property
    def is_behind(self) -> bool:
        """Whether something was listed that is not served yet."""
        return self._catalog.has_draft

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
        self._take_added(await self._records.servers())

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
        await self._records.migrate()
        rows = await self._records.servers()
        self._storing.begin(await self._records.listings(rows))
        self._usable.set()
        self._is_dirty, self.trouble = True, None
        self._take_added(rows)
        for provider in self._servers.roster.providers:
            if not provider.is_heard:
                self._learn(provider)
        await self._tidy(rows)

    def _learn(self, provider: DownstreamProvider) -> None:
        """Have a provider offer what is stored of it, unless it can be asked itself."""
        kept = self._storing.kept_of(provider.config)
        if kept is None or provider.config.disabled:
            return
        if provider.is_connected:
            # Over stdio it may be another child than the one it was stored for.
            provider.relist()
        else:
            provider.recall(kept.listing)

    async def _follow(self) -> None:
        """Take what other processes have stored."""
        heard, self._heard = self._heard, defaultdict(set)
        if not heard:
            return
        rows = await self._records.servers()
        relisted = [row for row in rows if heard.get(row.id, set()) - {"servers"}]
        self._storing.follow(await self._records.listings(relisted))
        self._take_added(rows)
        for row in relisted:
            provider = self._servers.provider(ProviderId(self._records.name(row.org), row.name))
            if provider is not None:
                self._learn(provider)
        if self._storing.forget(heard.keys() - {row.id for row in rows}):
            self._is_dirty = True  # whoever has them shows them again

    def _take_added(self, rows: Iterable[ServerRow]) -> None:
        added = [(row, self._records.name(row.org)) for row in rows if row.origin == "api"]
        self._servers.take_added(added)

    # -- storing ------------------------------------------------------------------------------

    async def _store_and_publish(self) -> None:
        self._is_dirty = False
        draft = self._catalog.draft()
        failures: list[Exception] = []

        async def store() -> None:
            try:
                await self._storing.store(draft)
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

    # -- what nobody has any more -------------------------------------------------------------

    async def _tidy(self, rows: Iterable[ServerRow]) -> None:
        """Hide what the mcp.json of this process had when it ran before, and has no more."""
        if not self._servers.file.is_readable:
            return
        there = {config.id for config in self._servers.file.servers if not config.disabled}
        for row in rows:
            which = ProviderId(self._records.name(row.org), row.name)
            if row.origin == "file" and self._is_ours(row) and which not in there:
                await self._records.hide(row.org, row.id)

    async def _tidy_plugins(self) -> None:
        """The same for plugins, once it is known which there are."""
        await self._servers.plugins.settled.wait()
        await self._usable.wait()
        try:
            for row in await self._records.servers():
                gone = row.name not in self._servers.roster.plugins()
                if row.origin == "plugin" and self._is_ours(row) and gone:
                    await self._records.hide(row.org, row.id)
        except StorageError as error:
            log.info("registry.not_tidied", code=error.code)

    def _is_ours(self, row: ServerRow) -> bool:
        return row.config.get("source") == self._source

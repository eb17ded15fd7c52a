"""
What is served, compared with what is stored of it: only what differs is written.

Each provider's part of a draft is one transaction. A part whose listing came out of the rows is
there already, unless the rules or the names have changed since.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from trunkline.catalog.listed import Entries, about, entries_of, items_of
from trunkline.catalog.offer import Offer
from trunkline.catalog.records import Kept, Records
from trunkline.catalog.snapshot import Snapshot
from trunkline.downstream.config import ServerConfig
from trunkline.errors import (
    CatalogFull,
    NotStorable,
    OrgNotFound,
    ServerNotFound,
    SyncConflict,
)
from trunkline.models import Json, Listing, ProviderId
from trunkline.providers.servers import Servers
from trunkline.storage.repositories.listings import Listed
from trunkline.storage.rows import Org, Origin

log = structlog.get_logger(__name__)


ITS_OWN: Final = (NotStorable, CatalogFull, SyncConflict)
"""What is in the way of one server's listing, and of no other's."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one provider has in a draft. Equal parts make equal rows."""

    org: str | None
    origin: Origin
    config: Json
    position: int
    fingerprint: str
    listing: Listing
    is_heard: bool
    entries: Entries

    def listed(self, name: str) -> Listed:
        """It as it is stored."""
        return Listed(
            name=name,
            origin=self.origin,
            config=self.config,
            position=self.position,
            about=about(self.listing, self.fingerprint),
            items=items_of(self.entries),
        )


@dataclass(frozen=True, slots=True)
class _Stored:
    """A part that is stored, and where."""

    part: _Part
    org: Org
    server_id: int


class Storing:
    """Knows what is stored of the providers of this process, and makes it what they offer."""

    def __init__(self, servers: Servers, records: Records, source: str) -> None:
        """*source* is the mcp.json that servers of the file come from."""
        self._servers, self._records, self._source = servers, records, source
        self._kept: dict[tuple[Org, str], Kept] = {}
        """By scope and name, whoever stored it."""

        self._stored: dict[ProviderId, _Stored] = {}
        """What is served here."""

        self._refused: dict[ProviderId, _Part] = {}
        """Parts that cannot be stored as they are: they hold up no other, and are not tried again
        until they change."""

        self._followed: set[tuple[Org, str]] = set()
        """Servers, by scope and name, whose kept listing is another process's: it is not written
        back, or two that settle names differently would never end."""

    def begin(self, kept: Mapping[tuple[Org, str], Kept]) -> None:
        """Take *kept* for all that is stored, and compare everything with it anew."""
        self._kept = dict(kept)
        self._stored.clear()
        self._refused.clear()
        self._followed.clear()

    def follow(self, kept: Mapping[tuple[Org, str], Kept]) -> None:
        """Take what other processes have stored."""
        self._kept.update(kept)
        self._followed |= kept.keys()

    def forget(self, server_ids: Collection[int]) -> bool:
        """These rows were hidden by others. True if some of them are served here all the same."""
        gone = [which for which, one in self._stored.items() if one.server_id in server_ids]
        for which in gone:
            del self._stored[which]
        return bool(gone)

    def kept_of(self, config: ServerConfig) -> Kept | None:
        """What is stored of a server, if it was listed under this configuration."""
        if config.transport == "memory":
            return None  # it is here before the database is
        try:
            kept = self._kept.get((self._records.scope(config.org), config.name))
        except OrgNotFound:
            return None
        return kept if kept is not None and kept.fingerprint == config.fingerprint else None

    async def tool_ids(self, server: ProviderId) -> Mapping[str, int]:
        """The ids of a server's tools by its own names; none while it is not stored."""
        if (stored := self._stored.get(server)) is None:
            return {}
        return await self._records.tool_ids(stored.org, stored.server_id)

    async def store(self, draft: Snapshot) -> None:
        """Make the rows what the draft is; what is as it was is not looked at."""
        there = {offer.origin for offer in draft.offers}
        for which in self._stored.keys() - there:
            await self._withdraw(which)
        crowded = [offer for offer in draft.offers if await self._put(draft, offer)]
        for offer in crowded:
            # The names it wanted may have been given up meanwhile by one that came later.
            self._stored.pop(offer.origin, None)
            await self._put(draft, offer, is_last=True)

    async def _put(self, draft: Snapshot, offer: Offer, *, is_last: bool = False) -> bool:
        """Store one provider's part. True if something had to be left out."""
        which, part = offer.origin, self._part(draft, offer)
        stored = self._stored.get(which)
        if part is None or (stored is not None and stored.part == part):
            return False
        if self._refused.get(which) == part:
            return False
        self._refused.pop(which, None)
        try:
            return await self._put_part(which, part, is_last=is_last)
        except ServerNotFound:
            return False  # an administrator has just taken it away, which is yet to be heard here
        except ITS_OWN as error:
            self._refused[which] = part
            log.warning(
                "registry.not_stored", server=which.name, code=error.code, reason=str(error)
            )
            return False

    async def _put_part(self, which: ProviderId, part: _Part, *, is_last: bool) -> bool:
        name = which.name
        org, listed = await self._records.scope_made(part.org), part.listed(name)
        kept = self._kept.get((org, name))
        if (
            kept is not None
            and kept.listing is part.listing
            and ((org, name) in self._followed or kept.items == listed.items)
        ):
            self._stored[which] = _Stored(part, org, kept.server_id)
            return False
        if not part.is_heard:
            return False  # what its predecessor listed is served until it has spoken itself
        self._followed.discard((org, name))
        result = await self._records.sync(org, listed)
        self._stored[which] = _Stored(part, org, result.server.id)
        # A copy, for the provider's own listing is not from here.
        copy = replace(part.listing)
        self._kept[org, name] = Kept(part.fingerprint, copy, result.server.id, listed.items)
        if result.left_out and is_last:
            own, why = next(iter(result.left_out.items()))
            log.warning(
                "registry.left_out", server=name, items=len(result.left_out), first=own, reason=why
            )
        return bool(result.left_out)

    def _part(self, draft: Snapshot, offer: Offer) -> _Part | None:
        """What a provider has in a draft; None if it has just left."""
        provider = self._servers.provider(offer.origin)
        origin = self._servers.origin(offer.origin)
        if provider is None or origin is None or provider.listing is None:
            return None
        row = self._servers.added[offer.origin].row if origin == "api" else None
        return _Part(
            offer.org,
            origin,
            row.config if row is not None else {"source": self._source},
            row.position if row is not None else offer.position,
            provider.config.fingerprint,
            provider.listing,
            provider.is_heard,
            entries_of(draft, offer),
        )

    async def _withdraw(self, which: ProviderId) -> None:
        """Hide what a server had, and the server itself unless an administrator keeps it."""
        stored, name = self._stored[which], which.name
        if which in self._servers.added:
            try:
                await self._records.sync(stored.org, replace(stored.part.listed(name), items={}))
            except ServerNotFound:
                pass  # taken away just now, with all it had
        elif stored.part.origin != "api":
            await self._records.hide(stored.org, stored.server_id)
        if (kept := self._kept.get((stored.org, name))) is not None:
            self._kept[stored.org, name] = replace(kept, items={})
        del self._stored[which]

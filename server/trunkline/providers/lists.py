"""
The lists of one server, kept as they are now.

Whatever says that a list has changed only marks it; one task fetches what is marked, as soon as
there is a session to ask. So a server that announces a thousand changes costs one request.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

import structlog

from trunkline.downstream.channel import ChannelLost
from trunkline.downstream.session import Session
from trunkline.models import KINDS, Kind, Listing
from trunkline.providers.listing import fetch

log = structlog.get_logger(__name__)

SETTLE: Final = 0.05
"""Seconds in which further announcements are taken together."""

AGAIN: Final = 5.0
"""Seconds after which a list that failed is asked for again."""


class Lists:
    """What one server offers, as far as is known."""

    def __init__(
        self,
        server: str,
        known: Listing | None,
        lister: Callable[[], Session | None],
        *,
        timeout: float,
        on_change: Callable[[Listing], None],
    ) -> None:
        """
        *known* is what the server offered when it was last seen. *lister* finds a session to ask,
        *timeout* is in seconds per page, *on_change* takes every listing that is different.
        """
        self.listing = known
        self.trouble: str | None = None
        """Why a list may be out of date; None while all are as they should be."""

        self.is_heard = False
        """Whether the server itself has said it, and not somebody who knew it before."""

        self._server, self._lister, self._timeout = server, lister, timeout
        self._on_change = on_change
        self._learned = known is not None
        self._stale: set[Kind] = set()
        self._failing: frozenset[Kind] = frozenset()
        self._wake = asyncio.Event()
        self._fetching = False

    @property
    def known(self) -> bool:
        """Whether there is anything to serve."""
        return self._learned

    @property
    def settled(self) -> bool:
        """Whether everything that can be fetched has been."""
        return self._learned and not self._fetching and not self._stale - self._failing

    def mark(self, *kinds: Kind) -> None:
        """These lists have changed; all of them, if none is named."""
        self._stale.update(kinds or KINDS)
        self._wake.set()

    def recall(self, listing: Listing) -> None:
        """Take what is known from elsewhere, until the server itself is asked."""
        self._learned = True
        if listing != self.listing:
            self.listing = listing
            self._publish(listing)

    async def keep(self) -> None:
        """Fetch what is marked, until cancelled."""
        while True:
            await self._wake.wait()
            if self._learned:
                await asyncio.sleep(SETTLE)
            self._wake.clear()
            session = self._lister()
            if session is not None:  # else the next session that becomes ready marks everything
                await self._fetch(session)

    async def _fetch(self, session: Session) -> None:
        stale = frozenset(self._stale)
        self._stale.clear()
        self._fetching = True
        try:
            fetched = await fetch(session, stale, self.listing, timeout=self._timeout)
        except ChannelLost as lost:
            self._stale |= stale
            log.info("list.interrupted", server=self._server, reason=str(lost))
            return
        finally:
            self._fetching = False
        self._learned = self.is_heard = True
        self._note(fetched.failures)
        if fetched.listing != self.listing:
            self.listing = fetched.listing
            self._publish(fetched.listing)

    def _publish(self, listing: Listing) -> None:
        try:
            self._on_change(listing)
        except Exception:  # the border of one server: what it lists must not end the others
            self.trouble = "What it lists could not be understood."
            log.exception("list.crashed", server=self._server)

    def _note(self, failures: Mapping[Kind, str]) -> None:
        trouble = "; ".join(failures.values()) or None
        if trouble is not None and trouble != self.trouble:
            log.warning("list.failed", server=self._server, reason=trouble)
        self.trouble, self._failing = trouble, frozenset(failures)
        if failures:
            self._mark_later(failures)

    def _mark_later(self, kinds: Collection[Kind]) -> None:
        self._stale.update(kinds)
        asyncio.get_running_loop().call_later(AGAIN, self._wake.set)

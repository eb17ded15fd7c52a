"""
Who is there: the providers of mcp.json and the plugins, started and stopped as those change.

Every provider runs in a task of its own, so that one that takes its time to stop delays nobody.
Only what changed reconnects: a new name, rule or rank is taken by the running provider.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Self

import structlog

from trunkline.downstream.config import ServerConfig
from trunkline.downstream.session import Connect
from trunkline.models import Caller, Json, Listing, ProviderId
from trunkline.providers.downstream import DownstreamProvider
from trunkline.settings import DownstreamSettings

log = structlog.get_logger(__name__)


OPENING: Final = 2.0
"""Seconds a lazy provider waits for what was known of it."""

DRAIN: Final = 10.0
"""Seconds the calls under way may take to end at a provider that was replaced or removed."""


class _Seat:
    """One provider and the end of its life."""

    def __init__(self, provider: DownstreamProvider, origin: object) -> None:
        self.provider, self.origin = provider, origin
        self.running = False
        self.leave = asyncio.Event()


class Roster:
    """All providers of this process. Owns their tasks."""

    def __init__(
        self,
        settings: DownstreamSettings,
        *,
        known: Callable[[ServerConfig], Listing | None],
        opened: asyncio.Event,
        on_listing: Callable[[DownstreamProvider], None],
        on_gone: Callable[[ProviderId], None],
        on_updated: Callable[[ProviderId, str, str, Json], None],
    ) -> None:
        """
        *known* tells what a server offered when it was last seen, once *opened* is set. A server
        that is lazy waits a while for that: whether it has to start depends on it.

        *on_listing* hears of a provider that is new, renamed or lists something else; *on_gone* of
        one that has left; *on_updated* of a resource that has changed: provider, audience, URI and
        params.
        """
        self._settings, self._known, self._opened = settings, known, opened
        self._on_listing, self._on_gone, self._on_updated = on_listing, on_gone, on_updated
        self._seats: dict[ProviderId, _Seat] = {}
        self._gate = asyncio.Semaphore(settings.concurrent_starts)
        self._started = self._closing = False
        self._owner: Caller | None = None
        self._tasks: asyncio.TaskGroup

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self]:
        """Run providers; leaving stops them all and waits for it."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                yield self
            finally:
                self._closing = True
                for seat in self._seats.values():
                    seat.leave.set()

    @property
    def providers(self) -> list[DownstreamProvider]:
        """Everybody, in the order of their rank."""
        everybody = (seat.provider for seat in self._seats.values())
        return sorted(everybody, key=lambda provider: (provider.position, provider.name))

    @property
    def stands_in(self) -> bool:
        """Whether there is a single provider, and nothing in front of its names."""
        providers = [seat.provider for seat in self._seats.values()]
        return len(providers) == 1 and not providers[0].prefix

    def provider(self, which: ProviderId) -> DownstreamProvider | None:
        """The one that is meant; None if it is not here."""
        seat = self._seats.get(which)
        return seat.provider if seat is not None else None

    def start(self, owner: Caller | None) -> None:
        """
        Let the providers connect, those of now and those to come. *owner* is the only client there
        will ever be (stdio); None when there may be many. Only the first call counts.
        """
        if self._started:
            return
        self._started, self._owner = True, owner
        for seat in self._seats.values():
            if seat.running:
                self._begin(seat)

    def offer_credentials(self, caller: Caller) -> None:
        """Somebody has come, over whose session a server may be listed that waits for that."""
        for seat in self._seats.values():
            seat.provider.offer_credentials(caller)

    def put(
        self,
        config: ServerConfig,
        connect: Connect,
        *,
        origin: object = None,
        look: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        """
        Add a provider, or put it in the place of the one that has its id.

        *origin* is what it was made from, where that can be compared: the same is not connected
        anew. *look* asks its health page.
        """
        if self._closing:
            return
        before = self._seats.get(config.id)
        if (
            before is not None
            and origin is not None
            and before.origin is origin
            and before.provider.config.disabled == config.disabled
        ):
            if before.provider.config != config:
                self.reconfigure(config)
            return
        listed = before.provider.listing if before is not None else None
        known = None if config.disabled else listed or self._known(config)
        provider = DownstreamProvider(
            config, connect, self._settings, self._gate, known=known, look=look
        )
        provider.on_change = self._on_listing
        provider.on_updated = partial(self._on_updated, config.id)
        if before is not None:
            before.leave.set()
            before.provider.on_change = before.provider.on_updated = None
        seat = self._seats[config.id] = _Seat(provider, origin)
        if config.disabled:
            self._on_gone(config.id)
        else:
            self._on_listing(provider)
        self._tasks.create_task(self._run(seat))

    def reconfigure(self, config: ServerConfig) -> None:
        """Take a config that needs no reconnection: other names, rules, timeouts or rank."""
        provider = self._seats[config.id].provider
        provider.reconfigure(config)
        self._on_listing(provider)

    def remove(self, which: ProviderId) -> None:
        """Stop a provider and forget it."""
        if (seat := self._seats.pop(which, None)) is not None:
            seat.provider.on_change = seat.provider.on_updated = None
            seat.leave.set()
            self._on_gone(which)

    def plugins(self) -> set[str]:
        """The names of the providers that are plugins."""
        return {one.name for one, seat in self._seats.items() if seat.provider.is_plugin}

    def servers(self) -> set[ProviderId]:
        """The providers that are servers, of mcp.json or added."""
        return {one for one, seat in self._seats.items() if not seat.provider.is_plugin}

    def _begin(self, seat: _Seat) -> None:
        if seat.provider.config.lazy and not self._opened.is_set():
            self._tasks.create_task(self._begin_late(seat))
        else:
            seat.provider.start(self._owner)

    async def _begin_late(self, seat: _Seat) -> None:
        """Start a lazy provider when it can be known whether its lists are."""
        try:
            async with asyncio.timeout(OPENING):
                await self._opened.wait()
        except TimeoutError:
            pass
        if not seat.leave.is_set():
            seat.provider.start(self._owner)

    async def _run(self, seat: _Seat) -> None:
        provider = seat.provider
        async with provider.running():
            seat.running = True
            if self._started:
                self._begin(seat)
            await seat.leave.wait()
            if not self._closing:
                await provider.drained(DRAIN)
        log.debug("provider.stopped", server=provider.name)

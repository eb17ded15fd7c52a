"""
The catalog: the current snapshot, and who is told when it changes.

Providers put what they list; a snapshot is drafted anew, stored by whoever keeps the registry, and
swapped in one assignment, so a request sees the old one or the new one and never half of each.

    put, remove ──> draft ── on_draft: the registry stores it ──> publish ──> snapshot, listeners
"""

from collections.abc import Callable

import structlog

from trunkline.catalog.offer import Entry, Offer
from trunkline.catalog.snapshot import Snapshot
from trunkline.errors import DownstreamUnavailable
from trunkline.models import KINDS, Kind, ProviderId
from trunkline.providers.provider import Provider
from trunkline.security.pins.pins import Pins

log = structlog.get_logger(__name__)

Listener = Callable[[Snapshot, Snapshot, frozenset[Kind]], None]
"""Hears of the old snapshot, the new one, and the kinds whose lists differ."""


class Catalog:
    """What exists, provider by provider."""

    def __init__(self, pins: Pins | None = None) -> None:
        self.pins = pins
        self.snapshot = Snapshot()
        self.listeners: list[Listener] = []
        self.on_draft: Callable[[], None] | None = None
        """Called (synchronously, cheaply) when there is a new draft, and has to see to it that
        `publish` is called. While this is None every draft is published at once."""

        self._version = 0
        """Of the draft."""

        self._offers: dict[ProviderId, Offer] = {}
        self._providers: dict[ProviderId, Provider] = {}

    def put(self, provider: Provider) -> None:
        """Take what a provider lists now. Does nothing if that changes nothing."""
        self._providers[provider.id] = provider
        before = self._offers.get(provider.id)
        offer = Offer.of(provider, before, self.pins)
        if offer == before:
            return
        self._offers[provider.id] = offer
        if offer.notes and (before is None or offer.notes != before.notes):
            log.warning(
                "catalog.noted",
                server=provider.name,
                notes=len(offer.notes),
                first=offer.notes[0],
            )
        self._drafted()

    def judge_again(self) -> None:
        """Take what every provider lists as its pins are now."""
        for provider in tuple(self._providers.values()):
            self.put(provider)

    def put_known(self, provider: Provider) -> None:
        """`put`, once there is anything known of a provider."""
        if provider.listing is not None:
            self.put(provider)

    def remove(self, provider: ProviderId) -> None:
        """Forget a provider and everything it lists."""
        self._providers.pop(provider, None)
        if self._offers.pop(provider, None) is not None:
            self._drafted()

    def provider_of(self, entry: Entry) -> Provider:
        """Who serves an entry. Raises `DownstreamUnavailable` if it has left meanwhile."""
        provider = self._providers.get(entry.origin)
        if provider is None:
            raise DownstreamUnavailable(entry.provider, "it has just been removed.")
        return provider

    @property
    def has_draft(self) -> bool:
        """Whether anything was put that is not served yet."""
        return self._version != self.snapshot.version

    def draft(self) -> Snapshot:
        """The snapshot to come: everything that providers have put."""
        return Snapshot.of(self._version, self._offers.values())

    def publish(self, draft: Snapshot) -> None:
        """Serve a draft from now on."""
        old, self.snapshot = self.snapshot, draft
        changed: frozenset[Kind] = frozenset(
            kind for kind in KINDS if _lists(old, kind) != _lists(draft, kind)
        )
        for listener in self.listeners if changed else ():
            listener(old, draft, changed)

    def _drafted(self) -> None:
        self._version += 1
        if self.on_draft is None:
            self.publish(self.draft())
        else:
            self.on_draft()


def _lists(snapshot: Snapshot, kind: Kind) -> list[tuple[Entry, ...]]:
    """Everything of one kind in its order: the names it gets follow from that alone."""
    return [offer.entries[kind] for offer in snapshot.offers if offer.entries[kind]]

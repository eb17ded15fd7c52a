"""
The catalog: the current snapshot, and who is told when it changes.

Providers put what they list; a snapshot is made anew and swapped in one assignment, so a request
sees the old one or the new one and never half of each.
"""

from collections.abc import Callable
from typing import Final

import structlog

from trunkline.catalog.snapshot import Entry, Offer, Snapshot
from trunkline.errors import DownstreamUnavailable
from trunkline.models import KINDS, Kind, Listing
from trunkline.providers.provider import Provider

log = structlog.get_logger(__name__)

Listener = Callable[[Snapshot, Snapshot, frozenset[Kind]], None]
"""Hears of the old snapshot, the new one, and the kinds whose lists differ."""

NOTHING: Final = Listing()


class Catalog:
    """What exists, provider by provider."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.listeners: list[Listener] = []
        self._offers: dict[str, Offer] = {}
        self._providers: dict[str, Provider] = {}

    def put(self, provider: Provider) -> None:
        """Take what a provider lists now. Does nothing if that changes nothing."""
        self._providers[provider.name] = provider
        before = self._offers.get(provider.name)
        offer = Offer.of(
            provider.name,
            provider.prefix,
            provider.position,
            provider.org,
            provider.rules,
            provider.listing or NOTHING,
        )
        if offer != before:
            self._offers[provider.name] = offer
            self._swap()
            for note in offer.notes if before is None or offer.notes != before.notes else ():
                log.warning("catalog.noted", server=provider.name, note=note)

    def remove(self, name: str) -> None:
        """Forget a provider and everything it lists."""
        self._providers.pop(name, None)
        if self._offers.pop(name, None) is not None:
            self._swap()

    def provider_of(self, entry: Entry) -> Provider:
        """Who serves an entry. Raises `DownstreamUnavailable` if it has left meanwhile."""
        provider = self._providers.get(entry.provider)
        if provider is None:
            raise DownstreamUnavailable(entry.provider, "it has just been removed.")
        return provider

    def _swap(self) -> None:
        old = self.snapshot
        new = self.snapshot = Snapshot.build(old.version + 1, self._offers.values())
        changed: frozenset[Kind] = frozenset(kind for kind in KINDS if _differ(old, new, kind))
        for listener in self.listeners if changed else ():
            listener(old, new, changed)


def _differ(old: Snapshot, new: Snapshot, kind: Kind) -> bool:
    return list(old.entries[kind].values()) != list(new.entries[kind].values())

"""
The catalog: the current snapshot, and who is told when it changes.

Providers put what they list; a snapshot is made anew and swapped in one assignment, so a request
sees the old one or the new one and never half of each.
"""

from collections.abc import Callable

import structlog

from trunkline.catalog.offer import Entry, Offer
from trunkline.catalog.snapshot import Snapshot
from trunkline.errors import DownstreamUnavailable
from trunkline.models import KINDS, Kind
from trunkline.providers.provider import Provider

log = structlog.get_logger(__name__)

Listener = Callable[[Snapshot, Snapshot, frozenset[Kind]], None]
"""Hears of the old snapshot, the new one, and the kinds whose lists differ."""


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
        offer = Offer.of(provider, before)
        if offer == before:
            return
        self._offers[provider.name] = offer
        if offer.notes and (before is None or offer.notes != before.notes):
            log.warning(
                "catalog.noted",
                server=provider.name,
                notes=len(offer.notes),
                first=offer.notes[0],
            )
        self._swap()

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
        new = self.snapshot = Snapshot.of(old.version + 1, self._offers.values())
        changed: frozenset[Kind] = frozenset(
            kind for kind in KINDS if _lists(old, kind) != _lists(new, kind)
        )
        for listener in self.listeners if changed else ():
            listener(old, new, changed)


def _lists(snapshot: Snapshot, kind: Kind) -> list[tuple[Entry, ...]]:
    """Everything of one kind in its order: the names it gets follow from that alone."""
    return [offer.entries[kind] for offer in snapshot.offers if offer.entries[kind]]

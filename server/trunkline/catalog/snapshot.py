"""
What exists at one moment: immutable, complete, and served from memory.

    Listing of each provider ── check ──> Offer ──┐
                                                  ├── Snapshot ── view(org) ──> View
    Listing of each provider ── check ──> Offer ──┘
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from trunkline.catalog.offer import Offer
from trunkline.catalog.view import View
from trunkline.models import Kind


@dataclass(frozen=True)
class Snapshot:
    """Everything, for every organisation."""

    version: int = 0
    """Grows with every change."""

    offers: tuple[Offer, ...] = ()
    """By position, then by name."""

    _views: dict[str | None, View] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, version: int, offers: Iterable[Offer]) -> "Snapshot":
        """Put the *offers* in their order."""
        return cls(version, tuple(sorted(offers, key=lambda one: (one.position, one.provider))))

    def view(self, org: str | None) -> View:
        """What one organisation sees. Made once; those without anything of their own share one."""
        view = self._views.get(org)
        if view is None:
            seen = [offer for offer in self.offers if offer.org in (None, org)]
            if org is not None and all(offer.org is None for offer in seen):
                return self.view(None)
            view = self._views[org] = View(seen)
        return view

    def count(self, provider: str, kind: Kind) -> int:
        """How many items of a kind a provider has here."""
        offer = self._offer(provider)
        return len(offer.entries[kind]) if offer is not None else 0

    def problems(self, provider: str) -> tuple[str, ...]:
        """What had to be left out, mended or renamed of one provider."""
        offer = self._offer(provider)
        if offer is None:
            return ()
        return (*offer.notes, *self.view(offer.org).collisions(provider))

    def _offer(self, provider: str) -> Offer | None:
        return next((offer for offer in self.offers if offer.provider == provider), None)

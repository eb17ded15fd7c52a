"""
What exists at one moment: immutable, complete, and served from memory.

    Listing of each provider ── check ──> Offer ──┐
                                                  ├── Snapshot ── view(org) ──> View
    Listing of each provider ── check ──> Offer ──┘
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from trunkline.catalog.offer import Entry, Offer
from trunkline.catalog.view import View
from trunkline.models import Kind, Principal, ProviderId, Scope
from trunkline.security.pins.scan_rules import Severity

PARTS_KEPT = 256
"""Scopes whose views are kept: with tokens there may be any number of them."""


@dataclass(frozen=True)
class Snapshot:
    """Everything, for every organisation."""

    version: int = 0
    """Grows with every change."""

    offers: tuple[Offer, ...] = ()
    """By position, then by name."""

    _views: dict[str | None, View] = field(default_factory=dict, compare=False, repr=False)
    _parts: dict[tuple[int, Scope], View] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, version: int, offers: Iterable[Offer]) -> "Snapshot":
        """Put the *offers* in their order."""
        return cls(version, tuple(sorted(offers, key=lambda one: (one.position, one.provider))))

    def view(self, org: str | None) -> View:
        """What one organisation sees. Made once; those without anything of their own share one."""
        view = self._views.get(org)
        if view is None:
            seen: dict[str, Offer] = {}
            for offer in self.offers:
                if offer.org in (None, org):
                    seen.setdefault(offer.provider, offer)
            if org is not None and all(offer.org is None for offer in seen.values()):
                return self.view(None)
            view = self._views[org] = View(seen.values())
        return view

    def seen_by(self, principal: Principal) -> View:
        """What somebody sees: of what the organisation sees, that which is within the scope."""
        view = self.view(principal.org)
        if principal.scope.permits_all:
            return view
        key = id(view), principal.scope
        part = self._parts.get(key)
        if part is None:
            if len(self._parts) >= PARTS_KEPT:
                self._parts.clear()
            part = self._parts[key] = view.within(principal.scope)
        return part

    def count(self, provider: ProviderId, kind: Kind) -> int:
        """How many items of a kind a provider has here."""
        offer = self._offer(provider)
        return len(offer.entries[kind]) if offer is not None else 0

    def problems(self, provider: ProviderId) -> tuple[str, ...]:
        """What had to be left out, mended or renamed of one provider."""
        offer = self._offer(provider)
        if offer is None:
            return ()
        return (*offer.notes, *self.view(offer.org).collisions(provider.name))

    def findings(self, provider: ProviderId) -> tuple[str, ...]:
        """What somebody should look at before they trust one provider."""
        offer = self._offer(provider)
        if offer is None:
            return ()
        shadows = self.view(offer.org).shadows.get(provider.name, ())
        return (*offer.told, *(str(one) for one in shadows if one.severity > Severity.LOW))

    def _offer(self, provider: ProviderId) -> Offer | None:
        return next((offer for offer in self.offers if offer.origin == provider), None)


def changed_for(old: Snapshot, new: Snapshot, kind: Kind) -> set[str | None]:
    """Whose lists of a kind differ; None stands for everybody's."""
    before, now = _lists(old, kind), _lists(new, kind)
    differing = [
        which for which in before.keys() | now.keys() if before.get(which) != now.get(which)
    ]
    if differing or list(before) == list(now):
        return {which.org for which in differing}
    return {which.org for which in now}  # another order


def _lists(snapshot: Snapshot, kind: Kind) -> dict[ProviderId, tuple[Entry, ...]]:
    return {one.origin: one.entries[kind] for one in snapshot.offers if one.entries[kind]}

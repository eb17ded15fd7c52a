"""
Between what a provider lists and what is stored of it.

Stored is what is served: without what the rules or the quarantine leave out, under the names that
were settled, each definition as the provider wrote it. That gives the listing back when the next
process starts, before the provider has answered.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trunkline.catalog.offer import Entry, Offer
from trunkline.catalog.quarantine import KEY_OF
from trunkline.catalog.snapshot import Snapshot
from trunkline.models import KINDS, Json, Kind, Listing
from trunkline.storage.rows import Item, ItemRow

Entries = Mapping[Kind, Sequence[Entry]]
"""One provider's items, under the names that were settled."""


def entries_of(draft: Snapshot, offer: Offer) -> Entries:
    """One provider's part of a snapshot."""
    view = draft.view(offer.org)
    return {kind: view.of_provider(kind, offer.provider) for kind in KINDS}


def items_of(entries: Entries) -> dict[Kind, tuple[Item, ...]]:
    """What is stored of them."""
    return {
        kind: tuple(
            Item(one.own, one.name, {**one.definition, KEY_OF[kind]: one.own})
            for one in entries[kind]
        )
        for kind in KINDS
    }


def about(listing: Listing, fingerprint: str) -> Json:
    """What is stored beside the items. *fingerprint* tells whose listing it is."""
    return {
        "fingerprint": fingerprint,
        "instructions": listing.instructions,
        "capabilities": dict(listing.capabilities),
        "server_info": dict(listing.server_info),
        "ttl_ms": listing.ttl_ms,
        "cache_scope": listing.cache_scope,
    }


def listing_of(said: Mapping[str, Any], rows: Mapping[Kind, Iterable[ItemRow]]) -> Listing:
    """The listing that was stored as *said* and *rows*."""
    lists = {kind: tuple(row.definition for row in rows.get(kind, ())) for kind in KINDS}
    return Listing(
        tools=lists["tools"],
        prompts=lists["prompts"],
        resources=lists["resources"],
        templates=lists["templates"],
        instructions=said.get("instructions"),
        capabilities=said.get("capabilities") or {},
        server_info=said.get("server_info") or {},
        ttl_ms=said.get("ttl_ms") or 0,
        cache_scope="public" if said.get("cache_scope") == "public" else "private",
    )

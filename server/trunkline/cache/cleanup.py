"""
What is in Redis of ours, and what need not be: `trunkline cache stats`, `clean` and `flush`.

Whoever calls these has asked for the cache, so they raise `CacheUnavailable` where Redis does not
answer. Keys of newer versions belong to a newer Trunkline on the same Redis, and are left alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from trunkline.cache import metrics
from trunkline.cache.cache import Cache
from trunkline.cache.keys import ROOT
from trunkline.cache.version import CACHE_VERSION

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Holding:
    """What there is of one version in one namespace."""

    version: int
    namespace: str
    keys: int = 0
    bytes: int = 0
    """Of keys and values, without what Redis needs to hold them."""


@dataclass(slots=True)
class Stats:
    """What there is of ours."""

    holdings: list[Holding] = field(default_factory=list)
    """By version and namespace, in that order."""

    @property
    def old(self) -> list[Holding]:
        """What `clean` would remove."""
        return [holding for holding in self.holdings if holding.version < CACHE_VERSION]


async def stats(cache: Cache) -> Stats:
    """Count everything of ours, of all versions. Raises `CacheUnavailable`."""
    store = cache.store()
    holdings: dict[tuple[int, str], Holding] = {}
    async for keys in store.scan(f"{ROOT}*"):
        for key, size in zip(keys, await store.measure(keys), strict=True):
            if (place := _place(key)) is not None:
                holding = holdings.setdefault(place, Holding(*place))
                holding.keys += 1
                holding.bytes += size
    found = Stats([holdings[place] for place in sorted(holdings)])
    metrics.OLD_KEYS.set(sum(holding.keys for holding in found.old))
    metrics.OLD_BYTES.set(sum(holding.bytes for holding in found.old))
    return found


async def clean(cache: Cache) -> dict[int, int]:
    """
    Remove the keys of older versions; how many there were, by version.

    Raises `CacheUnavailable`, having removed what it could.
    """
    store = cache.store()
    removed: Counter[int] = Counter()
    async for keys in store.scan(f"{ROOT}v*"):
        for version, old in _by_older_version(keys).items():
            removed[version] += await store.unlink(old)
    for version, count in sorted(removed.items()):
        log.info(f"Deleted {count} keys from cache v{version}", version=version, keys=count)
    metrics.OLD_KEYS.set(0)
    metrics.OLD_BYTES.set(0)
    return dict(sorted(removed.items()))


async def flush(cache: Cache) -> int:
    """Forget everything of this version; how many keys there were. Raises `CacheUnavailable`."""
    cache.store()
    removed = await cache.invalidate_pattern("*")
    cache.store()
    return removed


def _place(key: bytes) -> tuple[int, str] | None:
    """The version and namespace of a key; None if it has no version."""
    version, _, rest = key.removeprefix(ROOT.encode()).partition(b":")
    number = version[1:]
    if version[:1] != b"v" or not number.isdigit():
        return None
    return int(number), rest.partition(b":")[0].decode(errors="replace")


def _by_older_version(keys: Sequence[bytes]) -> dict[int, list[bytes]]:
    older: dict[int, list[bytes]] = {}
    for key in keys:
        place = _place(key)
        if place is not None and place[0] < CACHE_VERSION:
            older.setdefault(place[0], []).append(key)
    return older

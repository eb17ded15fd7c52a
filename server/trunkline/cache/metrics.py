"""
What the cache counts.

`hits / (hits + misses)` is its worth. `stale` are the misses that found a value which an
invalidation had overtaken; `incidents` counts how often Redis failed us, not how many calls it
cost.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

HITS: Final = Counter("trunkline_cache_hits", "Answers that came out of the cache.", ["namespace"])
MISSES: Final = Counter("trunkline_cache_misses", "Answers that had to be computed.", ["namespace"])
STALE: Final = Counter(
    "trunkline_cache_stale", "Values found that had been invalidated.", ["namespace"]
)
POISONED: Final = Counter(
    "trunkline_cache_poisoned", "Values found that could not be read, and removed.", ["namespace"]
)
BYPASSED: Final = Counter(
    "trunkline_cache_bypassed", "Answers computed while Redis was not used.", ["namespace"]
)
ERRORS: Final = Counter(
    "trunkline_cache_errors", "Operations that Redis failed.", ["operation", "trouble"]
)
INCIDENTS: Final = Counter(
    "trunkline_cache_incidents", "Times that Redis went out of use, and why.", ["trouble"]
)
INVALIDATIONS: Final = Counter(
    "trunkline_cache_invalidations",
    "Invalidations asked for; `acknowledged` is false where Redis is still to hear of it.",
    ["namespace", "acknowledged"],
)
SHARED: Final = Counter(
    "trunkline_cache_shared", "Misses that waited for somebody else's computation.", ["namespace"]
)
SECONDS: Final = Histogram(
    "trunkline_cache_seconds",
    "Time it took to look into the cache.",
    ["namespace"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
AVAILABLE: Final = Gauge("trunkline_cache_available", "1 while Redis is in use, 0 while it is not.")
OLD_BYTES: Final = Gauge(
    "trunkline_cache_old_version_bytes", "Size of the keys of older versions, when last looked at."
)
OLD_KEYS: Final = Gauge(
    "trunkline_cache_old_version_keys", "Number of the keys of older versions, when last looked at."
)

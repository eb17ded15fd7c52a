"""
What the index counts. One name, one place; the gateway shows them at `/metrics`.

Importing this registers the metrics and does nothing else.
"""

from typing import Final

from prometheus_client import Counter, Gauge

POINT_ID_USAGE: Final = Gauge(
    "trunkline_point_id_usage",
    "The highest id of a type that was turned into a point id, as a part of what the type may have",
    ["type"],
)

RETRIES: Final = Counter(
    "trunkline_qdrant_retries",
    "Attempts at a Qdrant operation that failed and were followed by another",
    ["operation"],
)

EXHAUSTIONS: Final = Counter(
    "trunkline_qdrant_exhaustions",
    "Qdrant operations that were given up because their last attempt failed too",
    ["operation"],
)

DEGRADED: Final = Gauge(
    "trunkline_index_degraded",
    "1 while searches are answered in process because Qdrant does not answer, else 0",
)

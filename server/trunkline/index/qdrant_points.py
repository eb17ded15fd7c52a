"""
A point of ours as a point of Qdrant's, and back.

Qdrant finds it by a dense and a sparse vector, and its payload says which item it stands for. The
sparse vector is the half of BM25 that depends on the document alone; the other half, how rare each
term is, Qdrant multiplies in by its own counts (`Modifier.IDF`).
"""

import math
import zlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import numpy as np
from qdrant_client import models

from trunkline.errors import IndexMismatch, PointIdMissing
from trunkline.index.bm25 import K1, B
from trunkline.index.index import Point, Ref, Vector
from trunkline.index.point_ids import point_id, row_of
from trunkline.index.qdrant_schema import SPARSE, Space

AVERAGE_LENGTH: Final = 30.0
"""
Weighted terms in an average item: 30.0 over 16,739 tools of 1,906 public servers.

A constant, so that a point does not depend on when it was made: an average that moved would leave
every older point behind it.
"""

EVERYONE: Final = "*"


def to_qdrant(point: Point, space: Space) -> models.PointStruct:
    """Raises `PointIdOverflow`, `PointIdMissing`, `IndexMismatch`."""
    ref = point.ref
    vectors: dict[str, Any] = {}
    if rows := directions(point.vector, space, name_of(ref)):
        (vectors[space.dense],) = rows
    if weights := _saturated(point.terms):
        vectors[SPARSE] = _sparse(weights)
    return models.PointStruct(id=id_of(ref), vector=vectors, payload=_payload(point))


def ref_of(record: models.ScoredPoint | models.Record) -> Ref:
    """The item a stored point stands for."""
    payload = record.payload or {}
    owner = payload["visibility"][0]
    return Ref(
        org=None if owner == EVERYONE else UUID(owner.removeprefix("org:")),
        kind=payload["kind"],
        server=payload["server"],
        own_name=payload["own_name"],
        db_id=row_of(int(record.id))[1],
    )


def hash_of(record: models.Record) -> bytes:
    """The content hash a stored point was made with."""
    return bytes.fromhex((record.payload or {})["content_hash"])


def id_of(ref: Ref) -> int:
    """The number of an item's point. Raises `PointIdOverflow`, `PointIdMissing`."""
    if ref.db_id is None:
        raise PointIdMissing(name_of(ref))
    return point_id(ref.kind, ref.db_id, item=name_of(ref))


def name_of(ref: Ref) -> str:
    """An item as a sentence has it."""
    return f"{ref.own_name!r} of {ref.server!r} ({ref.kind})"


def audience(org: UUID | None) -> str:
    """What the points of an organisation are marked with: one keyword, never a boolean."""
    return EVERYONE if org is None else f"org:{org}"


def directions(vector: Vector, space: Space, what: str) -> list[list[float]]:
    """
    The rows of a vector, or of several, that point anywhere.

    One of zeros, or with a value that is no number, has no direction and is as none. Raises
    `IndexMismatch` if they do not belong to *space*.
    """
    if vector.ndim not in (1, 2) or vector.shape[-1] != space.dimensions:
        raise IndexMismatch(
            f"The vector of {what} has {vector.shape[-1] if vector.ndim else 0} dimensions, and "
            f"{space.model} has {space.dimensions}. Embed again with the index's own model, or "
            f"make the index again: `trunkline reindex`."
        )
    rows = np.atleast_2d(vector)
    return rows[np.isfinite(rows).all(axis=1) & rows.any(axis=1)].tolist()


def term_vector(terms: Mapping[str, float]) -> models.SparseVector:
    """A query's terms as Qdrant asks for them."""
    return _sparse(terms)


def _saturated(terms: Mapping[str, float]) -> dict[str, float]:
    """
    Each term's weight for its frequency: tf (k1 + 1) / (tf + k1 (1 - b + b length / average)).

    Counts that are not above zero are none.

    Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), 3.15.
    """
    counts = {term: count for term, count in terms.items() if 0 < count < math.inf}
    norm = K1 * (1 - B + B * sum(counts.values()) / AVERAGE_LENGTH)
    return {term: count * (K1 + 1) / (count + norm) for term, count in counts.items()}


def _sparse(weights: Mapping[str, float]) -> models.SparseVector:
    """
    Terms by number: a CRC-32 is the same in every process and version.

    Two of 20,000 terms share a number in one catalog of twenty; their weights are added.
    """
    values: defaultdict[int, float] = defaultdict(float)
    for term, weight in weights.items():
        values[zlib.crc32(term.encode(errors="surrogatepass"))] += weight
    indices = sorted(values)
    return models.SparseVector(indices=indices, values=[values[index] for index in indices])


def _payload(point: Point) -> dict[str, Any]:
    ref = point.ref
    return {
        "visibility": [audience(ref.org)],
        "kind": ref.kind,
        "server": ref.server,
        "own_name": ref.own_name,
        "skills": list(point.skills),
        "content_hash": point.content_hash.hex(),
    }

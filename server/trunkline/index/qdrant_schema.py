"""
How Trunkline's collections in Qdrant are named and made.

A collection is for one space of vectors: a model and its dimension are in its name. An alias leads
to the collection that is searched, so that another model's can be filled beside it.

    trunkline  ──alias──>  trunkline_5f3c01ab     dense_5f3c01ab: cosine · sparse: BM25
                           trunkline_9be4d210     being filled with another model's vectors

The dense vector is named after its model too: a query with another model's vector is refused then,
also by a collection that was switched to a moment ago and has the same dimension.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from qdrant_client import AsyncQdrantClient, models

from trunkline.errors import IndexMismatch, IndexRefused

OLDEST: Final = (1, 19)
"""The first Qdrant that counts terms among what one organisation sees (its pull request 9661)."""

SPARSE: Final = "sparse"

TENANT: Final = "visibility"
KEYWORDS: Final = (TENANT, "kind", "server", "skills", "content_hash")
"""What is filtered by. Keywords all, and no booleans: not every build of Qdrant matches those."""


@dataclass(frozen=True, slots=True)
class Space:
    """What points can be compared with each other."""

    model: str
    """The embedding's name, with the version of whatever else makes a point: vectors and terms."""

    dimensions: int

    def collection(self, prefix: str) -> str:
        """The collection that holds this space's points."""
        return f"{prefix}_{self._fingerprint}"

    @property
    def dense(self) -> str:
        """The name of this space's vectors."""
        return f"dense_{self._fingerprint}"

    @property
    def _fingerprint(self) -> str:
        name = f"{self.model}\0{self.dimensions}".encode()
        return hashlib.sha256(name).hexdigest()[:8]


async def check_version(client: AsyncQdrantClient) -> None:
    """Raise `IndexRefused` for a server older than `OLDEST`."""
    version = (await client.info()).version
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise IndexRefused(f"Qdrant is of version {version}, and has to be {oldest} or newer.")


async def create(client: AsyncQdrantClient, name: str, space: Space) -> None:
    """Make an empty collection, as the server's defaults have it beyond what we need."""
    await client.create_collection(
        name,
        vectors_config={
            space.dense: models.VectorParams(size=space.dimensions, distance=models.Distance.COSINE)
        },
        sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
        metadata={"model": space.model, "dimensions": space.dimensions},
    )


async def index_payload(client: AsyncQdrantClient, name: str) -> None:
    """Let every field be filtered by without a scan. One that is indexed already stays so."""
    for field in KEYWORDS:
        # What one organisation sees is kept together on disk.
        keyword = models.KeywordIndexParams(
            type=models.KeywordIndexType.KEYWORD, is_tenant=field == TENANT
        )
        await client.create_payload_index(name, field, field_schema=keyword, wait=True)


async def check(client: AsyncQdrantClient, name: str, space: Space) -> None:
    """Raise `IndexMismatch` unless the collection *name* can hold points of *space*."""
    params = (await client.get_collection(name)).config.params
    vectors = params.vectors if isinstance(params.vectors, dict) else {}
    dense, sparse = vectors.get(space.dense), (params.sparse_vectors or {}).get(SPARSE)
    if dense is None or sparse is None or sparse.modifier != models.Modifier.IDF:
        wrong = "was not made by Trunkline: it has other vectors"
    elif dense.size != space.dimensions:
        wrong = f"is for {dense.size} dimensions, and {space.model} has {space.dimensions}"
    elif dense.distance != models.Distance.COSINE:
        wrong = f"compares by {dense.distance.value}, and not by cosine"
    else:
        return
    raise IndexMismatch(
        f"Qdrant's collection {name!r} {wrong}. Delete it and run `trunkline reindex`, or use "
        f"another prefix."
    )

"""
Vectors that were made before, by model and by the hash of the text they were made of.

No organisation is asked for: who has a text can make its vector, and who has not cannot name it.
"""

from collections.abc import Mapping, Sequence

from trunkline.storage.pool import Source
from trunkline.storage.queries import load

_STATEMENTS = load("embeddings.sql")


class EmbeddingRepository:
    """Vectors as little-endian float32, one number after the other."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def find(self, model: str, hashes: Sequence[bytes]) -> dict[bytes, bytes]:
        """The vectors there are for these SHA-256 hashes of texts."""
        rows = await self._pool.fetch(_STATEMENTS["find"], model, hashes)
        return {row["content_hash"]: row["vector"] for row in rows}

    async def keep(self, model: str, vectors: Mapping[bytes, bytes]) -> None:
        """Add vectors by the hash of their text. One that is there stays."""
        await self._pool.execute(_STATEMENTS["keep"], model, list(vectors), list(vectors.values()))

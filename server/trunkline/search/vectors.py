"""
Vectors of texts: those that were made before out of the database, the others anew.

A vector is kept by the hash of its text and by its model, so a catalog that is loaded again, or by
another process, costs no embedding. Without a database everything is embedded; nothing depends on
it.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from trunkline.errors import StorageError
from trunkline.search.embedding.embedding import Embedding
from trunkline.storage.repositories.embeddings import EmbeddingRepository

log = structlog.get_logger(__name__)

WIRE: Final = np.dtype("<f4")
"""How a vector is stored: little-endian float32."""


class Vectors:
    """An embedding with a memory."""

    def __init__(
        self, embedding: Embedding, kept: EmbeddingRepository, is_usable: Callable[[], bool]
    ) -> None:
        """*is_usable* tells whether there is a database to ask."""
        self.embedding = embedding
        self._kept, self._is_usable = kept, is_usable

    async def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row for each text of a tool, in their order. Raises `EmbeddingError`."""
        hashes = [hashlib.sha256(text.encode()).digest() for text in texts]
        known = await self._find(hashes)
        new = {key: text for key, text in zip(hashes, texts, strict=True) if key not in known}
        if new:
            made = await self.embedding.embed(list(new.values()))
            fresh = dict(zip(new, made, strict=True))
            await self._keep(fresh)
            known |= fresh
        empty = np.empty((0, self.embedding.dimensions), np.float32)
        return np.stack([known[key] for key in hashes]) if hashes else empty

    async def _find(self, hashes: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        if not self._is_usable():
            return {}
        try:
            found = await self._kept.find(self.embedding.model, hashes)
        except StorageError as error:
            log.debug("vectors.not_read", code=error.code)
            return {}
        length = self.embedding.dimensions * WIRE.itemsize
        return {
            key: np.frombuffer(vector, WIRE).astype(np.float32)
            for key, vector in found.items()
            if len(vector) == length
        }

    async def _keep(self, vectors: dict[bytes, NDArray[np.float32]]) -> None:
        if not self._is_usable():
            return
        try:
            kept = {key: vector.astype(WIRE).tobytes() for key, vector in vectors.items()}
            await self._kept.keep(self.embedding.model, kept)
        except StorageError as error:
            log.debug("vectors.not_kept", code=error.code)

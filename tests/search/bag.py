"""An embedding that is right where words are the same: terms counted in hashed places."""

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from trunkline.search.terms import split_terms


class BagOfTerms:
    """Counts terms. *same* maps a term to the one it means the same as."""

    model = "bag-of-terms"
    dimensions = 512

    def __init__(self, same: Mapping[str, str] | None = None) -> None:
        self._same = same or {}

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        vectors = [self._vector(text) for text in texts]
        return np.reshape(vectors, (len(texts), self.dimensions)).astype(np.float32)

    def _vector(self, text: str) -> NDArray[np.float32]:
        vector = np.zeros(self.dimensions, np.float32)
        for term in split_terms(text):
            vector[crc32(self._same.get(term, term).encode()) % self.dimensions] += 1
        length = float(np.linalg.norm(vector))
        return vector / length if length else vector

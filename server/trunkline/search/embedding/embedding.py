"""
What every embedding can do, whichever of the three it is.

The indexer asks for documents, many at a time and in the background; a search asks for one query
and waits. Vectors are kept by the hash of their text and by `model`, so whatever changes a vector
changes that name as well.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Embedding(Protocol):
    """Texts in, vectors out."""

    @property
    def model(self) -> str:
        """Name and version. Vectors of one model are never compared with those of another."""
        ...

    @property
    def dimensions(self) -> int:
        """How long a vector is."""
        ...

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """
        One row per text, in their order, each of length one.

        A text that says nothing this model knows (empty, only emoji, another script) is a row of
        zeros: equally far from everything. *query* tells the texts of people from those of tools.
        Raises `EmbeddingError`.
        """
        ...

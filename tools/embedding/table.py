"""
The table while it is taught: rows and weights, and the gradient of one loss.

A text is the sum of its tokens' rows, each times the token's weight, brought to length one. Weights
are kept as logarithms, and separately for requests and tools: most of what can be learnt from few
pairs is which words to listen to, and that carries over to tools never seen.

The loss is the symmetric cross entropy of finding each request's tool among the batch's, and back
(InfoNCE: van den Oord et al., 2018, arXiv:1807.03748). Adam keeps one second moment for a row.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from trunkline.search.embedding.wordpiece import WordPiece

Floats = NDArray[np.float32]
Bags = Any
"""A sparse matrix (CSR): how often each token occurs in each text."""

TOOL, REQUEST = 0, 1
"""The rows of the weights."""

SHARPNESS: Final = 10.0
"""What cosines are multiplied with before they compete."""

MOMENTUM: Final = 0.9
SECOND_MOMENTUM: Final = 0.99
TINY: Final = 1e-8


def count(tokenizer: WordPiece, texts: Sequence[str], width: int) -> Bags:
    """The bags of *texts*."""
    bounds, tokens, counts = [0], list[int](), list[int]()
    for text in texts:
        bag = Counter(tokenizer.encode(text))
        tokens += bag.keys()
        counts += bag.values()
        bounds.append(len(tokens))
    return sparse.csr_matrix(
        (np.array(counts, np.float32), tokens, bounds), shape=(len(texts), width)
    )


def unit(rows: Floats) -> tuple[Floats, Floats]:
    """*rows* of length one, and what their lengths were."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
    return rows / lengths, lengths


class Table:
    """Rows and weights of every token."""

    def __init__(self, rows: Floats) -> None:
        self.rows = rows.copy()
        self.weights = np.zeros((2, len(rows)), np.float32)
        """Logarithms."""

        self._row_mean, self._row_square = np.zeros_like(self.rows), np.zeros(len(rows), np.float32)
        self._weight_mean = np.zeros_like(self.weights)
        self._weight_square = np.zeros_like(self.weights)

    def embed(self, bags: Bags, side: int) -> Floats:
        weighted = bags.multiply(np.exp(self.weights[side])[None, :]).tocsr()
        return unit(weighted @ self.rows)[0]

    def learn(
        self,
        tools: Bags,
        requests: Bags,
        same: NDArray[np.bool_],
        *,
        rate: float,
        weight_rate: float,
    ) -> None:
        """One step on a batch. *same* marks the pairs of different rows that are no mistakes."""
        tokens = np.union1d(tools.indices, requests.indices)
        rows, gradient = self.rows[tokens], np.zeros((len(tokens), self.rows.shape[1]), np.float32)
        bags = [self._narrow(bag, side, tokens) for side, bag in enumerate((tools, requests))]
        vectors, lengths = zip(*(unit(bag @ rows) for bag in bags), strict=True)
        pull = _pull(vectors[REQUEST] @ vectors[TOOL].T, same)
        pulls = (pull.T @ vectors[REQUEST], pull @ vectors[TOOL])
        for side, (bag, vector, length, towards) in enumerate(
            zip(bags, vectors, lengths, pulls, strict=True)
        ):
            # What points along the vector is lost when it is brought to length one.
            across = (towards - vector * (vector * towards).sum(1, keepdims=True)) / length
            of_rows = bag.T @ across
            gradient += of_rows
            self._step_weights(side, tokens, (of_rows * rows).sum(1), weight_rate)
        self._step_rows(tokens, gradient, rate)

    def between(self, start: Floats, share: float) -> "Table":
        """
        The table *share* of the way from where it started.

        Halfway keeps what was learnt and more of what was known (Wortsman et al., "Robust
        fine-tuning of zero-shot models", 2022, arXiv:2109.01903).
        """
        table = Table((start + share * (self.rows - start)).astype(np.float32))
        table.weights = (share * self.weights).astype(np.float32)
        return table

    def _narrow(self, bags: Bags, side: int, tokens: NDArray[np.int32]) -> Bags:
        """*bags*, weighted, over the tokens of this batch alone."""
        values = bags.data * np.exp(self.weights[side][bags.indices])
        columns = np.searchsorted(tokens, bags.indices)
        return sparse.csr_matrix((values, columns, bags.indptr), shape=(bags.shape[0], len(tokens)))

    def _step_weights(
        self, side: int, tokens: NDArray[np.int32], gradient: Floats, rate: float
    ) -> None:
        mean, square = self._weight_mean[side], self._weight_square[side]
        mean[tokens] = MOMENTUM * mean[tokens] + (1 - MOMENTUM) * gradient
        square[tokens] = SECOND_MOMENTUM * square[tokens] + (1 - SECOND_MOMENTUM) * gradient**2
        self.weights[side][tokens] -= rate * mean[tokens] / (np.sqrt(square[tokens]) + TINY)

    def _step_rows(self, tokens: NDArray[np.int32], gradient: Floats, rate: float) -> None:
        mean, square = self._row_mean, self._row_square
        mean[tokens] = MOMENTUM * mean[tokens] + (1 - MOMENTUM) * gradient
        square[tokens] = SECOND_MOMENTUM * square[tokens] + (1 - SECOND_MOMENTUM) * (
            gradient**2
        ).mean(1)
        self.rows[tokens] -= rate * mean[tokens] / (np.sqrt(square[tokens]) + TINY)[:, None]


def _pull(cosines: Floats, same: NDArray[np.bool_]) -> Floats:
    """The gradient of the loss by each cosine of request and tool."""
    logits = np.where(same, -1e4, SHARPNESS * cosines)
    wanted = np.eye(len(cosines), dtype=np.float32)
    both = (_softmax(logits) - wanted) + (_softmax(logits.T) - wanted).T
    return (both * (SHARPNESS / (2 * len(cosines)))).astype(np.float32)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)

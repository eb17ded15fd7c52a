"""Qdrant's index: the same answers from the client's local mode, over HTTP, and from a server."""

import math
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import anyio
import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient, models

from tests.index.contract import IndexContract
from tests.index.qdrant_filling import (
    ACME,
    GLOBEX,
    OTHER,
    QUICK,
    SPACE,
    WIDER,
    point,
    query,
    ref,
    vector,
)
from tests.index.qdrant_stand_in import stand_in
from trunkline.errors import (
    IndexMismatch,
    IndexNotFilled,
    PointIdMissing,
    PointIdOverflow,
)
from trunkline.index.index import Match, Query, Ref
from trunkline.index.qdrant import QdrantIndex
from trunkline.index.qdrant_connection import connect
from trunkline.index.qdrant_schema import Space

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

SERVER = os.environ.get("TEST_QDRANT_URL")


@pytest.fixture(
    params=[
        "local",
        "http",
        pytest.param(
            "server", marks=pytest.mark.skipif(SERVER is None, reason="TEST_QDRANT_URL is not set")
        ),
    ]
)
async def client(request: pytest.FixtureRequest) -> AsyncIterator[AsyncQdrantClient]:
    """A Qdrant of each sort."""
    if request.param == "local":
        client = AsyncQdrantClient(":memory:")
        yield client
        await client.close()
    elif request.param == "http":
        async with stand_in() as server, connect(server.url) as client:
            yield client
    else:
        assert SERVER is not None
        async with connect(SERVER, api_key=os.environ.get("TEST_QDRANT_API_KEY")) as client:
            yield client


@pytest.fixture
async def prefix(client: AsyncQdrantClient) -> AsyncIterator[str]:
    """A name of this test's own."""
    prefix = f"test_{uuid4().hex[:12]}"
    yield prefix
    for found in (await client.get_collections()).collections:
        if found.name.startswith(prefix):
            await client.delete_collection(found.name)


@pytest.fixture
async def index(client: AsyncQdrantClient, prefix: str) -> QdrantIndex:
    """An empty index that is searched."""
    return await opened(client, prefix)


class TestQdrantIndex(IndexContract):
    """Qdrant keeps the promises of every index."""

    @pytest.fixture
    async def index(self, client: AsyncQdrantClient, prefix: str) -> QdrantIndex:
        return await opened(client, prefix)


async def opened(client: AsyncQdrantClient, prefix: str) -> QdrantIndex:
    index = QdrantIndex(client, SPACE, prefix=prefix, backoff=QUICK)
    assert not await index.prepare()
    await index.switch()
    return index


def names(matches: list[Match]) -> list[str]:
    return [match.ref.own_name for match in matches]


async def found(index: QdrantIndex, asked: Query) -> set[str]:
    return set(names(await index.search(asked)))


async def held(index: QdrantIndex) -> dict[Ref, bytes]:
    return {ref: digest async for ref, digest in index.contents()}


# -- what an index does -----------------------------------------------------------------------


async def test_one_way_of_asking_tells_its_own_score(index: QdrantIndex) -> None:
    await index.upsert([point(1, "send letter"), point(2, "read inbox")])

    (by_words,) = await index.search(query("letter", vector=None))
    by_vector = await index.search(query("", vector=vector("send letter"), terms={}))

    assert by_words.lexical == by_words.score > 0
    assert by_vector[0].dense == pytest.approx(1.0, abs=1e-5)
    assert by_words.dense is by_vector[0].lexical is None


async def test_a_word_in_a_short_text_weighs_more_than_in_a_long_one(index: QdrantIndex) -> None:
    long_text = " ".join(f"word{number}" for number in range(200))
    await index.upsert([point(1, f"long {long_text} letter"), point(2, "short letter")])

    assert names(await index.search(query("letter", vector=None))) == ["short", "long"]


async def test_an_answer_leads_back_to_the_whole_item(index: QdrantIndex) -> None:
    uri = "file:///tmp/{naïve}/天気?x=1#y"
    stored = point(7, "forecast", org=ACME, kind="templates", server="wetter ☂")
    stored = replace(stored, ref=replace(stored.ref, own_name=uri))
    await index.upsert([stored])

    (match,) = await index.search(query("forecast", org=ACME))

    assert match.ref == stored.ref
    assert match.ref.db_id == 7
    assert await held(index) == {stored.ref: stored.content_hash}


async def test_an_organisation_finds_its_own_and_everybodys_and_no_more(index: QdrantIndex) -> None:
    await index.upsert(
        [
            point(1, "ours letter", org=ACME),
            point(2, "theirs letter", org=GLOBEX),
            point(3, "everybodys letter"),
        ]
    )
    ways: list[dict[str, Any]] = [{}, {"vector": None}, {"terms": {}}, {"boosts": {"mail": 1.0}}]

    for more in ways:
        assert await found(index, query("letter", org=ACME, **more)) == {"ours", "everybodys"}
        assert await found(index, query("letter", org=GLOBEX, **more)) == {"theirs", "everybodys"}
        assert await found(index, query("letter", **more)) == {"everybodys"}


async def test_a_boost_moves_the_points_of_a_skill_up(index: QdrantIndex) -> None:
    await index.upsert(
        [
            point(1, "send letter letter"),
            point(2, "send letter", skills=("email",)),
            *(point(number, f"other{number} thing") for number in range(3, 20)),
        ]
    )
    asked = query("letter letter")

    assert names(await index.search(asked))[:2] == ["send", "send"]
    plain = await index.search(asked)
    boosted = await index.search(replace(asked, boosts={"email": 3.0}))

    assert (plain[0].ref.db_id, boosted[0].ref.db_id) == (1, 2)


async def test_of_a_points_boosts_the_best_counts_and_only_that(index: QdrantIndex) -> None:
    await index.upsert(
        [
            point(1, "both letter", skills=("small", "great")),
            point(2, "great letter", skills=("great",)),
            point(3, "small letter", skills=("small",)),
            point(4, "none letter"),
        ]
    )
    boosts = {"small": 0.6, "great": 1.2, "unheard": 9.0}
    asked = query("letter", terms={"letter": 1.0}, vector=None)

    matches = await index.search(replace(asked, boosts=boosts))
    score = {match.ref.own_name: match.score for match in matches}

    # One list was asked: a standard deviation is a sixth.
    assert score["both"] == pytest.approx(score["great"])
    assert score["great"] - score["none"] == pytest.approx(0.2, abs=1e-4)
    assert score["small"] - score["none"] == pytest.approx(0.1, abs=1e-4)


async def test_of_several_vectors_the_nearest_counts(index: QdrantIndex) -> None:
    await index.upsert([point(1, "aaaa"), point(2, "dddd"), point(3, "abcdefgh")])
    both = np.stack([vector("aaaa"), vector("dddd")])

    by_vectors = await index.search(query("", vector=both, terms={}))
    fused = await index.search(query("dddd", vector=both))

    assert names(by_vectors) == ["aaaa", "dddd", "abcdefgh"]
    assert by_vectors[0].dense is None
    assert by_vectors[0].score == pytest.approx(by_vectors[1].score)
    assert names(fused)[0] == "dddd"


async def test_a_limit_beyond_what_is_usually_fused_is_kept(index: QdrantIndex) -> None:
    await index.upsert([point(number, f"tool{number} letter") for number in range(1, 601)])

    assert len(await index.search(query("letter", limit=550))) == 550
    by_words = query("letter", vector=None, boosts={"email": 1.0}, limit=550)
    assert len(await index.search(by_words)) == 550
    assert len(await index.search(query("letter", limit=-1))) == 0


async def test_a_point_without_words_is_found_by_its_vector(index: QdrantIndex) -> None:
    await index.upsert([replace(point(1, "send letter"), terms={})])

    assert await found(index, query("send letter")) == {"send"}


async def test_words_that_cannot_be_counted_or_written_harm_nothing(index: QdrantIndex) -> None:
    odd = {"letter": 1.0, "none": 0.0, "less": -1.0, "endless": math.inf, "nan": math.nan}
    await index.upsert([replace(point(1, "send"), terms=odd | {"\ud83d": 1.0})])
    uncounted = ("none", "less", "endless", "nan")

    assert await found(index, query("letter \ud83d", vector=None)) == {"send"}
    assert [await found(index, query(word, vector=None)) for word in uncounted] == [set()] * 4


async def test_adding_nothing_is_no_error(index: QdrantIndex) -> None:
    await index.upsert([])

    assert await index.count() == 0


async def test_no_score_shows_what_other_organisations_have(index: QdrantIndex) -> None:
    await index.upsert([point(1, "send letter"), point(2, "read inbox"), point(3, "zip folder")])
    ways = [query("letter inbox", org=ACME), query("letter", org=ACME, vector=None)]

    async def scores() -> list[float]:
        return [match.score for asked in ways for match in await index.search(asked)]

    before = await scores()
    await index.upsert([point(n, f"tool{n} letter", org=GLOBEX) for n in range(10, 60)])

    assert await scores() == pytest.approx(before)


# -- what cannot be stored ----------------------------------------------------------------------


async def test_an_item_without_a_row_is_refused_by_name_and_the_others_are_not(
    index: QdrantIndex,
) -> None:
    rowless = replace(ref(1, "send"), db_id=None)

    with pytest.raises(PointIdMissing, match="'send' of 'mail'"):
        await index.upsert([replace(point(1, "send"), ref=rowless), point(2, "read")])
    with pytest.raises(PointIdMissing, match="'send' of 'mail'"):
        await index.delete([rowless])

    assert set(await held(index)) == {ref(2, "read")}


async def test_an_item_beyond_the_last_id_is_refused_by_name_and_the_others_are_not(
    index: QdrantIndex,
) -> None:
    far = point(1_000_000, "far")

    with pytest.raises(PointIdOverflow, match=r"db_id=1000000 exceeds .* 'far' of 'mail'"):
        await index.upsert([point(1, "near"), far, point(999_999, "last")])
    await index.delete([far.ref])

    assert {one.db_id for one in await held(index)} == {1, 999_999}


async def test_a_vector_of_another_dimension_is_refused(index: QdrantIndex) -> None:
    with pytest.raises(IndexMismatch, match="has 16 dimensions, and letters has 8"):
        await index.upsert([replace(point(1, "send"), vector=vector("send", 16))])
    with pytest.raises(IndexMismatch, match="the query has 16 dimensions"):
        await index.search(query("send", vector=vector("send", 16)))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
async def test_a_vector_without_a_direction_is_as_none(index: QdrantIndex, value: float) -> None:
    nowhere = np.full(8, value, np.float32)
    await index.upsert([point(1, "send letter"), replace(point(2, "read"), vector=nowhere)])

    assert await found(index, query("letter", vector=nowhere)) == {"send"}
    assert await found(index, query("read", vector=None)) == {"read"}
    assert await found(index, query("", vector=vector("read"), terms={})) == {"send"}
    assert await found(index, query("", vector=nowhere, terms={})) == set()


# -- collections --------------------------------------------------------------------------------


async def test_preparing_again_changes_nothing(index: QdrantIndex) -> None:
    await index.upsert([point(1, "send letter")])

    assert await index.prepare()
    await index.switch()

    assert await found(index, query("letter")) == {"send"}


async def test_two_processes_may_prepare_at_once(client: AsyncQdrantClient, prefix: str) -> None:
    ours, theirs = (QdrantIndex(client, SPACE, prefix=prefix, backoff=QUICK) for _ in range(2))

    async with anyio.create_task_group() as group:
        group.start_soon(ours.prepare)
        group.start_soon(theirs.prepare)
    await ours.switch()
    await ours.upsert([point(1, "send letter")])

    assert await found(theirs, query("letter")) == {"send"}


async def test_nothing_is_searched_before_the_first_switch(
    client: AsyncQdrantClient, prefix: str
) -> None:
    index = QdrantIndex(client, SPACE, prefix=prefix, backoff=QUICK)
    await index.upsert([point(1, "send letter")])

    with pytest.raises(IndexNotFilled):
        await index.search(query("letter"))
    await index.switch()

    assert await found(index, query("letter")) == {"send"}


COSINE, DOT = models.Distance.COSINE, models.Distance.DOT
RARITY = models.SparseVectorParams(modifier=models.Modifier.IDF)


@pytest.mark.parametrize(
    ("vectors", "sparse", "said"),
    [
        ({SPACE.dense: (5, COSINE)}, {"sparse": RARITY}, "is for 5 dimensions, .* has 8"),
        ({SPACE.dense: (8, DOT)}, {"sparse": RARITY}, "compares by Dot"),
        ({"other": (8, COSINE)}, {"sparse": RARITY}, "not made by Trunkline"),
        ({SPACE.dense: (8, COSINE)}, {"other": RARITY}, "not made by Trunkline"),
        ({SPACE.dense: (8, COSINE)}, {"sparse": models.SparseVectorParams()}, "not made by"),
    ],
)
async def test_a_collection_that_is_for_something_else_is_named_and_left_alone(
    client: AsyncQdrantClient,
    prefix: str,
    vectors: dict[str, tuple[int, models.Distance]],
    sparse: dict[str, models.SparseVectorParams],
    said: str,
) -> None:
    index = QdrantIndex(client, SPACE, prefix=prefix, backoff=QUICK)
    dense = {
        name: models.VectorParams(size=size, distance=distance)
        for name, (size, distance) in vectors.items()
    }
    await client.create_collection(index.collection, dense, sparse)

    with pytest.raises(IndexMismatch, match=f"{index.collection}.* {said}"):
        await index.prepare()

    assert await client.collection_exists(index.collection)


async def test_a_collection_with_one_plain_vector_is_for_something_else(
    client: AsyncQdrantClient, prefix: str
) -> None:
    index = QdrantIndex(client, SPACE, prefix=prefix, backoff=QUICK)
    await client.create_collection(index.collection, models.VectorParams(size=8, distance=COSINE))

    with pytest.raises(IndexMismatch, match="not made by Trunkline"):
        await index.prepare()


@pytest.mark.parametrize("space", [OTHER, WIDER])
async def test_another_models_vectors_are_searched_once_they_are_switched_to(
    client: AsyncQdrantClient, prefix: str, index: QdrantIndex, space: Space
) -> None:
    await index.upsert([point(1, "send letter")])
    fresh = QdrantIndex(client, space, prefix=prefix, backoff=QUICK)
    asked = query("letter", vector=vector("letter", space.dimensions))

    assert not await fresh.prepare()
    again = replace(point(1, "send letter"), vector=vector("send letter", space.dimensions))
    await fresh.upsert([again])
    with pytest.raises(IndexNotFilled):
        await fresh.search(asked)
    assert await found(index, query("letter")) == {"send"}
    await fresh.switch()

    assert await found(fresh, asked) == {"send"}
    assert not await client.collection_exists(index.collection)


@pytest.mark.parametrize("space", [OTHER, WIDER])
async def test_a_process_of_the_old_model_is_told_of_the_switch(
    client: AsyncQdrantClient, prefix: str, index: QdrantIndex, space: Space
) -> None:
    await index.upsert([point(1, "send letter")])
    assert await found(index, query("letter")) == {"send"}

    fresh = QdrantIndex(client, space, prefix=prefix, backoff=QUICK)
    await fresh.prepare()
    await fresh.switch()

    with pytest.raises(IndexNotFilled):
        await index.search(query("letter"))
    with pytest.raises(IndexNotFilled):
        await index.ping()


async def test_what_is_deleted_is_not_found_in_the_old_collection_either(
    client: AsyncQdrantClient, prefix: str, index: QdrantIndex
) -> None:
    await index.upsert([point(1, "send letter"), point(2, "read letter")])
    fresh = QdrantIndex(client, OTHER, prefix=prefix, backoff=QUICK)
    await fresh.prepare()

    await fresh.delete([ref(1, "send")])

    assert await found(index, query("letter")) == {"read"}

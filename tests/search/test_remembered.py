"""Searches that are remembered: what is asked once, what is forgotten when, and for whom."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.search.bag import BagOfTerms
from tests.search.test_strategies import Card
from trunkline.cache.cache import Cache
from trunkline.cache.connection import open_cache
from trunkline.errors import EmbeddingUnavailable, IndexMismatch, IndexUnavailable
from trunkline.index.in_process import InProcessIndex
from trunkline.index.index import Match, Point, Query, Ref
from trunkline.search.remembered import ForgettingIndex, RememberedSearcher
from trunkline.search.skills import SkillCards
from trunkline.search.strategies import STRATEGIES, Searcher, Strategy

pytestmark = pytest.mark.anyio

ACME, GLOBEX = UUID(int=1), UUID(int=2)
EVERYBODY = Query(org=None)
TTL = 60.0


class Asked(InProcessIndex):
    """An index that counts what it is asked."""

    searches = 0
    refuses = False

    async def search(self, query: Query) -> list[Match]:
        self.searches += 1
        if self.refuses:
            raise IndexUnavailable("away")
        return await super().search(query)


class Moody(BagOfTerms):
    """An embedding that can be away."""

    is_away = False

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        if self.is_away:
            raise EmbeddingUnavailable("it is away.")
        return await super().embed(texts, query=query)


class Desk:
    """An index, what is remembered of it, and somebody who asks."""

    def __init__(self, cache: Cache, source: str = "") -> None:
        self.embedding = Moody({"letter": "mail"})
        self.asked = Asked(self.embedding.dimensions)
        self.index = ForgettingIndex(self.asked, cache)
        self.plain = Searcher(self.asked, self.embedding, pause=0)
        self.searcher = RememberedSearcher(self.plain, cache, source=source or uuid4().hex, ttl=TTL)

    async def put(self, name: str, org: UUID | None = None) -> Ref:
        ref = Ref(org, "tools", "post", name, 7)
        (vector,) = await self.embedding.embed([name])
        terms = dict.fromkeys(name.split("_"), 1.0)
        await self.index.upsert([Point(ref=ref, vector=vector, terms=terms)])
        return ref

    async def names(self, words: str, filters: Query = EVERYBODY) -> list[str]:
        answer = await self.searcher.search(words, filters)
        return [match.ref.own_name for match in answer.matches]


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    async with open_cache(None) as cache:
        assert await cache.wait_available(20)
        yield cache


@pytest.fixture
def desk(cache: Cache) -> Desk:
    return Desk(cache)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_remembered_answer_is_the_answer(desk: Desk, strategy: Strategy) -> None:
    await desk.put("send_mail")
    await desk.put("read_mail", ACME)
    cards = await SkillCards.embed(
        [Card("email", "Send a mail."), Card("music", "A song."), Card("sums", "Add.")],
        desk.embedding,
    )
    ask = {"filters": Query(org=ACME), "strategy": strategy, "cards": cards}

    first = await desk.searcher.search("mail", **ask)  # pyright: ignore[reportArgumentType] - as above
    again = await desk.searcher.search("mail", **ask)  # pyright: ignore[reportArgumentType] - as above
    plain = await desk.plain.search("mail", **ask)  # pyright: ignore[reportArgumentType] - as above

    assert [match.ref.own_name for match in plain.matches]
    assert first == again == plain
    assert [match.ref.db_id for match in again.matches] == [7, 7]
    assert desk.asked.searches == 2


async def test_everything_that_is_asked_is_part_of_the_question(desk: Desk) -> None:
    await desk.put("send_mail")
    questions = [
        EVERYBODY,
        Query(org=ACME),
        replace(EVERYBODY, limit=3),
        replace(EVERYBODY, kinds=frozenset({"tools"})),
        replace(EVERYBODY, servers=frozenset({"tools"})),
        replace(EVERYBODY, servers=frozenset({"post"})),
        replace(EVERYBODY, skills=frozenset({"post"})),
    ]

    for question in questions * 2:
        await desk.searcher.search("mail", question)
        await desk.searcher.search("mails", question)
        await desk.searcher.search("mail", question, strategy="lexical")

    assert desk.asked.searches == 3 * len(questions)


async def test_those_who_ask_at_the_same_time_are_answered_by_one_search(desk: Desk) -> None:
    await desk.put("send_mail")

    answers = await asyncio.gather(*(desk.names("mail") for _ in range(100)))

    assert answers == [["send_mail"]] * 100
    assert desk.asked.searches == 1


async def test_what_has_come_is_found_and_what_has_left_is_not(desk: Desk) -> None:
    first = await desk.put("send_mail")
    before = await desk.names("mail")

    await desk.put("read_mail")
    both = await desk.names("mail")
    await desk.index.delete([first])
    left = await desk.names("mail")

    assert before == ["send_mail"]
    assert sorted(both) == ["read_mail", "send_mail"]
    assert left == ["read_mail"]


async def test_a_change_of_one_org_costs_no_other_its_answers(desk: Desk) -> None:
    await desk.put("send_mail")
    await desk.names("mail", Query(org=GLOBEX))

    await desk.put("read_mail", ACME)

    assert await desk.names("mail", Query(org=GLOBEX)) == ["send_mail"]
    assert desk.asked.searches == 1
    assert "read_mail" in await desk.names("mail", Query(org=ACME))


async def test_a_change_of_what_is_global_is_everybodys(desk: Desk) -> None:
    await desk.names("mail", Query(org=ACME))

    await desk.put("send_mail")

    assert await desk.names("mail", Query(org=ACME)) == ["send_mail"]


async def test_a_change_that_fails_half_way_has_everything_forgotten_too(desk: Desk) -> None:
    await desk.put("send_mail")
    await desk.names("mail")
    odd = Point(ref=Ref(None, "tools", "post", "odd"), vector=np.zeros(3, np.float32), terms={})

    with pytest.raises(IndexMismatch):
        await desk.index.upsert([odd])
    await desk.names("mail")

    assert desk.asked.searches == 2


async def test_an_answer_without_its_embedding_is_not_kept(desk: Desk) -> None:
    await desk.put("send_mail")
    desk.embedding.is_away = True
    without = await desk.searcher.search("mail", EVERYBODY)
    desk.embedding.is_away = False

    answer = await desk.searcher.search("mail", EVERYBODY)

    assert (without.degraded, answer.degraded) == (True, False)


async def test_a_failure_is_the_askers_and_is_not_kept(desk: Desk) -> None:
    await desk.put("send_mail")
    desk.asked.refuses = True
    with pytest.raises(IndexUnavailable):
        await desk.names("mail")
    desk.asked.refuses = False

    assert await desk.names("mail") == ["send_mail"]


async def test_indexes_of_two_processes_do_not_answer_for_each_other(cache: Cache) -> None:
    one, other = Desk(cache), Desk(cache)
    await one.put("send_mail")

    assert await one.names("mail") == ["send_mail"]
    assert await other.names("mail") == []


async def test_one_index_of_many_processes_is_asked_once_for_all(cache: Cache) -> None:
    one, other = Desk(cache, "shared"), Desk(cache, "shared")
    await one.put("send_mail")

    assert await one.names("mail") == await other.names("mail") == ["send_mail"]
    assert (one.asked.searches, other.asked.searches) == (1, 0)

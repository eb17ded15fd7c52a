"""The strategies against a real index: what each finds, and what happens when one is away."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import uuid4

import anyio
import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from tests.search.bag import BagOfTerms
from trunkline.errors import EmbeddingUnavailable, IndexUnavailable
from trunkline.index.fallback import FallbackIndex
from trunkline.index.in_process import InProcessIndex
from trunkline.index.index import Match, Point, Query, Ref
from trunkline.search.classification import OfflineClassifier
from trunkline.search.skills import SkillCards
from trunkline.search.strategies import STRATEGIES, Answer, Searcher, Strategy
from trunkline.search.text import ItemText

pytestmark = pytest.mark.anyio

EVERYBODY = Query(org=None)
SAME = {"letter": "email", "mail": "email"}


class Card(NamedTuple):
    name: str
    description: str
    keywords: Sequence[str] = ()


CARDS = [
    Card("email", "Send and read an email.", ["email", "inbox"]),
    Card("weather", "The weather and its forecast.", ["rain", "storm"]),
    Card("music", "Play songs and albums.", ["song", "album"]),
    Card("maths", "Add and multiply numbers.", ["sum", "product"]),
    Card("travel", "Book flights and hotels.", ["flight", "hotel"]),
    Card("cooking", "Recipes for dinner.", ["recipe", "dish"]),
    Card("money", "Pay and transfer.", ["payment", "bank"]),
    Card("health", "Doctors and exercise.", ["doctor", "diet"]),
]

TOOLS = {
    "send_email": "Send an email to somebody.",
    "read_inbox": "Read the inbox of an email account.",
    "forecast": "The weather forecast for a city.",
    "storms": "Where a storm and rain are now.",
    "play": "Play a song of an album.",
    "book": "Book a flight to a city.",
    "zwölf": "Xyzzy plugh.",
}


@dataclass(frozen=True)
class Shelf:
    """An index with the tools above, and all that it takes to ask it."""

    index: InProcessIndex
    cards: SkillCards
    embedding: BagOfTerms

    async def search(
        self, words: str, strategy: Strategy = "hybrid", filters: Query = EVERYBODY
    ) -> Answer:
        searcher = Searcher(self.index, self.embedding)
        return await searcher.search(words, filters, strategy=strategy, cards=self.cards)


async def points(
    embedding: BagOfTerms, cards: SkillCards, tools: Mapping[str, str], ref: Ref
) -> list[Point]:
    """Points of tools, made as the indexer makes them, under a reference like *ref*."""
    texts = [
        ItemText.of("tools", {"name": name, "description": about}, server=ref.server)
        for name, about in tools.items()
    ]
    vectors = await embedding.embed([text.dense for text in texts])
    skills = await OfflineClassifier(cards).classify([text.dense for text in texts], vectors)
    return [
        Point(
            ref=Ref(ref.org, ref.kind, ref.server, text.name),
            vector=vector,
            terms=text.count_terms(),
            skills=[skill.name for skill in those],
        )
        for text, vector, those in zip(texts, vectors, skills, strict=True)
    ]


@pytest.fixture
async def shelf() -> Shelf:
    embedding = BagOfTerms(SAME)
    cards = await SkillCards.embed(CARDS, embedding)
    index = InProcessIndex(embedding.dimensions)
    await index.upsert(await points(embedding, cards, TOOLS, Ref(None, "tools", "things", "")))
    return Shelf(index, cards, embedding)


def names(answer: Answer) -> list[str]:
    return [match.ref.own_name for match in answer.matches]


async def test_lexical_knows_words_and_semantic_knows_what_they_mean(shelf: Shelf) -> None:
    words = "letter"

    lexical, semantic = [await shelf.search(words, one) for one in ("lexical", "semantic")]

    assert names(lexical) == []
    assert names(semantic)[0] in ("send_email", "read_inbox")
    assert (lexical.strategy, semantic.strategy) == ("lexical", "semantic")
    assert all(match.lexical is None for match in semantic.matches)


async def test_hybrid_asks_by_both(shelf: Shelf) -> None:
    answer = await shelf.search("a letter about a storm")

    assert {*names(answer)[:3]} == {"storms", "send_email", "read_inbox"}
    assert answer.matches[0].dense is not None
    assert answer.matches[0].lexical is not None
    assert (answer.degraded, answer.skills) == (False, [])


async def test_hierarchical_tells_the_skills_and_lifts_their_tools(shelf: Shelf) -> None:
    direct = await shelf.search("email")
    staged = await shelf.search("email", "hierarchical")

    assert staged.skills[0][0] == "email"
    assert staged.skills[0][1] >= 0.4
    before = {match.ref.own_name: match.score for match in direct.matches}
    lifted = {
        match.ref.own_name
        for match in staged.matches
        if match.score > before[match.ref.own_name] + 0.1
    }
    assert lifted == {"send_email", "read_inbox"}


async def test_hierarchical_hides_nothing_that_has_another_skill_or_none(shelf: Shelf) -> None:
    answer = await shelf.search("email xyzzy", "hierarchical")

    assert answer.skills
    assert sorted(names(answer)) == sorted(TOOLS)
    assert "zwölf" in names(answer)[:3]


async def test_a_query_that_is_near_to_no_skill_goes_directly(shelf: Shelf) -> None:
    for words in ("xyzzy plugh", "city", "inbox storm song sum"):
        direct, staged = await shelf.search(words), await shelf.search(words, "hierarchical")

        assert staged.skills == []
        assert staged.strategy == "hierarchical"
        assert staged.matches == direct.matches


async def test_a_query_for_several_things_has_the_skills_of_each(shelf: Shelf) -> None:
    words = "The forecast of a storm with rain. Then send it in an email."

    answer = await shelf.search(words, "hierarchical")

    assert {"email", "weather"} <= {name for name, _ in answer.skills}


async def test_hierarchical_without_cards_is_hybrid(shelf: Shelf) -> None:
    searcher = Searcher(shelf.index, shelf.embedding)
    nothing = await SkillCards.embed([], shelf.embedding)

    for cards in (None, nothing):
        answer = await searcher.search("email", EVERYBODY, strategy="hierarchical", cards=cards)

        assert answer.matches == (await shelf.search("email")).matches
        assert answer.skills == []


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_every_strategy_keeps_to_the_filters(shelf: Shelf, strategy: Strategy) -> None:
    org = uuid4()
    tools = {"send_email": "Send an email.", "secret_email": "Send a secret email."}
    for owner, server in ((org, "own"), (uuid4(), "others")):
        ref = Ref(owner, "tools", server, "")
        await shelf.index.upsert(await points(shelf.embedding, shelf.cards, tools, ref))

    for filters, servers in (
        (Query(org=None), {"things"}),
        (Query(org=org), {"things", "own"}),
        (Query(org=org, servers=frozenset({"own"})), {"own"}),
        (Query(org=org, kinds=frozenset({"prompts"})), set[str]()),
        (Query(org=org, skills=frozenset({"email"})), {"things", "own"}),
    ):
        answer = await shelf.search("email", strategy, filters)
        assert {match.ref.server for match in answer.matches} == servers

    answer = await shelf.search("email", strategy, Query(org=org, limit=1))
    assert len(answer.matches) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("words", ["", "   ", "🎉🎉", "the of and", "\ud800\0"])
async def test_words_that_say_nothing_find_nothing(
    shelf: Shelf, strategy: Strategy, words: str
) -> None:
    answer = await shelf.search(words, strategy)

    assert (answer.matches, answer.degraded, answer.skills) == ([], False, [])


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_query_of_a_hundred_thousand_characters_is_answered(
    shelf: Shelf, strategy: Strategy
) -> None:
    with anyio.fail_after(10):
        answer = await shelf.search("send an email. " * 6_667, strategy)

    assert names(answer)[0] == "send_email"


class Moody(BagOfTerms):
    """An embedding that is away, or does not answer, until it is told otherwise."""

    def __init__(self, mood: str) -> None:
        super().__init__(SAME)
        self.mood, self.asked = mood, 0

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        self.asked += 1
        if self.mood == "away":
            raise EmbeddingUnavailable("The endpoint does not answer.")
        if self.mood == "silent":
            await asyncio.Event().wait()
        return await super().embed(texts, query=query)


@pytest.mark.parametrize("mood", ["away", "silent"])
async def test_an_embedding_that_fails_leaves_the_terms(shelf: Shelf, mood: str) -> None:
    embedding = Moody(mood)
    searcher = Searcher(shelf.index, embedding, patience=0.05)

    with capture_logs() as logs, anyio.fail_after(5):
        answers = {
            strategy: await searcher.search(
                "inbox", EVERYBODY, strategy=strategy, cards=shelf.cards
            )
            for strategy in STRATEGIES
        }

    assert {tuple(names(answer)) for answer in answers.values()} == {("read_inbox",)}
    assert {one: answer.degraded for one, answer in answers.items()} == {
        "hybrid": True,
        "hierarchical": True,
        "lexical": False,
        "semantic": True,
    }
    assert [line["event"] for line in logs] == ["search.embedding_down"]
    assert embedding.asked == 1, "a search waited for what was known to be away"


async def test_an_embedding_that_is_back_is_asked_again(shelf: Shelf) -> None:
    embedding = Moody("away")
    searcher = Searcher(shelf.index, embedding, pause=0)

    with capture_logs() as logs:
        first = await searcher.search("letter", EVERYBODY)
        second = await searcher.search("letter", EVERYBODY)
        embedding.mood = "well"
        third = await searcher.search("letter", EVERYBODY)
        fourth = await searcher.search("letter", EVERYBODY)

    assert [one.degraded for one in (first, second, third, fourth)] == [True, True, False, False]
    assert names(third)[0] in ("send_email", "read_inbox")
    assert [line["event"] for line in logs] == ["search.embedding_down", "search.embedding_up"]


class Away(InProcessIndex):
    """An index that is not there."""

    async def search(self, query: Query) -> list[Match]:
        raise IndexUnavailable("ConnectionError")

    async def ping(self) -> None:
        raise IndexUnavailable("ConnectionError")


async def test_an_answer_of_the_index_in_process_is_called_degraded(shelf: Shelf) -> None:
    index = FallbackIndex(Away(shelf.embedding.dimensions), shelf.index)
    searcher = Searcher(index, shelf.embedding)

    answer = await searcher.search("email", EVERYBODY)

    assert names(answer)[0] == "send_email"
    assert answer.degraded

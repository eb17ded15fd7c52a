"""Cards, and the skills that texts have by them."""

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from tests.catalog.real_lists import load_lists
from tests.search.bag import BagOfTerms
from tests.storage.postgres import cluster
from trunkline.search.classification import OfflineClassifier
from trunkline.search.embedding.static import StaticEmbedding
from trunkline.search.skills import MOST, PRIMARY, Skill, SkillCards, choose, primary_of
from trunkline.search.text import ItemText
from trunkline.storage import migrations
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.rows import SkillRow

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def dealt() -> list[SkillRow]:
    """The cards that everybody has, out of a database."""

    async def read(dsn: str) -> list[SkillRow]:
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            async with pool.acquire() as connection:
                await migrations.up(connection)
            return await SkillRepository(pool).list_effective(None)

    with cluster() as running:
        return asyncio.run(read(running.dsn("postgres")))


async def skills_of(cards: Sequence[SkillRow], *texts: str) -> list[list[Skill]]:
    embedding = BagOfTerms()
    embedded = await SkillCards.embed(cards, embedding)
    vectors = await embedding.embed(texts)
    return await OfflineClassifier(embedded).classify(texts, vectors)


async def test_a_tool_has_the_skill_whose_card_it_is_nearest_to(dealt: list[SkillRow]) -> None:
    mail, event = await skills_of(
        dealt,
        "mail: send_draft. Send a draft email to its recipients.",
        "cal: create_event. Create a calendar event and invite attendees to the meeting.",
    )

    assert mail[0].name == "email"
    assert event[0].name == "calendar"
    assert mail[0].confidence >= PRIMARY
    assert event[0].confidence >= PRIMARY


async def test_a_text_that_says_nothing_has_no_skill(dealt: list[SkillRow]) -> None:
    assert await skills_of(dealt, "", "🎉🎉🎉", "the of and") == [[], [], []]


async def test_without_cards_nothing_has_a_skill() -> None:
    assert await skills_of([], "send an email") == [[]]
    assert await skills_of([]) == []


async def test_confidence_is_between_nothing_and_certainty_and_of_each_text_alone(
    dealt: list[SkillRow],
) -> None:
    cards = await SkillCards.embed(dealt, BagOfTerms())
    vectors = np.random.default_rng(1).normal(size=(200, BagOfTerms.dimensions)).astype(np.float32)
    vectors[7] = 0

    together = cards.confidences(vectors)

    assert together.shape == (200, 24)
    assert ((together >= 0) & (together <= 1)).all()
    assert (together[7] == 0).all()
    alone = np.concatenate([cards.confidences(vector[None]) for vector in vectors])
    assert together == pytest.approx(alone, abs=1e-4)


async def test_a_card_of_few_words_does(dealt: list[SkillRow]) -> None:
    bare = SkillRow(99, None, "chess", "")

    ((chess, *_),) = await skills_of([*dealt, bare], "play chess")

    assert chess.name == "chess"


async def test_many_tools_are_classified_like_one(dealt: list[SkillRow]) -> None:
    text = "mail: send. Send an email."
    ((*alone,),) = await skills_of(dealt, text)

    together = await skills_of(dealt, *[text] * 1_201)

    assert len(together) == 1_201
    for skills in together:
        assert [skill.name for skill in skills] == [skill.name for skill in alone]


def test_the_surest_skills_are_chosen_and_no_more_than_three() -> None:
    confidences = {"d": 0.3, "c": 0.9, "b": 0.9, "a": 0.1, "e": 0.25}

    chosen = choose(confidences.items())

    assert chosen == [Skill("b", 0.9), Skill("c", 0.9), Skill("d", 0.3)]
    assert len(chosen) == MOST


@pytest.mark.parametrize(
    ("confidences", "name"), [([], None), ([0.49], None), ([0.5, 0.4], "skill0"), ([1.0], "skill0")]
)
def test_the_surest_skill_is_the_primary_one_from_a_half(
    confidences: list[float], name: str | None
) -> None:
    skills = [Skill(f"skill{place}", one) for place, one in enumerate(confidences)]

    primary = primary_of(skills)

    assert (primary.name if primary else None) == name


ROOT = Path(__file__).parents[2]
LABELS = ROOT / "tests" / "data" / "skill_labels.json"
"""By set and tool: the skills that fit the tool, the best one first."""

SETS = Path(os.environ.get("TRUNKLINE_RETRIEVAL", ROOT.parent / "shared/retrieval"))


def judged(name: str) -> Iterator[tuple[str, list[str]]]:
    """The text and the accepted skills of each judged tool of a set that is there."""
    labels = json.loads(LABELS.read_text())[name]
    if name == "real_catalogue":
        for server, tools in load_lists().items():
            for tool in tools:
                if tool["name"] in labels.get(server, {}):
                    text = ItemText.of("tools", tool, server=server)
                    yield text.dense, labels[server][tool["name"]]
        return
    path = SETS / "toucan_catalogue" / "tools.jsonl"
    for line in path.read_text("utf-8").splitlines() if path.is_file() else []:
        tool = json.loads(line)
        if tool["id"] in labels:
            yield ItemText.of("tools", tool, server=tool["server"]).dense, labels[tool["id"]]


def test_every_judged_tool_has_skills_that_exist(dealt: list[SkillRow]) -> None:
    labels = json.loads(LABELS.read_text())
    by_server = labels.pop("real_catalogue").values()

    accepted = [skills for tools in (*by_server, *labels.values()) for skills in tools.values()]

    assert len(accepted) == 160 + 131 + 97
    assert {name for skills in accepted for name in skills} <= {card.name for card in dealt}


@pytest.mark.parametrize(
    ("name", "first", "sure"),
    [
        ("real_catalogue", 0.75, 0.8),
        ("toucan_catalogue", 0.6, 0.65),
        ("toucan_catalogue_unseen", 0.55, 0.6),
    ],
)
async def test_real_tools_get_skills_that_fit_them(
    dealt: list[SkillRow], name: str, first: float, sure: float
) -> None:
    tools = list(judged(name))
    if not tools:
        pytest.skip(f"{name} is not beside this checkout")
    embedding = StaticEmbedding()
    cards = await SkillCards.embed(dealt, embedding)
    confidences = cards.confidences(await embedding.embed([text for text, _ in tools]))

    best = confidences.argmax(axis=1)
    right = np.array([cards.names[place] in ok for place, (_, ok) in zip(best, tools, strict=True)])
    fitting = np.array([bool(accepted) for _, accepted in tools])
    primary = confidences.max(axis=1) >= PRIMARY

    assert right[fitting].mean() >= first
    assert right[primary].mean() >= sure
    assert confidences.max(axis=1)[fitting].mean() == pytest.approx(right[fitting].mean(), abs=0.1)

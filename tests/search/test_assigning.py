"""The skills of tools as rows: by the cards, kept by errand, anew when cards change."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.databases import database_of
from trunkline.index.index import Ref
from trunkline.search.assigning import SkillDelivery
from trunkline.search.cards import CardShelf
from trunkline.search.classification import Classifier
from trunkline.search.embedding.static import StaticEmbedding
from trunkline.search.skills import Floats, Skill
from trunkline.search.vectors import Vectors
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.embeddings import EmbeddingRepository
from trunkline.storage.repositories.everything import Everything
from trunkline.storage.repositories.listings import Listed, ListingRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.rows import Errand, Item

pytestmark = pytest.mark.anyio

TOOLS = {
    "send_email": "Send an email message to one or more recipients.",
    "create_event": "Create an event in the calendar and invite people to the meeting.",
    "zzz": "",
}


def always() -> bool:
    return True


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_pool(database_of(tmp_path), DatabaseSettings()) as database:
        await database.wait_available(20)
        yield database


async def stored(database: Database) -> None:
    """A server with three tools."""
    items = [
        Item(name, f"desk__{name}", {"name": name, "description": text})
        for name, text in TOOLS.items()
    ]
    listed = Listed(
        name="desk", origin="file", config={}, position=0, about={"a": 1}, items={"tools": items}
    )
    await ListingRepository(database).sync(None, listed)


async def errands(database: Database) -> list[Errand]:
    return await OutboxRepository(database).claim(100, seconds=60)


def delivery(database: Database, cards: CardShelf, embedding: StaticEmbedding) -> SkillDelivery:
    return SkillDelivery(database, Vectors(embedding, EmbeddingRepository(database), always), cards)


async def skills(database: Database) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in await Everything(database).tool_skills():
        found.setdefault(row.own_name, []).append(row.skill)
    return found


async def test_a_tool_gets_the_skills_of_the_nearest_cards_and_one_of_them_is_primary(
    database: Database,
) -> None:
    embedding = StaticEmbedding()
    cards = CardShelf(database, embedding, always)
    await stored(database)
    await cards.look()

    await delivery(database, cards, embedding).deliver(await errands(database))

    found = await skills(database)
    assert found["send_email"][0] == "email"
    assert found["create_event"][0] == "calendar"
    primaries = await database.fetch(
        "SELECT own_name FROM mcp.tool_skill_assignments JOIN mcp.tools ON tools.id = tool_id "
        "WHERE is_primary ORDER BY own_name"
    )
    assert [row[0] for row in primaries][:2] == ["create_event", "send_email"]


class Model:
    """A classifier that says what nobody else would."""

    def __init__(self) -> None:
        self.asked = 0

    async def classify(self, texts: object, vectors: Floats) -> list[list[Skill]]:
        self.asked += len(vectors)
        return [[Skill("security", 0.9)] for _ in vectors]


async def test_what_a_model_says_is_kept_told_and_not_paid_for_again(database: Database) -> None:
    embedding, model, told = StaticEmbedding(), Model(), list[bool]()

    def make(_cards: object, _offline: Classifier) -> Classifier:
        return model

    cards = CardShelf(database, embedding, always, make)
    cards.on_change = told.append
    await stored(database)
    await cards.look()
    await delivery(database, cards, embedding).deliver(await errands(database))
    ref = Ref(None, "tools", "desk", "send_email")
    vector = (await embedding.embed(["send email"]))[0]

    # Another process reads it, and asks nobody.
    others = CardShelf(database, embedding, always, make)
    await others.look()

    assert model.asked == len(TOOLS)
    assert told[-1] is False
    for shelf in (cards, others):
        assert [skill.name for skill in shelf.skills_of(ref, vector)] == ["security"]


async def test_changed_cards_are_told_and_every_tool_is_looked_at_again(database: Database) -> None:
    embedding, told = StaticEmbedding(), list[bool]()
    cards = CardShelf(database, embedding, always)
    cards.on_change = told.append
    await stored(database)
    await cards.look()
    outbox = OutboxRepository(database)
    await outbox.settle(await errands(database))

    await SkillRepository(database).put(
        None, "gardening", "Plant, water and mow.", keywords=["lawn"]
    )
    await cards.look()
    await outbox.requeue()

    assert told == [False, True]
    assert len(await errands(database)) == len(TOOLS)

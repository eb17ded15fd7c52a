"""The skill cards that hold for an organisation, as the database has them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.databases import database_of
from tests.gateway_under_test import until
from tests.search.searchable import NOWHERE, Counting
from tests.search.stored import Stored, stored
from trunkline.errors import EmbeddingUnavailable
from trunkline.search.cards import CardShelf
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import open_pool
from trunkline.storage.repositories.skills import SkillRepository

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

SKILLS = 24
"""Those that the migrations bring."""


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Stored]:
    async with stored(database_of(tmp_path)) as it:
        yield it


async def test_there_are_none_until_the_database_has_been_seen(it: Stored) -> None:
    assert it.cards.of(None) is None

    await it.cards.look()

    cards = it.cards.of(None)
    assert cards is not None
    assert len(cards.names) == SKILLS


async def test_cards_are_embedded_once_and_again_when_they_change(it: Stored) -> None:
    told: list[object] = []
    it.cards.on_change = lambda *what: told.append(what)

    await it.cards.look()
    first = len(it.embedding.texts)
    await it.cards.look()
    await SkillRepository(it.database).put(None, "falconry", "Train falcons.", keywords=["hawk"])
    await it.cards.look()

    cards = it.cards.of(None)
    assert cards is not None
    assert "falconry" in cards.names
    assert first > SKILLS
    assert "Train falcons." in it.embedding.texts[first:]
    assert len(told) == 2


async def test_an_organisations_own_card_stands_before_the_global_one_and_only_for_it(
    it: Stored,
) -> None:
    acme = await it.make_org("acme")
    await it.cards.look()
    everybodys = it.cards.of(None)
    assert everybodys is not None
    name = everybodys.names[0]
    await SkillRepository(it.database).put(acme, name, "Train falcons.", keywords=["hawk"])

    until_read = it.cards.of(acme)
    await it.cards.look()
    own = it.cards.of(acme)
    vector = await it.embedding.embed(["train falcons hawk"])

    assert own is not None
    assert until_read is everybodys
    assert own.names == everybodys.names
    assert own.skills_of(vector)[0][0].name == name
    assert name not in [skill.name for skill in everybodys.skills_of(vector)[0]]


async def test_an_embedding_that_is_away_leaves_the_cards_as_they_were(it: Stored) -> None:
    await it.cards.look()
    before = it.cards.of(None)
    it.embedding.is_away = True
    await SkillRepository(it.database).put(None, "falconry", "Train falcons.")

    with pytest.raises(EmbeddingUnavailable):
        await it.cards.look()
    assert it.cards.of(None) is before
    it.embedding.is_away = False
    await it.cards.look()

    assert it.cards.of(None) is not before


async def test_they_are_kept_by_itself_as_soon_as_there_is_a_database(it: Stored) -> None:
    there = asyncio.Event()
    shelf = CardShelf(it.database, Counting(), there.is_set)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(shelf.run())
        await asyncio.sleep(0)
        assert shelf.of(None) is None
        there.set()
        await until(lambda: shelf.of(None) is not None)
        running.cancel()


async def test_a_database_that_is_away_costs_nothing_but_the_cards() -> None:
    async with open_pool(NOWHERE, DatabaseSettings(connect_timeout=0.1)) as database:
        embedding = Counting()
        shelf = CardShelf(database, embedding, lambda: True)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(shelf.run())
            await asyncio.wait({running}, timeout=0.5)
            assert not running.done()
            running.cancel()

    assert shelf.of(None) is None
    assert not np.any(embedding.texts)

"""Qdrant filled from the database: whole at the end, whatever happens on the way."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.databases import database_of
from tests.index.qdrant_stand_in import Cut, Status
from tests.search.bag import BagOfTerms
from tests.search.searchable import Counting
from tests.search.stored import Stored, beside, stored
from trunkline.errors import (
    EmbeddingUnavailable,
    IndexFailure,
    IndexNotFilled,
    IndexRefused,
    IndexUnavailable,
)
from trunkline.search.filling import PAGE, Drift

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

MAIL = {"send": "Send a mail.", "read": "Read the mails."}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Stored]:
    async with stored(database_of(tmp_path)) as it:
        yield it


async def test_everything_of_everybody_is_filled_in_and_found(it: Stored) -> None:
    acme = await it.make_org("acme")
    await it.list_items("mail", MAIL)
    await it.list_items("mail", {"write": "Write a mail."}, kind="prompts")
    await it.list_items("mail", {"mail://inbox": "Mails."}, kind="resources")
    await it.list_items("mail", {"mail://{id}": "A mail."}, kind="templates")
    await it.list_items("payroll", {"pay": "Mail the salaries."}, org=acme)

    filled = await it.fill()

    assert filled == await it.filling.total() == 6
    assert it.progress[-1] == 6
    assert str(await it.filling.drift()) == "none"
    assert len(await it.found("mail")) == 5
    assert set(await it.found("mail", acme)) == await it.contents()


async def test_an_empty_catalog_is_filled_too(it: Stored) -> None:
    assert await it.fill() == 0
    assert await it.found("mail") == []
    assert (await it.filling.drift()).is_none


async def test_more_items_than_a_page_has_are_filled_in(it: Stored) -> None:
    await it.list_items("many", {f"tool_{n}": "" for n in range(PAGE + 3)})

    assert await it.fill() == PAGE + 3
    assert it.progress == [PAGE, PAGE + 3]
    assert await it.index.count() == PAGE + 3


async def test_filling_again_embeds_nothing_and_changes_nothing(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    await it.fill()
    embedded, contents = len(it.embedding.texts), await it.contents()

    await it.fill()

    assert len(it.embedding.texts) == embedded
    assert await it.contents() == contents


# -- drift ----------------------------------------------------------------------------------------


async def test_drift_names_what_is_missing_what_is_out_of_date_and_what_is_left(
    it: Stored,
) -> None:
    await it.list_items("mail", MAIL)
    await it.list_items("chat", {"say": "", "shout": ""})
    await it.fill()

    await it.list_items("mail", {"send": "Send a letter.", "read": MAIL["read"], "drop": ""})
    await it.list_items("chat", {"say": ""})
    drift = await it.filling.drift()

    assert drift == Drift(missing=("mail: drop",), outdated=("mail: send",), left=("chat: shout",))
    assert str(drift) == (
        "1 missing (the first is mail: drop); 1 out of date (the first is mail: send); "
        "1 left over (the first is chat: shout)"
    )
    await it.fill()
    assert (await it.filling.drift()).is_none
    assert "chat: shout" not in await it.found("shout")


async def test_a_collection_that_somebody_deleted_is_filled_again(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    await it.fill()
    await it.qdrant.store.delete_collection(it.index.collection)

    with pytest.raises(IndexRefused):
        await it.filling.drift()
    await it.fill()

    assert (await it.filling.drift()).is_none
    assert len(await it.found("mail")) == 2


# -- while it runs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "listed",
    [
        {"send": "Send a letter.", "read": "Read the mails."},
        {"read": "Read the mails."},
        {},
        {"send": "Send a mail.", "read": "Read the mails.", "drop": "Drop a mail."},
    ],
    ids=["changed", "deleted", "all deleted", "added"],
)
async def test_what_is_delivered_while_it_is_filled_is_neither_lost_nor_undone(
    it: Stored, listed: dict[str, str]
) -> None:
    await it.list_items("mail", MAIL)
    await it.deliver_all()

    async def meanwhile() -> None:
        await it.list_items("mail", listed)
        assert await it.deliver_all()

    it.index.meanwhile = meanwhile
    await it.fill()

    assert str(await it.filling.drift()) == "none"
    assert await it.contents() == {f"mail: {own}" for own in listed}


async def test_what_is_new_when_its_kind_has_been_filled_in_already_stays(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    await it.list_items("mail", {"write": "Write a mail."}, kind="prompts")

    async def at_the_tools() -> None:
        it.index.meanwhile = at_the_prompts

    async def at_the_prompts() -> None:
        await it.list_items("chat", {"say": ""})
        assert await it.deliver_all()

    it.index.meanwhile = at_the_tools
    await it.fill()

    assert str(await it.filling.drift()) == "none"
    assert "chat: say" in await it.contents()


async def test_another_model_is_filled_in_beside_and_searches_go_on_until_the_switch(
    it: Stored,
) -> None:
    await it.list_items("mail", MAIL)
    await it.fill()
    other = Counting(BagOfTerms({"mail": "letter"}), model="another")
    during: list[list[str]] = []
    async with beside(it.database, it.qdrant, other) as new:
        with pytest.raises(IndexNotFilled):
            await new.found("letter")

        async def meanwhile() -> None:
            during.append(await it.found("mail"))

        new.index.meanwhile = meanwhile
        await new.fill()
        after = await new.found("letter")
        with pytest.raises(IndexNotFilled):
            await it.found("mail")
        collections = (await it.qdrant.store.get_collections()).collections

    assert sorted(during[0]) == ["mail: read", "mail: send"]
    assert sorted(after) == ["mail: read", "mail: send"]
    assert [one.name for one in collections] == [new.index.collection]


async def test_two_processes_may_fill_at_the_same_time(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    async with beside(it.database, it.qdrant, it.embedding) as other:
        await asyncio.gather(it.fill(), other.fill())

    assert (await it.filling.drift()).is_none
    assert len(await it.found("mail")) == 2


# -- what fails -----------------------------------------------------------------------------------


async def test_an_embedding_that_is_away_stops_it_and_nothing_half_filled_is_searched(
    it: Stored,
) -> None:
    await it.list_items("mail", MAIL)
    it.embedding.is_away = True

    with pytest.raises(EmbeddingUnavailable):
        await it.fill()
    it.embedding.is_away = False
    with pytest.raises(IndexNotFilled):
        await it.found("mail")
    await it.fill()

    assert len(await it.found("mail")) == 2


@pytest.mark.parametrize("fault", [Cut(), Cut(done=True), Status(503), Status(400)])
async def test_a_qdrant_that_fails_stops_it_and_the_next_time_it_is_whole(
    it: Stored, fault: Any
) -> None:
    await it.list_items("mail", MAIL)
    it.qdrant.fail("upsert", fault)

    with pytest.raises(IndexFailure):
        await it.fill()
    with pytest.raises(IndexNotFilled):
        await it.found("mail")
    await it.fill()

    assert (await it.filling.drift()).is_none
    assert len(await it.found("mail")) == 2


async def test_a_qdrant_that_is_restarted_in_the_middle_is_filled_afterwards(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    it.index.meanwhile = it.qdrant.stop

    with pytest.raises(IndexUnavailable):
        await it.fill()
    await it.qdrant.start()
    await it.fill()

    assert (await it.filling.drift()).is_none


async def test_an_item_that_has_no_place_is_left_out_and_named_and_the_others_are_there(
    it: Stored,
) -> None:
    await it.list_items("mail", MAIL)
    await it.database.execute("UPDATE mcp.tools SET id = 1000000 WHERE own_name = 'send'")

    with capture_logs() as logs:
        await it.fill()

    assert await it.found("mail") == ["mail: read"]
    assert (await it.filling.drift()).missing == ("mail: send",)
    (said,) = [entry for entry in logs if entry["event"] == "index.left_out"]
    assert said["code"] == "point_id_overflow"
    assert "send" in said["reason"]

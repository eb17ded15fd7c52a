"""Errands brought to Qdrant: it ends as the catalog is, however often it was away on the way."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.databases import database_of
from tests.index.qdrant_stand_in import Cut, Status
from tests.search.stored import Stored, stored
from trunkline.errors import IndexFailure
from trunkline.models import KINDS, Kind
from trunkline.storage.repositories.outbox import OutboxRepository

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

MAIL = {"send": "Send a mail.", "read": "Read the mails."}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Stored]:
    """A Qdrant that is filled, and searched, before there is anything."""
    async with stored(database_of(tmp_path)) as it:
        await it.fill()
        yield it


async def backlog(it: Stored) -> int:
    return await OutboxRepository(it.database).backlog()


async def rows(it: Stored) -> int:
    """How many rows of tools there are, hidden ones included."""
    return await it.database.fetchval("SELECT count(*) FROM mcp.tools")


async def test_what_is_new_changed_or_gone_is_so_in_the_index(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    assert await it.deliver_all()
    new = await it.found("mail")
    await it.list_items("mail", {"send": "Send a letter."})
    assert await it.deliver_all()

    assert sorted(new) == ["mail: read", "mail: send"]
    assert await it.contents() == {"mail: send"}
    assert (await it.filling.drift()).is_none
    assert await rows(it) == 1


async def test_a_tool_is_found_as_its_organisations_alone(it: Stored) -> None:
    acme, globex = await it.make_org("acme"), await it.make_org("globex")
    await it.list_items("payroll", {"pay": "Pay the salaries."}, org=acme)
    await it.deliver_all()

    assert await it.found("pay", acme) == ["payroll: pay"]
    assert await it.found("pay", globex) == await it.found("pay") == []


async def test_a_server_is_found_by_what_it_calls_itself(it: Stored) -> None:
    await it.list_items("srv1", {"send": "Send."}, server_info={"title": "Pigeon Post"})
    await it.deliver_all()

    assert await it.found("pigeon") == ["srv1: send"]


async def test_a_deleted_tool_is_out_of_the_index_before_its_row_is_gone(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    await it.deliver_all()
    await it.list_items("mail", {})
    it.qdrant.fail("delete", Status(503))

    assert not await it.deliver_all()
    assert (await rows(it), len(await it.contents())) == (2, 2)
    assert await it.deliver_all()
    assert (await rows(it), len(await it.contents())) == (0, 0)


@pytest.mark.parametrize("fault", [Cut(), Cut(done=True), Status(503), Status(429), Status(400)])
async def test_what_qdrant_does_not_take_waits_and_is_brought_again(it: Stored, fault: Any) -> None:
    await it.list_items("mail", MAIL)
    it.qdrant.fail("upsert", fault)

    assert not await it.deliver_all()
    assert await backlog(it) == 2
    assert await it.deliver_all()

    assert (await it.filling.drift()).is_none


async def test_errands_wait_for_a_qdrant_that_is_restarted_in_the_middle(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    it.index.meanwhile = it.qdrant.stop

    assert not await it.deliver_all()
    await it.qdrant.start()
    assert await it.deliver_all()

    assert len(await it.found("mail")) == 2


async def test_errands_wait_for_an_embedding_that_is_away(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    it.embedding.is_away = True

    assert not await it.deliver_all()
    assert await it.contents() == set()
    it.embedding.is_away = False
    assert await it.deliver_all()

    assert len(await it.found("mail")) == 2


async def test_what_is_to_go_goes_while_the_embedding_is_away(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    await it.deliver_all()
    it.embedding.is_away = True
    await it.list_items("mail", {"send": MAIL["send"]})

    assert await it.deliver_all()
    assert await it.contents() == {"mail: send"}


async def test_errands_may_come_twice_late_and_for_what_never_was(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    errands = await OutboxRepository(it.database).claim(10, seconds=60)
    stranger = replace(errands[0], item_id=999_000)
    await it.list_items("mail", {"read": "Read a letter."})

    for _ in range(2):
        await it.delivery.deliver([*errands, stranger, *reversed(errands)])

    assert await it.contents() == {"mail: read"}
    assert (await it.filling.drift()).is_none


async def test_a_failure_of_one_kind_says_so_and_does_not_undo_another(it: Stored) -> None:
    await it.list_items("mail", MAIL)
    await it.list_items("mail", {"write": "Write."}, kind="prompts")
    it.qdrant.fail(
        "upsert", Status(200, body=b'{"result":{"operation_id":0,"status":"completed"}}')
    )
    it.qdrant.fail("upsert", Status(503))
    errands = await OutboxRepository(it.database).claim(10, seconds=60)

    with pytest.raises(IndexFailure):
        await it.delivery.deliver(errands)
    await it.delivery.deliver(errands)

    assert (await it.filling.drift()).is_none


# -- any story ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """A server lists something, and Qdrant and the embedding are as they are."""

    kind: Kind
    items: dict[str, str]
    faults: list[tuple[str, Any]]
    is_away: bool
    is_delivered: bool


turns = st.builds(
    Turn,
    kind=st.sampled_from(KINDS),
    items=st.dictionaries(st.sampled_from(["a:a", "b:b", "c:c"]), st.sampled_from(["A", "B"])),
    faults=st.lists(
        st.tuples(
            st.sampled_from(["upsert", "delete"]),
            st.sampled_from([Cut(), Cut(done=True), Status(503), Status(400)]),
        ),
        max_size=2,
    ),
    is_away=st.booleans(),
    is_delivered=st.booleans(),
)


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database for all examples: each begins where the last one ended."""
    return database_of(tmp_path_factory.mktemp("delivery"))


@given(story=st.lists(turns, max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_story_ends_with_the_index_as_the_catalog_is(dsn: str, story: list[Turn]) -> None:
    async def play() -> None:
        async with stored(dsn) as it:
            await it.fill()
            for turn in story:
                await it.list_items("server", turn.items, kind=turn.kind)
                it.embedding.is_away = turn.is_away
                for operation, fault in turn.faults:
                    it.qdrant.fail(operation, fault)
                if turn.is_delivered:
                    await it.deliver_all()
            it.embedding.is_away = False
            async with asyncio.timeout(60):
                while not await it.deliver_all():
                    pass

            assert str(await it.filling.drift()) == "none"

    asyncio.run(play())

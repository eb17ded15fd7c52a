"""The outbox's worker: whatever fails, and whoever dies, the index ends as the catalog is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal
from uuid import uuid4

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.databases import database_of
from trunkline.errors import IndexRefused, IndexUnavailable, StorageUnavailable
from trunkline.index.outbox import BATCH, OutboxWorker
from trunkline.models import KINDS, Json, Kind
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.queries import TABLES
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.rows import Errand, Item, from_stored_json

pytestmark = pytest.mark.anyio

SETTINGS = DatabaseSettings(connect_timeout=30, statement_timeout=60, max_connections=8)

Key = tuple[Kind, int]
"""An item: its kind and id."""

Fate = Literal["works", "refuses", "stops half way", "fails at the end", "dies"]
"""What becomes of one delivery."""


@dataclass
class Shelf:
    """An index that is a dict, and a delivery to it that goes as it is planned."""

    database: Database
    plan: Iterator[Fate] = field(default_factory=lambda: iter(()))
    """The fate of each delivery; what is beyond the plan works."""

    meanwhile: Callable[[], Awaitable[None]] | None = None
    """Something that happens once, between reading the items and putting them on the shelf."""

    content: dict[Key, Json] = field(default_factory=dict)
    under_way: set[Key] = field(default_factory=set)
    delivered: list[Key] = field(default_factory=list)

    async def deliver(self, errands: Sequence[Errand]) -> None:
        keys: list[Key] = [(one.kind, one.item_id) for one in errands]
        assert not self.under_way & set(keys), "an errand is carried out twice at the same time"
        self.under_way |= set(keys)
        try:
            await self._deliver(keys, next(self.plan, None))
        finally:
            self.under_way -= set(keys)

    async def _deliver(self, keys: Sequence[Key], fate: Fate | None) -> None:
        if fate == "refuses":
            raise IndexRefused("The index does not let us in.")
        there = await catalog(self.database)
        if self.meanwhile is not None:
            doing, self.meanwhile = self.meanwhile, None
            await doing()
        for key in keys[: len(keys) // 2] if fate == "stops half way" else keys:
            self.delivered.append(key)
            self.content.pop(key, None)
            if key in there:
                self.content[key] = there[key]
        if fate == "dies":
            raise asyncio.CancelledError
        if fate in ("stops half way", "fails at the end"):
            raise IndexUnavailable("it hung up")


def planned(*fates: Fate) -> Iterator[Fate]:
    return iter(fates)


async def catalog(database: Database) -> dict[Key, Json]:
    """Everything that the index has to have."""
    return {
        (kind, row["id"]): from_stored_json(row["definition"])
        for kind in KINDS
        for row in await database.fetch(
            f"SELECT id, definition FROM mcp.{TABLES[kind]} WHERE hidden_at IS NULL"
        )
    }


async def let_time_pass(database: Database) -> None:
    """Make every errand due: claims run out, and pauses end."""
    await database.execute("UPDATE mcp.outbox SET due_at = now()")


async def finish(database: Database, shelf: Shelf) -> None:
    """Work until nothing is left to do."""
    worker = OutboxWorker(OutboxRepository(database), [shelf])
    async with asyncio.timeout(60):
        while await OutboxRepository(database).backlog():
            await let_time_pass(database)
            await worker.work()


async def hidden_rows(database: Database) -> int:
    """Rows of items that are deleted and still wait for the index to let go."""
    counts = [
        await database.fetchval(
            f"SELECT count(*) FROM mcp.{TABLES[kind]} WHERE hidden_at IS NOT NULL"
        )
        for kind in KINDS
    ]
    return sum(counts)


def items(*names: str, text: str = "") -> list[Item]:
    return [Item(name, name, {"name": name, "description": text}) for name in names]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_pool(database_of(tmp_path), SETTINGS) as database:
        yield database


async def a_server(database: Database) -> int:
    """A server of a name that nobody has yet."""
    name = f"server-{uuid4()}"
    return (await ServerRepository(database).put(None, name, origin="api", config={})).id


# -- any story ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A server lists these of its items, with this description."""

    kind: Kind
    names: frozenset[str]
    text: str


@dataclass(frozen=True)
class Work:
    """A worker takes a batch, and something becomes of it."""

    fate: Fate
    is_overtaken: bool
    """Whether the list changes while it is at work."""

    then_time_passes: bool


changes = st.builds(
    Change,
    kind=st.sampled_from(KINDS),
    names=st.frozensets(st.sampled_from("abcd")),
    text=st.sampled_from(["", "said", "said again"]),
)
works = st.builds(
    Work,
    fate=st.sampled_from(["works", "refuses", "stops half way", "fails at the end", "dies"]),
    is_overtaken=st.booleans(),
    then_time_passes=st.booleans(),
)


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a database for all examples: each has a server of its own."""
    return database_of(tmp_path_factory.mktemp("outbox"))


@given(story=st.lists(st.tuples(changes, works), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_order_of_failures_ends_with_the_index_as_the_catalog_is(
    dsn: str, story: list[tuple[Change, Work]]
) -> None:
    async def play() -> None:
        async with open_pool(dsn, SETTINGS) as database:
            shelf, server = Shelf(database), await a_server(database)
            for turn, (change, work) in enumerate(story):
                await apply(database, server, change)
                other = Change(change.kind, frozenset("ab" if turn % 2 else "cd"), f"turn {turn}")
                await one_batch(database, shelf, server, work, other)
            await finish(database, shelf)

            assert shelf.content == await catalog(database)
            assert await hidden_rows(database) == 0
            for kind in KINDS:
                await ItemRepository(database, kind).sync(None, server, [])
            await finish(database, shelf)
            assert shelf.content == await catalog(database) == {}

    asyncio.run(play())


async def apply(database: Database, server: int, change: Change) -> None:
    listed = items(*sorted(change.names), text=change.text)
    listed = [Item(one.own_name, f"{server}{one.name}", one.definition) for one in listed]
    await ItemRepository(database, change.kind).sync(None, server, listed)


async def one_batch(
    database: Database, shelf: Shelf, server: int, work: Work, other: Change
) -> None:
    """One turn of a new worker, which may be its last."""
    shelf.plan = planned(work.fate)
    if work.is_overtaken:
        shelf.meanwhile = lambda: apply(database, server, other)
    try:
        await OutboxWorker(OutboxRepository(database), [shelf]).work()
    except asyncio.CancelledError:
        pass  # it died, and what it had claimed is still there
    shelf.plan, shelf.meanwhile = planned(), None  # there may have been nothing to do
    if work.then_time_passes:
        await let_time_pass(database)


# -- one at a time --------------------------------------------------------------------------------


async def test_a_worker_that_dies_between_delivering_and_settling_leaves_its_errands_to_another(
    database: Database,
) -> None:
    tools, server = ItemRepository(database, "tools"), await a_server(database)
    await tools.sync(None, server, items("send", "read"))
    shelf = Shelf(database, planned("dies"))

    with pytest.raises(asyncio.CancelledError):
        await OutboxWorker(OutboxRepository(database), [shelf]).work()
    another = OutboxWorker(OutboxRepository(database), [shelf])
    assert not await another.work()
    await let_time_pass(database)
    assert await another.work()

    assert shelf.content == await catalog(database)
    assert len(shelf.delivered) == 4
    assert await OutboxRepository(database).backlog() == 0


async def test_what_changes_while_it_is_delivered_is_delivered_again_by_nobody_else_before(
    database: Database,
) -> None:
    tools, server = ItemRepository(database, "tools"), await a_server(database)
    await tools.sync(None, server, items("send", "read"))
    worker = OutboxWorker(OutboxRepository(database), [shelf := Shelf(database)])

    async def change() -> None:
        await tools.sync(None, server, items("send", text="Send a letter."))
        assert not await OutboxWorker(OutboxRepository(database), [shelf]).work()

    shelf.meanwhile = change
    assert await worker.work()
    assert await OutboxRepository(database).backlog() == 2
    assert await worker.work()

    assert [one["description"] for one in shelf.content.values()] == ["Send a letter."]
    assert shelf.content == await catalog(database)
    assert await OutboxRepository(database).backlog() == 0
    assert await hidden_rows(database) == 0


async def test_an_item_that_is_back_before_its_delete_is_delivered_stays(
    database: Database,
) -> None:
    tools, server = ItemRepository(database, "tools"), await a_server(database)
    await tools.sync(None, server, items("send"))
    await finish(database, shelf := Shelf(database))
    before = dict(shelf.content)
    await tools.sync(None, server, [])

    async def bring_back() -> None:
        await tools.sync(None, server, items("send"))

    shelf.meanwhile = bring_back
    await finish(database, shelf)

    assert shelf.content == before == await catalog(database)


async def test_the_row_of_a_deleted_item_goes_only_when_the_index_has_let_go(
    database: Database,
) -> None:
    tools, server = ItemRepository(database, "tools"), await a_server(database)
    await tools.sync(None, server, items("send", "read"))
    await finish(database, shelf := Shelf(database))
    await tools.delete_by_server(None, server)
    shelf.plan = planned("refuses", "stops half way", "works")
    worker = OutboxWorker(OutboxRepository(database), [shelf])

    for _ in range(2):
        assert not await worker.work()
        assert await hidden_rows(database) == 2
        await let_time_pass(database)
    assert await worker.work()

    assert shelf.content == {}
    assert await hidden_rows(database) == 0


async def test_an_errand_that_fails_waits_longer_each_time_and_says_why(
    database: Database,
) -> None:
    await ItemRepository(database, "tools").sync(None, await a_server(database), items("send"))
    refusals: list[Fate] = ["refuses"] * 11
    shelf = Shelf(database, planned(*refusals))
    worker = OutboxWorker(OutboxRepository(database), [shelf])

    for pause in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        await let_time_pass(database)
        before = await database.fetchval("SELECT now()")
        assert not await worker.work()
        after = await database.fetchval("SELECT now()")

        row = await database.fetchrow("SELECT due_at, last_error FROM mcp.outbox")
        assert row is not None
        assert before <= row["due_at"] - timedelta(seconds=pause) <= after
        assert row["last_error"] == "The index does not let us in."


# -- side by side ---------------------------------------------------------------------------------


async def test_workers_side_by_side_never_carry_out_one_errand_at_the_same_time(
    database: Database,
) -> None:
    tools, server = ItemRepository(database, "tools"), await a_server(database)
    names = [f"tool{number}" for number in range(3 * BATCH)]
    await tools.sync(None, server, items(*names))
    shelf = Shelf(database)

    async def work() -> None:
        worker = OutboxWorker(OutboxRepository(database), [shelf])
        while await worker.work():
            pass

    async def change() -> None:
        for turn in range(6):
            await tools.sync(None, server, items(*names[turn::2], text=f"turn {turn}"))

    with anyio.fail_after(60):
        await asyncio.gather(work(), work(), change(), work(), work())
    await finish(database, shelf)

    assert shelf.content == await catalog(database)
    assert await hidden_rows(database) == 0


async def test_without_another_index_errands_are_struck_off_at_once(database: Database) -> None:
    tools, server = ItemRepository(database, "tools"), await a_server(database)
    await tools.sync(None, server, items("send", "read"))
    await tools.sync(None, server, items("read"))

    assert await OutboxWorker(OutboxRepository(database)).work()

    assert await OutboxRepository(database).backlog() == 0
    assert await hidden_rows(database) == 0
    assert not await OutboxWorker(OutboxRepository(database)).work()


# -- for good -------------------------------------------------------------------------------------


async def test_a_worker_outlives_a_crash_of_the_delivery_and_a_database_that_hangs_up(
    database: Database,
) -> None:
    tools, server = ItemRepository(database, "tools"), await a_server(database)
    await tools.sync(None, server, items("send"))
    shelf, crashed = Shelf(database), anyio.Event()

    async def crash() -> None:
        crashed.set()
        raise ZeroDivisionError

    shelf.meanwhile = crash
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            worker = OutboxWorker(OutboxRepository(database), [shelf])
            tasks.start_soon(worker.run, lambda: database.is_available)
            await crashed.wait()
            await database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            while not shelf.content:
                try:
                    await let_time_pass(database)
                except StorageUnavailable:
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()

    assert shelf.content == await catalog(database)

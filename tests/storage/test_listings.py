"""A whole listing becomes what is stored: through any story of lists, restarts and lost links."""

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from uuid import UUID

import anyio
import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.filling import item, make_empty, settle_all
from tests.storage.postgres import Cluster
from trunkline.errors import StorageUnavailable
from trunkline.models import KINDS, Json, Kind
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.queries import TABLES
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.listings import Listed, ListingRepository
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.rows import Item, Org

pytestmark = pytest.mark.anyio

SETTINGS = DatabaseSettings(connect_timeout=30, statement_timeout=60, max_connections=8)

RESYNCS = 1000 if "TRUNKLINE_TEST_ROUNDS" in os.environ else 50
"""How often a list is synced again: the figure of the promise, and its short form."""

Story = list["Step"]


def listing(
    name: str, items: dict[Kind, Sequence[Item]], *, about: Json | None = None, position: int = 0
) -> Listed:
    """What a server of mcp.json lists."""
    return Listed(
        name=name,
        origin="file",
        config={"source": "/mcp.json"},
        position=position,
        about=about or {},
        items=items,
    )


# -- any story ------------------------------------------------------------------------------------

Said = tuple[str, str, str]
"""One item: own name, name, description."""


Edit = Literal["again", "turned round", "names exchanged", "as before"]
"""What a server makes of its last list, or of the one before it."""


@dataclass(frozen=True)
class Step:
    """
    A server of a scope lists something.

    The connection may be lost at a table on the way. Afterwards the index may catch up, and the
    process may end and another one begin.
    """

    scope: int
    server: int
    items: dict[Kind, list[Said]] | Edit
    about: str
    cut_at: str | None
    then_caught_up: bool
    then_restarted: bool


said = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(["", "said"]))
steps = st.builds(
    Step,
    scope=st.sampled_from([0, 0, 0, 1, 2]),
    server=st.sampled_from([0, 0, 1]),
    items=st.fixed_dictionaries({kind: st.lists(said, max_size=5) for kind in KINDS})
    | st.sampled_from(get_args(Edit)),
    about=st.sampled_from(["", "Be kind."]),
    cut_at=st.sampled_from([*[None] * 6, "servers", "outbox", *TABLES.values()]),
    then_caught_up=st.booleans(),
    then_restarted=st.booleans(),
)
stories = st.lists(steps, min_size=5, max_size=12)


@pytest.fixture(scope="module")
def dsn(postgres: Cluster, template: str) -> Iterator[str]:
    """The address of a database for all examples; each begins by emptying it."""
    with asyncio.Runner() as runner:
        database = postgres.database(template)
        yield runner.run(database.__aenter__())
        runner.run(database.__aexit__(None, None, None))


@given(story=stories)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_story_leaves_the_last_lists_stable_ids_and_an_exact_outbox(
    dsn: str, story: Story
) -> None:
    asyncio.run(play(dsn, story))


async def play(dsn: str, story: Story) -> None:
    """Live through a story beside a model of it."""
    connection = await asyncpg.connect(dsn)
    await make_empty(connection)
    try:
        model = Model([None])
        async with open_pool(dsn, SETTINGS) as database:
            model.scopes += [await OrgRepository(database).put(name) for name in ("acme", "globex")]
        remaining = list(story)
        while remaining:
            async with open_pool(dsn, SETTINGS) as database:
                while remaining:
                    step = remaining.pop(0)
                    await live(database, connection, model, step)
                    await compare(connection, model)
                    if step.then_restarted:
                        break
    finally:
        await connection.close()


@dataclass
class Model:
    """What has to be stored."""

    scopes: list[Org]
    live: dict[tuple[int, int], dict[Kind, dict[str, Said]]] = field(default_factory=dict)
    """By scope and server: what it lists, by kind and own name."""

    earlier: dict[tuple[int, int], dict[Kind, dict[str, Said]]] = field(default_factory=dict)
    """The same of the list before."""

    about: dict[tuple[int, int], str] = field(default_factory=dict)
    ids: dict[tuple[int, int, Kind, str], int] = field(default_factory=dict)
    queued: dict[tuple[int, int, Kind, str], str] = field(default_factory=dict)

    def said(self, step: Step) -> dict[Kind, list[Said]]:
        """What a server lists in a step."""
        if not isinstance(step.items, str):
            return {kind: step.items.get(kind, []) for kind in KINDS}
        known = self.earlier if step.items == "as before" else self.live
        last = known.get((step.scope, step.server), {})
        lists: dict[Kind, list[Said]] = {kind: list(last.get(kind, {}).values()) for kind in KINDS}
        if step.items == "turned round":
            return {kind: said[::-1] for kind, said in lists.items()}
        if step.items == "names exchanged":
            return {
                kind: [
                    (own, other[1], text)
                    for (own, _, text), other in zip(said, said[1:] + said[:1], strict=True)
                ]
                for kind, said in lists.items()
            }
        return lists

    def take(self, step: Step) -> None:
        """What a sync that came to its end has changed."""
        key, lists = (step.scope, step.server), self.said(step)
        before, self.live[key] = self.live.get(key, {}), {}
        self.earlier[key] = before
        self.about[key] = step.about
        for kind in KINDS:
            old = before.get(kind, {})
            new = self.live[key][kind] = self._kept(step, kind, lists[kind])
            for own in old.keys() | new.keys():
                if old.get(own) != new.get(own):
                    self.queued[*key, kind, own] = "upsert" if own in new else "delete"

    def catch_up(self) -> None:
        """The index has let go of what was deleted: it is new if it comes back."""
        for key, operation in self.queued.items():
            if operation == "delete":
                del self.ids[key]
        self.queued = {}

    def _kept(self, step: Step, kind: Kind, said: Sequence[Said]) -> dict[str, Said]:
        """The first of those with one own name or name, without the names of other servers."""
        neighbour = self.live.get((step.scope, 1 - step.server), {}).get(kind, {})
        names = {one[1] for one in neighbour.values()}
        kept: dict[str, Said] = {}
        for one in said:
            if one[0] not in kept and one[1] not in names:
                kept[one[0]] = one
                names.add(one[1])
        return kept


async def live(
    database: Database, connection: asyncpg.Connection, model: Model, step: Step
) -> None:
    """One step, taken by the database and by the model."""
    items: dict[Kind, Sequence[Item]] = {
        kind: [item(own, name=name, description=text) for own, name, text in said]
        for kind, said in model.said(step).items()
    }
    listed = listing(f"server{step.server}", items, about={"instructions": step.about})
    syncing = ListingRepository(database).sync(model.scopes[step.scope], listed)
    async with asyncio.timeout(60):
        if step.cut_at is None:
            await syncing
            model.take(step)
        elif not await is_cut(connection, step.cut_at, syncing):
            model.take(step)
    if step.then_caught_up:
        await compare(connection, model)
        await settle_all(database.pool)
        model.catch_up()


async def is_cut(connection: asyncpg.Connection, table: str, syncing: Awaitable[Any]) -> bool:
    """
    End the connection of a sync where it first writes to *table*, with all before it written.

    False if it never wanted to.
    """
    waiting = (
        "SELECT pid FROM pg_locks WHERE NOT granted AND relation IS NOT NULL AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    running = asyncio.ensure_future(syncing)
    async with connection.transaction():
        await connection.execute(f"LOCK TABLE mcp.{table} IN SHARE MODE")
        while not running.done():
            if pid := await connection.fetchval(waiting):
                await connection.execute("SELECT pg_terminate_backend($1)", pid)
                with pytest.raises(StorageUnavailable):
                    await running
                return True
        await running
    return False


async def compare(connection: asyncpg.Connection, model: Model) -> None:
    """Whether what is stored is what the model has."""
    there = await connection.fetch(
        "SELECT id, org_id, name, about->>'instructions' FROM mcp.servers"
    )
    places = {
        id_: (model.scopes.index(org), int(name.removeprefix("server")))
        for id_, org, name, _ in there
    }
    assert {places[row[0]]: row[3] for row in there} == model.about
    for kind in KINDS:
        stored = {place: list[Said]() for place in places.values()}
        for id_, server, *said in await connection.fetch(
            "SELECT id, source_server_id, own_name, name, definition->>'description' "
            f"FROM mcp.{TABLES[kind]} WHERE hidden_at IS NULL ORDER BY position"
        ):
            stored[places[server]].append((said[0], said[1], said[2]))
            assert model.ids.setdefault((*places[server], kind, said[0]), id_) == id_
        for place, items in stored.items():
            assert items == list(model.live[place][kind].values())
    told = await connection.fetch("SELECT kind, item_id, operation FROM mcp.outbox")
    assert {(kind, id_): operation for kind, id_, operation in told} == {
        (kind, model.ids[scope, server, kind, own]): operation
        for (scope, server, kind, own), operation in model.queued.items()
    }


# -- nothing new ----------------------------------------------------------------------------------


async def written(database: Database) -> list[Any]:
    """Every version of every row, and every sequence."""
    found: list[Any] = []
    for table in ("servers", "outbox", *TABLES.values()):
        rows = await database.fetch(f"SELECT xmin::text, ctid::text FROM mcp.{table} ORDER BY ctid")
        found += [table, *map(tuple, rows)]
    for name in ("servers", "tools", "prompts", "resources"):
        row = await database.fetchrow(f"SELECT last_value, is_called FROM mcp.{name}_id_seq")
        assert row is not None
        found.append(tuple(row))
    return found


@pytest.mark.timeout(600)
async def test_a_listing_that_is_synced_again_and_again_writes_no_row_and_draws_no_id(
    dsn_of_its_own: str,
) -> None:
    items: dict[Kind, Sequence[Item]] = {
        kind: [item(f"{kind}{number}", description="Said once. " * 20) for number in range(250)]
        for kind in KINDS
    }
    listed = listing("mail", items, about={"instructions": "Be kind.", "nul": "\0"})
    async with open_pool(dsn_of_its_own, SETTINGS) as database:
        listings = ListingRepository(database)
        first = await listings.sync(None, listed)
        before = await written(database)

        for _ in range(RESYNCS):
            again = await listings.sync(None, listed)
            assert not again.changed
            assert again.server == first.server

        assert await written(database) == before
        assert first.changed


@pytest.fixture
def dsn_of_its_own(empty: None, dsn: str) -> str:
    """The address of a database with nothing in it."""
    return dsn


@pytest.fixture
async def empty(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await make_empty(connection)
    await connection.close()


# -- at once --------------------------------------------------------------------------------------


def shuffled(names: Sequence[str]) -> dict[Kind, Sequence[Item]]:
    return {kind: [item(one) for one in random.sample(names, len(names))] for kind in KINDS}


async def test_servers_that_want_the_same_names_at_once_share_them_out_in_every_scope(
    dsn_of_its_own: str,
) -> None:
    names = [f"name{number}" for number in range(20)]
    async with open_pool(dsn_of_its_own, SETTINGS) as database:
        listings = ListingRepository(database)
        scopes: list[UUID | None] = [None, await OrgRepository(database).put("acme")]

        with anyio.fail_after(60):
            stored = await asyncio.gather(
                *(
                    listings.sync(scope, listing(f"server{number}", shuffled(names)))
                    for scope in scopes
                    for number in range(4)
                )
            )

        shares = defaultdict[tuple[Org, Kind], int](int)
        for one in stored:
            for kind, synced in one.synced.items():
                shares[one.server.org, kind] += synced.inserted
        assert set(shares.values()) == {len(names)}
        assert len(shares) == len(scopes) * len(KINDS)
        rows = await ItemRepository(database, "tools").list_visible(scopes[1])
        assert sorted(row.name for row in rows) == sorted(2 * names)


async def test_one_listing_stored_by_several_processes_at_once_is_stored_once(
    dsn_of_its_own: str,
) -> None:
    listed = listing("mail", shuffled([f"name{number}" for number in range(20)]))
    async with open_pool(dsn_of_its_own, SETTINGS) as database:
        listings = ListingRepository(database)

        with anyio.fail_after(60):
            stored = await asyncio.gather(*(listings.sync(None, listed) for _ in range(8)))

        assert len({one.server.id for one in stored}) == 1
        assert sorted(one.changed for one in stored) == [False] * 7 + [True]
        assert await database.fetchval("SELECT count(*) FROM mcp.outbox") == 20 * len(KINDS)

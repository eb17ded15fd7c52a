"""A list becomes what is stored: whole, in one transaction, writing no more than it takes."""

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.filling import (
    add_server,
    fill,
    item,
    own_names,
    settle_all,
)
from tests.storage.postgres import Cluster
from trunkline.errors import CatalogFull
from trunkline.models import KINDS, Kind
from trunkline.storage.queries import TABLES
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.rows import Item

pytestmark = pytest.mark.anyio

SERVER = Path(__file__).parents[2] / "server"


async def stored(pool: asyncpg.Pool, kind: Kind = "tools") -> list[Any]:
    """Every row of a kind with what tells whether it was written, and the next id."""
    rows = await pool.fetch(f"SELECT id, xmin::text, ctid::text FROM mcp.{TABLES[kind]} ORDER BY 1")
    sequence = await pool.fetchrow("SELECT last_value, is_called FROM mcp.tools_id_seq")
    return [*map(tuple, rows), tuple(sequence)]


async def errands(pool: asyncpg.Pool) -> dict[tuple[str, int], tuple[str, int]]:
    rows = await pool.fetch("SELECT kind, item_id, operation, version FROM mcp.outbox")
    return {(row[0], row[1]): (row[2], row[3]) for row in rows}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_sync_makes_the_list_the_one_that_is_stored(pool: asyncpg.Pool, kind: Kind) -> None:
    repository, server = ItemRepository(pool, kind), await add_server(pool, None, "mail")
    first = await repository.sync(None, server, [item("send"), item("read"), item("drop")])
    before = {row.own_name: row for row in await repository.list_visible(None)}
    await settle_all(pool)

    second = await repository.sync(
        None, server, [item("new"), item("read", description="Read a letter."), item("send")]
    )

    after = {row.own_name: row for row in await repository.list_visible(None)}
    assert (first.inserted, first.updated, first.hidden) == (3, 0, 0)
    assert (second.inserted, second.updated, second.hidden, second.moved) == (1, 1, 1, 1)
    assert list(after) == ["new", "read", "send"]
    assert after["read"].id == before["read"].id
    assert after["read"].definition["description"] == "Read a letter."
    assert await errands(pool) == {
        (kind, after["new"].id): ("upsert", 1),
        (kind, after["read"].id): ("upsert", 1),
        (kind, before["drop"].id): ("delete", 1),
    }


async def test_a_sync_that_changes_nothing_writes_no_row_and_draws_no_id(
    pool: asyncpg.Pool,
) -> None:
    tools, server = ItemRepository(pool, "tools"), await add_server(pool, None, "mail")
    items = [item(f"tool{number}") for number in range(1000)]
    await tools.sync(None, server, items)
    before, queued = await stored(pool), await errands(pool)

    for _ in range(30):
        assert not (await tools.sync(None, server, items)).changed

    assert await stored(pool) == before
    assert await errands(pool) == queued


async def test_an_item_that_comes_back_has_the_id_it_had(pool: asyncpg.Pool) -> None:
    tools, server = ItemRepository(pool, "tools"), await add_server(pool, None, "mail")
    await tools.sync(None, server, [item("send")])
    (before,) = await tools.list_visible(None)

    await tools.sync(None, server, [])
    assert await tools.list_visible(None) == []
    back = await tools.sync(None, server, [item("send")])

    assert await tools.list_visible(None) == [before]
    assert back.inserted == 1
    assert await errands(pool) == {("tools", before.id): ("upsert", 3)}


async def test_two_items_can_exchange_their_names(pool: asyncpg.Pool) -> None:
    tools, server = ItemRepository(pool, "tools"), await add_server(pool, None, "mail")
    await tools.sync(None, server, [item("a", name="one"), item("b", name="two")])

    synced = await tools.sync(None, server, [item("a", name="two"), item("b", name="one")])

    assert synced.updated == 2
    assert [row.name for row in await tools.list_visible(None)] == ["two", "one"]


async def test_what_cannot_be_stored_is_left_out_with_a_sentence_and_its_neighbours_are_not(
    pool: asyncpg.Pool,
) -> None:
    tools = ItemRepository(pool, "tools")
    first, second = await add_server(pool, None, "one"), await add_server(pool, None, "two")
    await tools.sync(None, first, [item("taken")])

    synced = await tools.sync(
        None,
        second,
        [
            item("good"),
            item("taken"),
            item("good", description="Again."),
            item("other", name="good"),
            item("long", name="x" * 65),
            item("late"),
        ],
    )

    assert synced.inserted == 2
    assert synced.left_out == {
        "taken": "Another server has the name 'taken'.",
        "good": "It is listed twice; the first one is kept.",
        "other": "Another item of the list is served as 'good'.",
        "long": "Its name is longer than 64 characters.",
    }
    assert await own_names(pool) == ["taken", "good", "late"]


async def test_one_name_belongs_to_every_organisation_and_to_nobody_at_once(
    pool: asyncpg.Pool,
) -> None:
    await fill(pool)

    assert await own_names(pool) == ["send", "read"]
    rows = await pool.fetch("SELECT count(*) FROM mcp.tools GROUP BY name")
    assert [row[0] for row in rows] == [3, 3]


@pytest.mark.parametrize(
    "name", ["nul\0nul", "half\ud800", "\ue000 itself", "\ue0000000", "x" * 100_000, "käse 🧀"]
)
async def test_what_a_server_says_comes_back_as_it_was(pool: asyncpg.Pool, name: str) -> None:
    resources, server = ItemRepository(pool, "resources"), await add_server(pool, None, "mail")
    definition = {"z": name, "a": 1.0, "big": 2**70, "nested": {"y": [None, "\0"], "b": {}}}

    await resources.sync(None, server, [Item(name, name, definition)])
    again = await resources.sync(None, server, [Item(name, name, definition)])

    (row,) = await resources.list_visible(None)
    assert (row.own_name, row.name, row.definition) == (name, name, definition)
    assert list(row.definition) == list(definition)
    assert not again.changed


async def test_a_description_of_ten_megabytes_is_kept(pool: asyncpg.Pool) -> None:
    tools, server = ItemRepository(pool, "tools"), await add_server(pool, None, "mail")

    await tools.sync(None, server, [item("send", description="x" * 10_000_000), item("read")])

    rows = await tools.list_visible(None)
    assert [len(row.definition["description"]) for row in rows] == [10_000_000, 0]


async def test_a_sync_that_cannot_draw_an_id_changes_nothing(pool: asyncpg.Pool) -> None:
    tools, server = ItemRepository(pool, "tools"), await add_server(pool, None, "mail")
    await pool.execute("SELECT setval('mcp.tools_id_seq', 999998)")
    await tools.sync(None, server, [item("last")])
    assert [row.id for row in await tools.list_visible(None)] == [999_999]

    with pytest.raises(CatalogFull, match="no ids left for tools"):
        await tools.sync(None, server, [item("more")])

    assert await own_names(pool) == ["last"]


async def test_servers_that_want_the_same_names_at_once_share_them_out(
    pool: asyncpg.Pool,
) -> None:
    tools = ItemRepository(pool, "tools")
    servers = [await add_server(pool, None, f"s{number}") for number in range(6)]
    names = [f"tool{number}" for number in range(20)]

    def shuffled() -> list[Item]:
        return [item(name) for name in random.sample(names, len(names))]

    with anyio.fail_after(60):
        synced = await asyncio.gather(*(tools.sync(None, one, shuffled()) for one in servers))

    assert sum(one.inserted for one in synced) == len(names)
    assert sorted(await own_names(pool)) == sorted(names)


async def test_other_processes_hear_of_a_change_and_of_nothing_else(pool: asyncpg.Pool) -> None:
    tools, server = ItemRepository(pool, "tools"), await add_server(pool, None, "mail")
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with pool.acquire() as listener:

        def hear(*event: Any) -> None:
            heard.put_nowait(event[3])

        await listener.add_listener("mcp_catalog", hear)

        await tools.sync(None, server, [item("send")])
        await tools.sync(None, server, [item("send")])
        await tools.delete_by_server(None, server)
        await tools.delete_by_server(None, server)
        await pool.execute("SELECT pg_notify('mcp_catalog', 'end')")

        with anyio.fail_after(10):
            events = [await heard.get()]
            while events[-1] != "end":
                events.append(await heard.get())
        await listener.remove_listener("mcp_catalog", hear)

    said = {"kind": "tools", "server": server, "by": ""}
    assert [json.loads(event) for event in events[:-1]] == [said, said]


SYNC_IN_A_PROCESS = """
import asyncio, sys, asyncpg
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.rows import Item

async def main():
    pool = await asyncpg.create_pool(sys.argv[1], min_size=1, max_size=1)
    tools = ItemRepository(pool, "tools")
    for turn in range(1000):
        names = [f"tool{n}" for n in range(turn % 2, 1000, 2 - turn % 2)]
        await tools.sync(None, int(sys.argv[2]), [Item(n, n, {"turn": turn}) for n in names])
        print(turn, flush=True)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_in_a_sync_leaves_the_list_before_or_the_one_after(
    pool: asyncpg.Pool,
) -> None:
    tools, server = ItemRepository(pool, "tools"), await add_server(pool, None, "mail")
    dsn = await pool.fetchval("SELECT current_setting('unix_socket_directories')")
    database = await pool.fetchval("SELECT current_database()")
    address = f"postgresql://trunkline@/{database}?host={dsn}"
    for _ in range(5):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SYNC_IN_A_PROCESS, address, str(server)),
            stdout=asyncio.subprocess.PIPE,
            cwd=SERVER,
        )
        assert process.stdout is not None
        with anyio.fail_after(60):
            for _ in range(random.randint(1, 4)):
                await process.stdout.readline()
            process.kill()
            await process.wait()
            # The lock is the dead one's until the database has noticed.
            await pool.execute("SELECT FROM mcp.servers WHERE id = $1 FOR UPDATE", server)

        rows = await tools.list_visible(None)
        (turn,) = {row.definition["turn"] for row in rows}
        names = [f"tool{number}" for number in range(turn % 2, 1000, 2 - turn % 2)]
        assert [row.own_name for row in rows] == names
        hidden = await pool.fetch("SELECT id FROM mcp.tools WHERE hidden_at IS NOT NULL")
        wanted = {row.id: "upsert" for row in rows} | {row["id"]: "delete" for row in hidden}
        queued = await pool.fetch("SELECT item_id, operation FROM mcp.outbox")
        assert {row["item_id"]: row["operation"] for row in queued} == wanted


Step = tuple[int, list[tuple[str, str, str]]] | None
lists = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("wxyz"), st.sampled_from(["", "said"])),
    max_size=5,
)
steps = st.lists(st.none() | st.tuples(st.integers(0, 1), lists), max_size=8)


@given(story=steps)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sequence_of_lists_leaves_the_last_list_stable_ids_and_an_exact_outbox(
    postgres: Cluster, template: str, story: list[Step]
) -> None:
    async def play() -> None:
        async with (
            postgres.database(template) as dsn,
            asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool,
        ):
            await tell(pool, story)

    asyncio.run(play())


async def tell(pool: asyncpg.Pool, story: list[Step]) -> None:
    """Play a story of syncs, and of an index that catches up (None), beside a model of it."""
    tools = ItemRepository(pool, "tools")
    servers = [await add_server(pool, None, name) for name in ("one", "two")]
    live: dict[int, dict[str, tuple[str, str]]] = {0: {}, 1: {}}
    ids: dict[tuple[int, str], int] = {}
    queued: dict[int, str] = {}
    for step in story:
        if step is None:
            await settle_all(pool)
            gone = {one for one, operation in queued.items() if operation == "delete"}
            ids = {key: one for key, one in ids.items() if one not in gone}
            queued = {}
            continue
        server, listed = step
        names = {name for name, _ in live[1 - server].values()}
        wanted: dict[str, tuple[str, str]] = {}
        for own, name, text in listed:
            if own not in wanted and name not in names:
                wanted[own] = (name, text)
                names.add(name)

        await tools.sync(
            None, servers[server], [item(own, name=n, description=d) for own, n, d in listed]
        )

        rows = await tools.list_visible(None)
        mine = [row for row in rows if row.server_id == servers[server]]
        assert {row.own_name: (row.name, row.definition["description"]) for row in mine} == wanted
        assert [row.own_name for row in mine] == list(wanted)
        for row in mine:
            assert ids.setdefault((server, row.own_name), row.id) == row.id
        for own in wanted.keys() | live[server].keys():
            if wanted.get(own) != live[server].get(own):
                queued[ids[server, own]] = "upsert" if own in wanted else "delete"
        live[server] = wanted
        there = await pool.fetch("SELECT item_id, operation FROM mcp.outbox")
        assert {row["item_id"]: row["operation"] for row in there} == queued

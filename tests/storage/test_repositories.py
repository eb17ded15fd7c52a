"""The repositories against the real schema: deletes, errands, skills, sums."""

import asyncio
import json
import random
from contextlib import suppress
from typing import Any
from uuid import uuid4

import anyio
import asyncpg
import pytest

from tests.storage.filling import (
    add_server,
    fill_for,
    item,
    own_names,
    settle_all,
)
from trunkline.errors import OrgNotFound, ServerNotFound
from trunkline.models import KINDS, Kind
from trunkline.storage.queries import TABLES
from trunkline.storage.repositories.embeddings import EmbeddingRepository
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.repositories.statistics import StatisticsRepository
from trunkline.storage.rows import AssignmentRow, Calls, Org, ServerRow, SkillRow

pytestmark = pytest.mark.anyio


async def test_concurrent_deletes_and_inserts_report_counts_that_add_up(
    pool: asyncpg.Pool,
) -> None:
    tools, server = ItemRepository(pool, "tools"), await add_server(pool, None, "mail")
    items = [item(f"tool{number}") for number in range(10)]

    async def insert() -> int:
        return (await tools.sync(None, server, items)).inserted

    async def delete() -> int:
        return -await tools.delete_by_server(None, server)

    with anyio.fail_after(60):
        counts = await asyncio.gather(*(random.choice((insert, delete))() for _ in range(50)))

    assert sum(counts) == await tools.count_visible(None)
    states = await pool.fetch(
        "SELECT operation = 'delete' AS gone, hidden_at IS NOT NULL AS hidden "
        "FROM mcp.outbox JOIN mcp.tools ON tools.id = item_id WHERE kind = 'tools'"
    )
    assert all(row["gone"] == row["hidden"] for row in states)


@pytest.mark.parametrize("kind", KINDS)
async def test_deleting_the_items_of_a_server_counts_them_once(
    pool: asyncpg.Pool, kind: Kind
) -> None:
    server, other = await add_server(pool, None, "one"), await add_server(pool, None, "two")
    repository = ItemRepository(pool, kind)
    await repository.sync(None, server, [item("a"), item("b")])
    await repository.sync(None, other, [item("c")])

    deleted = await asyncio.gather(*(repository.delete_by_server(None, server) for _ in range(8)))

    assert sorted(deleted) == [0] * 7 + [2]
    assert await own_names(pool, kind) == ["c"]
    await settle_all(pool)
    assert await pool.fetchval(f"SELECT count(*) FROM mcp.{TABLES[kind]}") == 1


async def test_a_hidden_server_is_gone_with_its_items_and_comes_back_with_its_ids(
    pool: asyncpg.Pool,
) -> None:
    server, outbox = await fill_for(pool, None), OutboxRepository(pool)
    servers, tools = ServerRepository(pool), ItemRepository(pool, "tools")
    before = await tools.list_visible(None)
    await settle_all(pool)

    assert await servers.hide(None, server)
    assert not await servers.hide(None, server)
    for kind in KINDS:
        assert await ItemRepository(pool, kind).list_visible(None) == []
    assert await outbox.backlog() == 2 * len(KINDS)
    assert await servers.find(None, "mail") is None
    with pytest.raises(ServerNotFound):
        await tools.sync(None, server, [])
    back = await servers.put(None, "mail", origin="file", config={})
    await tools.sync(None, back.id, [item("send"), item("read")])

    assert back.id == server
    assert await tools.list_visible(None) == before


async def test_no_item_outlives_a_server_that_is_hidden_while_it_syncs(pool: asyncpg.Pool) -> None:
    servers, tools = ServerRepository(pool), ItemRepository(pool, "tools")

    async def sync(server: int, turn: int) -> None:
        with suppress(ServerNotFound):
            await tools.sync(None, server, [item(f"tool{number}") for number in range(turn)])

    for turn in range(10):
        server = await add_server(pool, None, "mail")
        syncs = [sync(server, 50 + turn + more) for more in range(3)]
        with anyio.fail_after(60):
            await asyncio.gather(*syncs[:2], servers.hide(None, server), *syncs[2:])

        assert await tools.count_visible(None) == 0


async def test_an_errand_that_was_overtaken_is_not_struck_off(pool: asyncpg.Pool) -> None:
    tools, outbox = ItemRepository(pool, "tools"), OutboxRepository(pool)
    server = await add_server(pool, None, "mail")
    await tools.sync(None, server, [item("send")])
    claimed = await outbox.claim(10, seconds=60)
    await tools.sync(None, server, [])

    assert await outbox.claim(10, seconds=60) == []
    assert await outbox.settle(claimed) == 0
    (again,) = await outbox.claim(10, seconds=60)

    assert (again.operation, again.version) == ("delete", 2)
    assert await outbox.settle([again]) == 1
    assert await pool.fetchval("SELECT count(*) FROM mcp.tools") == 0
    assert await outbox.backlog() == 0


async def test_a_claim_that_ran_out_settles_nothing(pool: asyncpg.Pool) -> None:
    tools, outbox = ItemRepository(pool, "tools"), OutboxRepository(pool)
    await tools.sync(None, await add_server(pool, None, "mail"), [item("send")])
    late = await outbox.claim(10, seconds=0)
    (taken,) = await outbox.claim(10, seconds=60)

    assert await outbox.settle(late) == 0
    await outbox.postpone([taken], seconds=0, error="The index is away.")
    (again,) = await outbox.claim(10, seconds=60)

    assert again.attempts == 2
    assert await outbox.settle([again]) == 1


async def test_workers_never_have_the_same_errand(pool: asyncpg.Pool) -> None:
    tools, outbox = ItemRepository(pool, "tools"), OutboxRepository(pool)
    server = await add_server(pool, None, "mail")
    await tools.sync(None, server, [item(f"tool{number}") for number in range(100)])

    claims = await asyncio.gather(*(outbox.claim(30, seconds=60) for _ in range(8)))

    ids = [one.item_id for claimed in claims for one in claimed]
    assert len(ids) == len(set(ids))


async def test_a_tool_has_one_primary_skill_in_a_scope(pool: asyncpg.Pool) -> None:
    tools, skills = ItemRepository(pool, "tools"), SkillRepository(pool)
    acme = await OrgRepository(pool).put("acme")
    await tools.sync(None, await add_server(pool, None, "mail"), [item("send")])
    (tool,) = [row.id for row in await tools.list_visible(None)]
    scopes: list[Org] = [None, None, acme]
    made = [await skills.put(org, f"skill{n}", "") for n, org in enumerate(scopes)]

    for org, skill in zip(scopes, made, strict=True):
        assert await skills.assign(org, skill, [AssignmentRow(tool, skill, 0.5, True)]) == [tool]

    seen = await skills.of_tools(acme, [tool])
    assert {row.skill_id: row.is_primary for row in seen} == {
        made[0]: False,
        made[1]: True,
        made[2]: True,
    }
    assert await skills.delete(acme, made[2]) == [tool]
    assert len(await skills.of_tools(acme, [tool])) == 2


async def test_a_card_comes_back_as_it_was_put_and_is_written_only_if_it_changed(
    pool: asyncpg.Pool,
) -> None:
    skills = SkillRepository(pool)

    async def put(*keywords: str) -> int:
        return await skills.put(None, "law", "Contracts.", group="Office", keywords=keywords)

    async def written() -> Any:
        return await pool.fetchrow(
            "SELECT skill.xmin::text, drawn.last_value FROM mcp.skill_categories AS skill, "
            "mcp.skill_categories_id_seq AS drawn WHERE skill.name = 'law'"
        )

    made = await put("court", "\0, {odd}")
    first = await written()
    assert (await put("court", "\0, {odd}"), await written()) == (made, first)
    (law,) = [row for row in await skills.list_visible(None) if row.id == made]
    assert law == SkillRow(made, None, "law", "Contracts.", "Office", ("court", "\0, {odd}"))

    assert await put("court") == made
    assert (await written())[0] != first[0]


async def test_an_organisations_own_card_stands_in_the_place_of_the_global_one(
    pool: asyncpg.Pool,
) -> None:
    skills = SkillRepository(pool)
    acme, globex = [await OrgRepository(pool).put(name) for name in ("acme", "globex")]
    mine = await skills.put(acme, "email", "Pigeons.")

    effective = {org: await skills.list_effective(org) for org in (acme, globex, None)}

    assert {len(rows) for rows in effective.values()} == {24}
    assert [row.id for row in effective[acme] if row.name == "email"] == [mine]
    assert effective[globex] == effective[None]
    assert len(await skills.list_visible(acme)) == 25


async def test_classifying_again_forgets_what_was_said_before(pool: asyncpg.Pool) -> None:
    tools, skills = ItemRepository(pool, "tools"), SkillRepository(pool)
    acme = await OrgRepository(pool).put("acme")
    await tools.sync(None, await add_server(pool, None, "mail"), [item("send")])
    await tools.sync(acme, await add_server(pool, acme, "own"), [item("read")])
    everybodys, own = [row.id for row in await tools.list_visible(acme)]
    email, media, *_ = [row.id for row in await skills.list_effective(None)]
    law = await skills.put(acme, "law", "")

    rows = [AssignmentRow(own, email, 0.75, True), AssignmentRow(own, law, 0.5, False)]
    assert await skills.classify(acme, [own], rows) == 2
    assert await skills.of_tools(acme, [own]) == rows
    assert await skills.of_tools(None, [own]) == []

    # Whose own skills a shared tool has is not for one organisation to say.
    assert await skills.classify(acme, [everybodys], [AssignmentRow(everybodys, law, 1, True)]) == 0
    rows = [AssignmentRow(own, media, 0.5, True)]
    assert await skills.classify(acme, [own], rows) == 1
    assert await skills.of_tools(acme, [own, everybodys]) == rows
    assert await skills.classify(acme, [own], []) == 0
    assert await skills.of_tools(acme, [own]) == []


async def test_statistics_add_up_whoever_adds_to_them_at_once(pool: asyncpg.Pool) -> None:
    tools, statistics = ItemRepository(pool, "tools"), StatisticsRepository(pool)
    await tools.sync(None, await add_server(pool, None, "mail"), [item("send"), item("read")])
    ids = [row.id for row in await tools.list_visible(None)]

    async def record(number: int) -> None:
        order = ids if number % 2 else ids[::-1]
        await statistics.record(None, {one: Calls(2, 1, 0.25, [1, number % 2]) for one in order})

    with anyio.fail_after(60):
        await asyncio.gather(*(record(number) for number in range(20)))
    await statistics.record(None, {ids[0]: Calls(1, 0, 0, [0, 0, 7]), 77: Calls(1, 0, 0)})

    used = await statistics.of_tools(None, [*ids, 77])
    assert {
        one: (calls.count, calls.errors, list(calls.buckets)) for one, calls in used.items()
    } == {
        ids[0]: (41, 20, [20, 10, 7]),
        ids[1]: (40, 20, [20, 10]),
    }
    assert used[ids[1]].seconds == 5.0
    assert used[ids[0]].last_used is not None


async def test_a_server_that_is_put_again_is_written_only_if_it_changed(
    pool: asyncpg.Pool,
) -> None:
    servers = ServerRepository(pool)

    async def written() -> Any:
        return await pool.fetchrow(
            "SELECT server.xmin::text, drawn.last_value "
            "FROM mcp.servers AS server, mcp.servers_id_seq AS drawn"
        )

    first = await servers.put(None, "mail", origin="file", config={"url": "http://x"})
    before = await written()
    again = await servers.put(None, "mail", origin="file", config={"url": "http://x"})
    assert (again, await written()) == (first, before)
    assert await servers.describe(None, first.id, {"instructions": "Be kind."})
    assert not await servers.describe(None, first.id, {"instructions": "Be kind."})
    changed = await servers.put(None, "mail", origin="api", config={})

    assert (changed.id, changed.origin, changed.about) == (
        first.id,
        "api",
        {"instructions": "Be kind."},
    )


async def test_other_processes_hear_of_servers_that_come_change_and_go(
    pool: asyncpg.Pool,
) -> None:
    servers, heard = ServerRepository(pool), asyncio.Queue[str]()

    def hear(*event: Any) -> None:
        heard.put_nowait(event[3])

    async with pool.acquire() as listener:
        await listener.add_listener("mcp_catalog", hear)
        server = await servers.put(None, "mail", origin="file", config={})
        await servers.put(None, "mail", origin="file", config={})
        await servers.put(None, "mail", origin="api", config={})
        await servers.put(None, "mail", origin="file", config={})  # which only borrows it now
        await servers.hide(None, server.id)
        await pool.execute("SELECT pg_notify('mcp_catalog', 'end')")

        with anyio.fail_after(10):
            events = [await heard.get()]
            while events[-1] != "end":
                events.append(await heard.get())
        await listener.remove_listener("mcp_catalog", hear)

    said = {"kind": "servers", "server": server.id, "by": ""}
    assert [json.loads(event) for event in events[:-1]] == [said] * 3


async def test_a_server_that_somebody_else_is_just_adding_is_theirs(pool: asyncpg.Pool) -> None:
    servers, rows, added = ServerRepository(pool), list[ServerRow](), 0

    async def put() -> None:
        rows.append(await servers.put(None, "mail", origin="api", config={}))

    with anyio.fail_after(10):
        async with pool.acquire() as other, anyio.create_task_group() as tasks:
            transaction = other.transaction()
            await transaction.start()
            added = await other.fetchval(
                "INSERT INTO mcp.servers (name, origin) VALUES ('mail', 'api') RETURNING id"
            )
            tasks.start_soon(put)
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not await pool.fetchval(waiting):  # noqa: ASYNC110 - only the database knows
                await anyio.sleep(0.01)
            await transaction.commit()

    assert [row.id for row in rows] == [added]


async def test_an_organisation_that_does_not_exist_is_told_of(pool: asyncpg.Pool) -> None:
    with pytest.raises(OrgNotFound, match="no organisation"):
        await ServerRepository(pool).put(uuid4(), "mail", origin="api", config={})
    with pytest.raises(OrgNotFound, match="no organisation"):
        await SkillRepository(pool).put(uuid4(), "writing", "")


async def test_vectors_are_found_by_model_and_text(pool: asyncpg.Pool) -> None:
    vectors, key, other = EmbeddingRepository(pool), b"k" * 32, b"o" * 32
    await vectors.keep("small", {key: b"\0\0\0\0"})
    await vectors.keep("small", {key: b"\1\1\1\1", other: b"\2\2\2\2"})

    assert await vectors.find("small", [key, other]) == {key: b"\0\0\0\0", other: b"\2\2\2\2"}
    assert await vectors.find("large", [key]) == {}

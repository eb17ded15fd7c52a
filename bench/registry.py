"""
How fast a list gets into the registry: whole, its items alone, and row by row, in the same run.

    python -m bench.registry [--tools 10000]

Starts a PostgreSQL of its own and ends it. Whole is what serving does: the server, what it says of
itself, and the items of all kinds in one transaction. Row by row is what one would write first: a
transaction with one upsert and one outbox row for each tool.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence

from tests.storage.postgres import cluster

from trunkline import logs
from trunkline.settings import DatabaseSettings
from trunkline.storage import migrations
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.listings import Listed, ListingRepository
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.rows import Item, digest

ROW = """
INSERT INTO mcp.tools (source_server_id, own_name, own_hash, name, name_hash, definition,
    content_hash, position)
VALUES ($1, $2, $3, $2, $3, $4::text::json, $5, $6)
ON CONFLICT (source_server_id, own_hash) DO UPDATE
SET definition = EXCLUDED.definition, content_hash = EXCLUDED.content_hash RETURNING id
"""
ERRAND = """
INSERT INTO mcp.outbox (kind, item_id, operation) VALUES ('tools', $1, 'upsert')
ON CONFLICT (kind, item_id) DO UPDATE SET version = outbox.version + 1
"""

WHAT = ("first time", "again, unchanged", "again, one changed")


def make_tools(count: int) -> list[Item]:
    """Tools of about the size that real ones have."""
    properties = {
        f"field{number}": {"type": "string", "description": "What to look for, and where."}
        for number in range(8)
    }
    return [
        Item(
            f"tool_{number}",
            f"tool_{number}",
            {
                "name": f"tool_{number}",
                "description": f"Does the thing number {number}. " * 8,
                "inputSchema": {"type": "object", "properties": properties},
            },
        )
        for number in range(count)
    ]


def changed(tools: Sequence[Item]) -> list[Item]:
    """The same with another description of the one in the middle."""
    middle = len(tools) // 2
    one = tools[middle]
    other = Item(one.own_name, one.name, {**one.definition, "description": "Does nothing."})
    return [*tools[:middle], other, *tools[middle + 1 :]]


Way = Callable[[Database, Sequence[Item]], Awaitable[object]]
"""One way to make a list of tools what is stored."""


async def whole(database: Database, tools: Sequence[Item]) -> None:
    listed = Listed(
        name="bench", origin="file", config={}, position=0, about={}, items={"tools": tools}
    )
    await ListingRepository(database).sync(None, listed)


async def items_alone(database: Database, tools: Sequence[Item]) -> None:
    await ItemRepository(database, "tools").sync(None, await server(database), tools)


async def row_by_row(database: Database, tools: Sequence[Item]) -> None:
    owner = await server(database)
    async with database.transaction() as connection:
        for position, tool in enumerate(tools):
            text, key = json.dumps(tool.definition), digest(tool.own_name)
            values = (owner, tool.own_name, key, text, digest(text), position)
            await connection.execute(ERRAND, await connection.fetchval(ROW, *values))


async def server(database: Database) -> int:
    row = await ServerRepository(database).put(None, "bench", origin="file", config={})
    return row.id


async def seconds(doing: Awaitable[object]) -> float:
    started = time.perf_counter()
    await doing
    return time.perf_counter() - started


async def run(dsn: str, way: Way, tools: Sequence[Item]) -> list[float]:
    """Seconds for the first time, for nothing new and for one change; and the ids drawn."""
    async with open_pool(dsn, DatabaseSettings()) as database:
        async with database.acquire() as connection:
            await migrations.up(connection)
        lists = (tools, tools, changed(tools))
        times = [await seconds(way(database, listed)) for listed in lists]
        return [*times, await database.fetchval("SELECT last_value FROM mcp.tools_id_seq")]


async def measure(count: int) -> None:
    tools = make_tools(count)
    columns: list[list[float]] = []
    with cluster() as running:
        for way in (whole, items_alone, row_by_row):
            async with running.database() as dsn:
                columns.append(await run(dsn, way, tools))
    *times, ids = zip(*columns, strict=True)
    size = len(json.dumps(tools[0].definition))
    print(f"{count} tools of {size} bytes")  # noqa: T201 - this is what it is for
    print(f"{'':24}{'whole':>10}{'items alone':>14}{'row by row':>14}{'ratio':>9}")  # noqa: T201 - see above
    for what, (ours, items, theirs) in zip(WHAT, times, strict=True):
        line = f"{what:24}{ours:9.2f}s{items:13.2f}s{theirs:13.2f}s{theirs / ours:8.1f}x"
        print(line)  # noqa: T201 - see above
    print(f"{'ids drawn':24}{ids[0]:10}{ids[1]:14}{ids[2]:14}")  # noqa: T201 - see above


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the registry's sync.")
    parser.add_argument("--tools", type=int, default=10_000, help="how many (default: 10000)")
    logs.configure("warning")
    asyncio.run(measure(parser.parse_args().tools))


if __name__ == "__main__":
    main()

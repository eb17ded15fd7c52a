"""
How fast a list gets into the registry: in bulk, next to row by row, in the same run.

    python -m bench.registry [--tools 10000]

Starts a PostgreSQL of its own and ends it. Row by row is what one would write first: a transaction
with one upsert and one outbox row for each tool.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable, Sequence

import asyncpg
from tests.storage.postgres import cluster

from trunkline import logs
from trunkline.storage import migrations
from trunkline.storage.repositories.items import ItemRepository
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


async def row_by_row(pool: asyncpg.Pool, server: int, tools: Sequence[Item]) -> None:
    async with pool.acquire() as connection, connection.transaction():
        for position, tool in enumerate(tools):
            text, key = json.dumps(tool.definition), digest(tool.own_name)
            values = (server, tool.own_name, key, text, digest(text), position)
            await connection.execute(ERRAND, await connection.fetchval(ROW, *values))


async def seconds(doing: Awaitable[object]) -> float:
    started = time.perf_counter()
    await doing
    return time.perf_counter() - started


async def fresh(dsn: str) -> tuple[asyncpg.Pool, int]:
    """A pool on an empty registry, and a server in it."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=2)
    async with pool.acquire() as connection:
        await migrations.up(connection)
    server = await ServerRepository(pool).put(None, "bench", origin="api", config={})
    return pool, server.id


async def measure(count: int) -> None:
    tools = make_tools(count)
    size = len(json.dumps(tools[0].definition))
    with cluster() as running:
        async with running.database() as dsn, running.database() as other:
            pool, server = await fresh(dsn)
            repository = ItemRepository(pool, "tools")
            bulk = [await seconds(repository.sync(None, server, tools)) for _ in range(2)]
            drawn = await pool.fetchval("SELECT last_value FROM mcp.tools_id_seq")
            await pool.close()
            pool, server = await fresh(other)
            single = [await seconds(row_by_row(pool, server, tools)) for _ in range(2)]
            burnt = await pool.fetchval("SELECT last_value FROM mcp.tools_id_seq")
            await pool.close()
    print(f"{count} tools of {size} bytes")  # noqa: T201 - this is what it is for
    print(f"{'':24}{'bulk':>10}{'row by row':>14}{'ratio':>9}")  # noqa: T201 - see above
    for what, ours, theirs in zip(("first time", "again, unchanged"), bulk, single, strict=True):
        line = f"{what:24}{ours:9.2f}s{theirs:13.2f}s{theirs / ours:8.1f}x"
        print(line)  # noqa: T201 - see above
    print(f"{'ids drawn':24}{drawn:10}{burnt:14}")  # noqa: T201 - see above


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the registry's sync.")
    parser.add_argument("--tools", type=int, default=10_000, help="how many (default: 10000)")
    logs.configure("warning")
    asyncio.run(measure(parser.parse_args().tools))


if __name__ == "__main__":
    main()

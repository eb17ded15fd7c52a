"""A database with something in every table."""

import hashlib
from typing import Any
from uuid import UUID

import asyncpg

from trunkline.models import KINDS, Kind
from trunkline.storage.repositories.embeddings import EmbeddingRepository
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.pins import PinRepository, Seen
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.repositories.statistics import StatisticsRepository
from trunkline.storage.rows import AssignmentRow, Calls, Item, Org

TABLES = (
    "orgs",
    "servers",
    "tools",
    "prompts",
    "resources",
    "resource_templates",
    "skill_categories",
    "tool_skill_assignments",
    "outbox",
    "embeddings",
    "call_statistics",
    "pins",
)


def item(own: str, *, name: str | None = None, description: str = "") -> Item:
    """A tool or whatever else, served under its own name unless another is given."""
    return Item(own, own if name is None else name, {"name": own, "description": description})


async def add_server(pool: asyncpg.Pool, org: Org, name: str) -> int:
    server = await ServerRepository(pool).put(org, name, origin="api", config={"url": "http://x"})
    return server.id


async def fill(pool: asyncpg.Pool) -> dict[Org, int]:
    """Put something into every table for two organisations and for nobody; return the servers."""
    orgs = OrgRepository(pool)
    scopes: list[UUID | None] = [await orgs.put("acme"), await orgs.put("globex"), None]
    return {org: await fill_for(pool, org) for org in scopes}


async def fill_for(pool: asyncpg.Pool, org: Org) -> int:
    """The same for one scope: a server, two items of each kind, a skill and some calls."""
    server = await add_server(pool, org, "mail")
    for kind in KINDS:
        await ItemRepository(pool, kind).sync(org, server, [item("send"), item("read")])
    tools = [
        row.id
        for row in await ItemRepository(pool, "tools").list_visible(org)
        if row.server_id == server
    ]
    skills = SkillRepository(pool)
    skill = await skills.put(org, "writing", "Write and read letters.")
    await skills.assign(org, skill, [AssignmentRow(one, skill, 0.5, True) for one in tools])
    await StatisticsRepository(pool).record(org, {one: Calls(3, 1, 0.5, [1, 2]) for one in tools})
    pins = PinRepository(pool)
    for digest in (b"p" * 32, b"q" * 32):
        tool = Seen("mail", "send", {"name": "send"}, digest, is_late=False)
        await pins.see(org, None, [tool])
    text = hashlib.sha256(b"send").digest()
    await EmbeddingRepository(pool).keep("small", {text: b"\0\0\0\0"})
    return server


async def contents(connection: Any) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    return {
        table: [
            row[0]
            for row in await connection.fetch(
                f"SELECT row_to_json(there)::text FROM mcp.{table} AS there ORDER BY 1"
            )
        ]
        for table in TABLES
    }


async def settle_all(pool: asyncpg.Pool) -> None:
    """Be the worker of an index that does everything at once."""
    outbox = OutboxRepository(pool)
    while claimed := await outbox.claim(100, seconds=60):
        assert await outbox.settle(claimed) == len(claimed)


async def own_names(pool: asyncpg.Pool, kind: Kind = "tools", org: Org = None) -> list[str]:
    return [row.own_name for row in await ItemRepository(pool, kind).list_visible(org)]

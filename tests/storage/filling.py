"""A database with something in every table."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from trunkline.models import KINDS, Kind
from trunkline.storage.repositories.approvals import ApprovalRepository, NewApproval
from trunkline.storage.repositories.audit import AuditRepository, AuditRow
from trunkline.storage.repositories.embeddings import EmbeddingRepository
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.keys import KeyRepository, KeyRow, NewKey
from trunkline.storage.repositories.oauth import LoginRepository, OAuthRepository
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.pins import PinRepository, Seen
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.repositories.statistics import StatisticsRepository
from trunkline.storage.repositories.vault import Sealed, VaultRepository
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
    "keys",
    "approvals",
    "audit",
    "vault",
    "oauth_logins",
    "oauth_grants",
)


def item(own: str, *, name: str | None = None, description: str = "") -> Item:
    """A tool or whatever else, served under its own name unless another is given."""
    return Item(own, own if name is None else name, {"name": own, "description": description})


async def name_of(pool: asyncpg.Pool, org: Org) -> str | None:
    orgs = await OrgRepository(pool).list_all()
    return next((name for name, id_ in orgs.items() if id_ == org), None)


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
    await add_key(pool, org)
    await add_approvals(pool, org)
    await add_entries(pool, [await name_of(pool, org)])
    await add_credentials(pool, org)
    text = hashlib.sha256(b"send").digest()
    await EmbeddingRepository(pool).keep("small", {text: b"\0\0\0\0"})
    return server


async def add_key(pool: asyncpg.Pool, org: Org) -> KeyRow:
    """The key `laptop` of alice."""
    new = NewKey(name="laptop", user="alice")
    return await KeyRepository(pool).add(org, secrets.token_hex(6), bytes(32), new)


def request_of(call: bytes) -> NewApproval:
    """A request of alice's to send, with that hash."""
    return NewApproval(
        id=secrets.token_hex(4),
        call_hash=call,
        subject="key:1",
        user="alice",
        server="mail",
        tool="send",
        arguments="",
        risk="HIGH",
        four_eyes=False,
        valid_for=600,
        pending_for=600,
    )


async def add_approvals(pool: asyncpg.Pool, org: Org) -> dict[bytes, str]:
    """A request that waits, one that is approved and one that is denied; ids by hash."""
    approvals, ids = ApprovalRepository(pool), dict[bytes, str]()
    for _ in range(3):
        new = request_of(secrets.token_bytes(32))
        assert await approvals.put(org, new, most=9)
        ids[new.call_hash] = new.id
    _, approved, denied = ids.values()
    await approvals.approve(org, approved, by="key:2", user=None, everywhere=False)
    await approvals.deny(org, denied, by="key:2", everywhere=False)
    return ids


async def add_entries(pool: asyncpg.Pool, orgs: Sequence[str | None]) -> None:
    """An entry of the audit for each of these organisations."""
    chain, now = uuid4(), datetime.now(UTC)
    rows = [
        AuditRow(
            chain=chain,
            place=place,
            hash=bytes(32),
            at=now,
            action="tools/call",
            outcome="ok",
            face="http",
            subject="key:1",
            org=org,
        )
        for place, org in enumerate(orgs, 1)
    ]
    await AuditRepository(pool).add(rows)


async def add_credentials(pool: asyncpg.Pool, org: Org) -> None:
    """A secret of alice's for `mail`, her turn to refresh it, and a login that is under way."""
    sealed = Sealed("k1", b"wrapped", b"sealed")
    async with pool.acquire() as connection, connection.transaction():
        await VaultRepository(pool).put(org, connection, "alice", "mail", sealed)
    oauth, link = OAuthRepository(pool), secrets.token_bytes(32)
    assert await oauth.claim(org, "alice", "mail", by="refresher", seconds=600) is not None
    await oauth.begin(org, "alice", "mail", link=link, request={}, seconds=600)
    browser, state, seed = [secrets.token_bytes(32) for _ in range(3)]
    assert await LoginRepository(pool).leave(link, browser, state, seed) == {}


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


async def make_empty(connection: Any) -> None:
    """Leave nothing in any table but the audit, which refuses."""
    tables = ", ".join(f"mcp.{table}" for table in TABLES if table != "audit")
    await connection.execute(f"TRUNCATE {tables} CASCADE")


async def settle_all(pool: asyncpg.Pool) -> None:
    """Be the worker of an index that does everything at once."""
    outbox = OutboxRepository(pool)
    while claimed := await outbox.claim(100, seconds=60):
        assert await outbox.settle(claimed) == len(claimed)


async def own_names(pool: asyncpg.Pool, kind: Kind = "tools", org: Org = None) -> list[str]:
    return [row.own_name for row in await ItemRepository(pool, kind).list_visible(org)]

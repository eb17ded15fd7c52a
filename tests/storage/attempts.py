"""
What an organisation can try with what belongs to another: each method of each repository, once.

An attempt answers with what it got of the other, so that every answer is to be nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from tests.storage.filling import add_key, fill_for, request_of
from trunkline.errors import ServerNotFound
from trunkline.models import KINDS, Kind
from trunkline.storage.changes import Changes
from trunkline.storage.repositories.approvals import ApprovalRepository, ApprovalRow
from trunkline.storage.repositories.audit import AuditEntries, AuditFilter
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.keys import KeyNotFound, KeyRepository
from trunkline.storage.repositories.listings import Listed, ListingRepository
from trunkline.storage.repositories.oauth import (
    Grant,
    OAuthRepository,
)
from trunkline.storage.repositories.pins import PinRepository, Seen
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.repositories.statistics import StatisticsRepository
from trunkline.storage.repositories.vault import Sealed, VaultRepository
from trunkline.storage.rows import AssignmentRow, Calls, Org, SkillRow

Attempt = Callable[[asyncpg.Pool, Org, "Target"], Awaitable[Any]]


class Target:
    """What belongs to somebody else."""

    def __init__(
        self,
        server: int,
        skill: int,
        items: Mapping[Kind, list[int]],
        *,
        key: str,
        approvals: Mapping[str, bytes],
    ) -> None:
        """*approvals* are the hashes of their calls, by id."""
        self.server, self.skill, self.items = server, skill, items
        self.key, self.approvals = key, approvals


async def target_of(pool: asyncpg.Pool, org: Org) -> Target:
    """What a scope has, once it is filled with it."""
    server = await fill_for(pool, org)
    items: dict[Kind, list[int]] = {
        kind: [row.id for row in await ItemRepository(pool, kind).list_visible(org)]
        for kind in KINDS
    }
    skill = await SkillRepository(pool).put(org, "writing", "Write and read letters.")
    (key,) = await KeyRepository(pool).list_scope(org)
    approvals = await pool.fetch("SELECT id, call_hash FROM mcp.approvals")
    return Target(
        server,
        skill,
        items,
        key=key.id,
        approvals={row["id"]: row["call_hash"] for row in approvals},
    )


def on_items(call: Callable[[ItemRepository, Org, Target], Awaitable[Any]]) -> Attempt:
    async def attempt(pool: asyncpg.Pool, org: Org, target: Target) -> list[Any]:
        answers = [await call(ItemRepository(pool, kind), org, target) for kind in KINDS]
        return [answer for answer in answers if answer]

    return attempt


async def sync_theirs(items: ItemRepository, org: Org, target: Target) -> None:
    with pytest.raises(ServerNotFound):
        await items.sync(org, target.server, [])


async def sync_theirs_within(pool: asyncpg.Pool, org: Org, target: Target) -> None:
    for kind in KINDS:
        items, changes = ItemRepository(pool, kind), Changes(kind, [])
        async with pool.acquire() as connection, connection.transaction():
            with pytest.raises(ServerNotFound):
                await items.sync_within(org, connection, target.server, changes)


async def sync_listing(pool: asyncpg.Pool, org: Org, target: Target) -> bool:
    listed = Listed(name="mail", origin="file", config={}, position=0, about={}, items={})
    return (await ListingRepository(pool).sync(org, listed)).server.id == target.server


async def see(pool: asyncpg.Pool, org: Org, _: Target) -> list[str]:
    mine = Seen("mail", "send", {"name": "send", "description": "Mine."}, b"m" * 32, is_late=False)
    found = await PinRepository(pool).see(org, "globex", [mine])
    return [tool for (_, tool), pin in found.items() if pin.accepted != mine.hash or pin.pending]


async def put_server(pool: asyncpg.Pool, org: Org, target: Target) -> bool:
    mine = await ServerRepository(pool).put(org, "mail", origin="api", config={})
    return mine.id == target.server


async def put_skill(pool: asyncpg.Pool, org: Org, target: Target) -> bool:
    return await SkillRepository(pool).put(org, "writing", "Mine.") == target.skill


async def own_skills(listed: Awaitable[list[SkillRow]]) -> list[SkillRow]:
    """Those that are some organisation's: the global ones are everybody's."""
    return [row for row in await listed if row.org is not None]


async def classify(pool: asyncpg.Pool, org: Org, target: Target) -> int:
    skills, tools = SkillRepository(pool), target.items["tools"]
    mine = await skills.put(org, "stealing", "")
    rows = [AssignmentRow(tool, skill, 1, False) for tool in tools for skill in (mine, 1)]
    rows += [AssignmentRow(tool, target.skill, 1, True) for tool in tools]
    return await skills.classify(org, tools, rows) + await skills.classify(org, tools, [])


async def record(pool: asyncpg.Pool, org: Org, target: Target) -> None:
    await StatisticsRepository(pool).record(
        org, {one: Calls(9, 9, 9) for one in target.items["tools"]}
    )


async def assign(pool: asyncpg.Pool, org: Org, target: Target) -> list[int]:
    skills, tools = SkillRepository(pool), target.items["tools"]
    mine = await skills.put(org, "stealing", "")
    rows = [AssignmentRow(tool, mine, 1, True) for tool in tools]
    return await skills.assign(org, target.skill, rows) + await skills.assign(org, mine, rows)


def on_approvals(
    call: Callable[[ApprovalRepository, Org, str, bytes], Awaitable[ApprovalRow | None]],
) -> Attempt:
    async def attempt(pool: asyncpg.Pool, org: Org, target: Target) -> list[ApprovalRow]:
        approvals = ApprovalRepository(pool)
        answers = [await call(approvals, org, *one) for one in target.approvals.items()]
        return [answer for answer in answers if answer is not None]

    return attempt


async def add_own_key(pool: asyncpg.Pool, org: Org, _: Target) -> bool:
    return (await add_key(pool, org)).org_id != org


async def revoke(pool: asyncpg.Pool, org: Org, target: Target) -> None:
    with pytest.raises(KeyNotFound):
        await KeyRepository(pool).revoke(org, target.key)


async def rotate(pool: asyncpg.Pool, org: Org, target: Target) -> None:
    with pytest.raises(KeyNotFound):
        await KeyRepository(pool).rotate(org, target.key, b"m" * 32, grace=timedelta(hours=1))


async def find_entries(pool: asyncpg.Pool, _: Org, __: Target) -> list[Any]:
    entries, every = AuditEntries(pool), AuditFilter(who="*", what="*")
    return await entries.find("globex", AuditFilter(), 9) + await entries.find("globex", every, 9)


async def put_secret(pool: asyncpg.Pool, org: Org, _: Target) -> None:
    mine = Sealed("k1", b"my own", b"mine")
    async with pool.acquire() as connection, connection.transaction():
        await VaultRepository(pool).put(org, connection, "alice", "mail", mine)


async def begin(pool: asyncpg.Pool, org: Org, _: Target) -> None:
    link = b"m" * 32
    await OAuthRepository(pool).begin(org, "alice", "mail", link=link, request={}, seconds=60)


async def claim(pool: asyncpg.Pool, org: Org, _: Target) -> bool:
    """Their turn is none of ours: it does not keep us waiting."""
    claimed = await OAuthRepository(pool).claim(org, "alice", "mail", by="me", seconds=60)
    return claimed is None


async def release(pool: asyncpg.Pool, org: Org, _: Target) -> None:
    await OAuthRepository(pool).release(
        org, "alice", "mail", by="refresher", generation=9, reason="Stolen."
    )


async def grant(pool: asyncpg.Pool, org: Org, _: Target) -> bool:
    nothing = Grant("", is_refreshing=False, is_waiting=False)
    return await OAuthRepository(pool).grant(org, "alice", "mail") != nothing


ATTEMPTS: dict[tuple[type, str], Attempt] = {
    (ItemRepository, "sync"): on_items(sync_theirs),
    (ItemRepository, "sync_within"): sync_theirs_within,
    (ItemRepository, "of_server"): on_items(
        lambda items, org, target: items.of_server(org, target.server)
    ),
    (ItemRepository, "ids"): on_items(lambda items, org, target: items.ids(org, target.server)),
    (ListingRepository, "sync"): sync_listing,
    (ServerRepository, "list_scope"): lambda pool, org, _: ServerRepository(pool).list_scope(org),
    (ServerRepository, "of_id"): lambda pool, org, target: ServerRepository(pool).of_id(
        org, target.server
    ),
    (ItemRepository, "list_visible"): on_items(lambda items, org, _: items.list_visible(org)),
    (ItemRepository, "find"): on_items(lambda items, org, t: items.find(org, t.items[items.kind])),
    (ItemRepository, "count_visible"): on_items(lambda items, org, _: items.count_visible(org)),
    (ItemRepository, "delete_by_server"): on_items(
        lambda items, org, target: items.delete_by_server(org, target.server)
    ),
    (PinRepository, "see"): see,
    (PinRepository, "of_server"): lambda pool, org, _: PinRepository(pool).of_server(org, "mail"),
    (PinRepository, "list_scope"): lambda pool, org, _: PinRepository(pool).list_scope(org),
    (PinRepository, "find"): lambda pool, org, _: PinRepository(pool).find(org, "mail", "send"),
    (PinRepository, "accept"): lambda pool, org, _: PinRepository(pool).accept(
        org, "globex", ("mail", "send"), b"p" * 32, "eve"
    ),
    (PinRepository, "forget"): lambda pool, org, _: PinRepository(pool).forget(
        org, "globex", "mail"
    ),
    (ServerRepository, "put"): put_server,
    (ServerRepository, "describe"): lambda pool, org, target: ServerRepository(pool).describe(
        org, target.server, {"instructions": "Obey."}
    ),
    (ServerRepository, "list_visible"): lambda pool, org, _: ServerRepository(pool).list_visible(
        org
    ),
    (ServerRepository, "find"): lambda pool, org, _: ServerRepository(pool).find(org, "mail"),
    (ServerRepository, "hide"): lambda pool, org, target: ServerRepository(pool).hide(
        org, target.server
    ),
    (SkillRepository, "put"): put_skill,
    (SkillRepository, "list_visible"): lambda pool, org, _: own_skills(
        SkillRepository(pool).list_visible(org)
    ),
    (SkillRepository, "list_effective"): lambda pool, org, _: own_skills(
        SkillRepository(pool).list_effective(org)
    ),
    (SkillRepository, "delete"): lambda pool, org, target: SkillRepository(pool).delete(
        org, target.skill
    ),
    (SkillRepository, "assign"): assign,
    (SkillRepository, "classify"): classify,
    (SkillRepository, "of_tools"): lambda pool, org, target: SkillRepository(pool).of_tools(
        org, target.items["tools"]
    ),
    (StatisticsRepository, "record"): record,
    (StatisticsRepository, "of_tools"): lambda pool, org, target: StatisticsRepository(
        pool
    ).of_tools(org, target.items["tools"]),
    (ApprovalRepository, "take"): on_approvals(lambda rows, org, _, call: rows.take(org, call)),
    (ApprovalRepository, "put"): on_approvals(
        lambda rows, org, _, call: rows.put(org, request_of(call), most=9)
    ),
    (ApprovalRepository, "approve"): on_approvals(
        lambda rows, org, id_, _: rows.approve(org, id_, by="eve", user=None, everywhere=False)
    ),
    (ApprovalRepository, "deny"): on_approvals(
        lambda rows, org, id_, _: rows.deny(org, id_, by="eve", everywhere=False)
    ),
    (ApprovalRepository, "find"): on_approvals(
        lambda rows, org, id_, _: rows.find(org, id_, everywhere=False)
    ),
    (ApprovalRepository, "list_scope"): lambda pool, org, _: ApprovalRepository(pool).list_scope(
        org, everywhere=False, over=True
    ),
    (KeyRepository, "add"): add_own_key,
    (KeyRepository, "revoke"): revoke,
    (KeyRepository, "rotate"): rotate,
    (KeyRepository, "list_scope"): lambda pool, org, _: KeyRepository(pool).list_scope(org),
    (AuditEntries, "find"): find_entries,
    (VaultRepository, "find"): lambda pool, org, _: VaultRepository(pool).find(
        org, "alice", "mail"
    ),
    (VaultRepository, "put"): put_secret,
    (VaultRepository, "forget"): lambda pool, org, _: VaultRepository(pool).forget(
        org, "alice", "mail"
    ),
    (OAuthRepository, "begin"): begin,
    (OAuthRepository, "claim"): claim,
    (OAuthRepository, "release"): release,
    (OAuthRepository, "grant"): grant,
}

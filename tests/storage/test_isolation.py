"""No organisation reads, counts or changes anything of another: every method is tried."""

import inspect
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.storage.filling import (
    contents,
    fill_for,
)
from trunkline.errors import ServerNotFound
from trunkline.models import KINDS, Kind
from trunkline.storage import repositories
from trunkline.storage.changes import Changes
from trunkline.storage.repositories.embeddings import EmbeddingRepository
from trunkline.storage.repositories.everything import Everything
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.listings import Listed, ListingRepository
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.pins import AllPins, PinRepository, Seen
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.repositories.statistics import StatisticsRepository
from trunkline.storage.rows import AssignmentRow, Calls, SkillRow

pytestmark = pytest.mark.anyio


FOR_THE_PROCESS = {OrgRepository, OutboxRepository, EmbeddingRepository, Everything, AllPins}
"""No request comes to these; each says so and why."""

Attempt = Callable[[asyncpg.Pool, UUID, "Target"], Awaitable[Any]]


class Target:
    """What belongs to somebody else."""

    def __init__(self, server: int, skill: int, items: Mapping[Kind, list[int]]) -> None:
        self.server, self.skill, self.items = server, skill, items


def on_items(call: Callable[[ItemRepository, UUID, Target], Awaitable[Any]]) -> Attempt:
    async def attempt(pool: asyncpg.Pool, org: UUID, target: Target) -> list[Any]:
        answers = [await call(ItemRepository(pool, kind), org, target) for kind in KINDS]
        return [answer for answer in answers if answer]

    return attempt


async def sync_theirs(items: ItemRepository, org: UUID, target: Target) -> None:
    with pytest.raises(ServerNotFound):
        await items.sync(org, target.server, [])


async def sync_theirs_within(pool: asyncpg.Pool, org: UUID, target: Target) -> None:
    for kind in KINDS:
        items, changes = ItemRepository(pool, kind), Changes(kind, [])
        async with pool.acquire() as connection, connection.transaction():
            with pytest.raises(ServerNotFound):
                await items.sync_within(org, connection, target.server, changes)


async def sync_listing(pool: asyncpg.Pool, org: UUID, target: Target) -> bool:
    listed = Listed(name="mail", origin="file", config={}, position=0, about={}, items={})
    return (await ListingRepository(pool).sync(org, listed)).server.id == target.server


async def see(pool: asyncpg.Pool, org: UUID, _: Target) -> list[str]:
    mine = Seen("mail", "send", {"name": "send", "description": "Mine."}, b"m" * 32, is_late=False)
    found = await PinRepository(pool).see(org, "globex", [mine])
    return [tool for (_, tool), pin in found.items() if pin.accepted != mine.hash or pin.pending]


async def put_server(pool: asyncpg.Pool, org: UUID, target: Target) -> bool:
    mine = await ServerRepository(pool).put(org, "mail", origin="api", config={})
    return mine.id == target.server


async def put_skill(pool: asyncpg.Pool, org: UUID, target: Target) -> bool:
    return await SkillRepository(pool).put(org, "writing", "Mine.") == target.skill


async def own_skills(listed: Awaitable[list[SkillRow]]) -> list[SkillRow]:
    """Those that are some organisation's: the global ones are everybody's."""
    return [row for row in await listed if row.org is not None]


async def classify(pool: asyncpg.Pool, org: UUID, target: Target) -> int:
    skills, tools = SkillRepository(pool), target.items["tools"]
    mine = await skills.put(org, "stealing", "")
    rows = [AssignmentRow(tool, skill, 1, False) for tool in tools for skill in (mine, 1)]
    rows += [AssignmentRow(tool, target.skill, 1, True) for tool in tools]
    return await skills.classify(org, tools, rows) + await skills.classify(org, tools, [])


async def record(pool: asyncpg.Pool, org: UUID, target: Target) -> None:
    await StatisticsRepository(pool).record(
        org, {one: Calls(9, 9, 9) for one in target.items["tools"]}
    )


async def assign(pool: asyncpg.Pool, org: UUID, target: Target) -> list[int]:
    skills, tools = SkillRepository(pool), target.items["tools"]
    mine = await skills.put(org, "stealing", "")
    rows = [AssignmentRow(tool, mine, 1, True) for tool in tools]
    return await skills.assign(org, target.skill, rows) + await skills.assign(org, mine, rows)


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
}


def methods() -> set[tuple[type, str]]:
    """Every public method of every repository there is."""
    found: set[tuple[type, str]] = set()
    for one in pkgutil.iter_modules(repositories.__path__, f"{repositories.__name__}."):
        module = import_module(one.name)
        for _, repository in inspect.getmembers(module, inspect.isclass):
            if repository.__module__ == module.__name__ and not is_dataclass(repository):
                found |= {(repository, name) for name in vars(repository) if name[0] != "_"}
    return found


def test_every_method_is_tried_by_somebody_else() -> None:
    tenants = {one for one in methods() if one[0] not in FOR_THE_PROCESS}

    assert tenants == set(ATTEMPTS)
    for repository, name in tenants:
        parameters = list(inspect.signature(getattr(repository, name)).parameters)
        assert parameters[1] == "org", f"{repository.__name__}.{name}"


@pytest.mark.parametrize("method", list(ATTEMPTS), ids=lambda one: f"{one[0].__name__}.{one[1]}")
async def test_another_organisation_sees_counts_and_changes_nothing(
    pool: asyncpg.Pool, method: tuple[type, str]
) -> None:
    acme, globex = [await OrgRepository(pool).put(name) for name in ("acme", "globex")]
    server = await fill_for(pool, acme)
    items: dict[Kind, list[int]] = {
        kind: [row.id for row in await ItemRepository(pool, kind).list_visible(acme)]
        for kind in KINDS
    }
    (skill,) = await own_skills(SkillRepository(pool).list_visible(acme))
    before = await contents(pool)

    answer = await ATTEMPTS[method](pool, globex, Target(server, skill.id, items))

    assert not answer
    after = await contents(pool)
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), f"{method} changed {table}"
    assert after["outbox"] == before["outbox"]
    assert after["call_statistics"] == before["call_statistics"]


async def test_the_use_of_a_shared_tool_is_each_organisations_own(pool: asyncpg.Pool) -> None:
    await fill_for(pool, None)
    acme, globex = [await OrgRepository(pool).put(name) for name in ("acme", "globex")]
    (tool, *_) = [row.id for row in await ItemRepository(pool, "tools").list_visible(None)]
    statistics = StatisticsRepository(pool)

    await statistics.record(acme, {tool: Calls(5, 0, 1.0)})

    assert (await statistics.of_tools(acme, [tool]))[tool].count == 5
    assert await statistics.of_tools(globex, [tool]) == {}
    assert (await statistics.of_tools(None, [tool]))[tool].count == 3


async def test_nobody_puts_a_tool_of_their_own_into_the_skill_of_another(
    pool: asyncpg.Pool,
) -> None:
    acme, globex = [await OrgRepository(pool).put(name) for name in ("acme", "globex")]
    for org in (acme, globex):
        await fill_for(pool, org)
    skills = SkillRepository(pool)
    (theirs,) = await own_skills(skills.list_visible(acme))
    (tool, *_) = await ItemRepository(pool, "tools").list_visible(globex)
    before = await contents(pool)

    answer = await skills.assign(globex, theirs.id, [AssignmentRow(tool.id, theirs.id, 1, True)])

    assert answer == []
    assert await contents(pool) == before

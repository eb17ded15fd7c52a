"""No organisation reads, counts or changes anything of another: every method is tried."""

import inspect
import pkgutil
from dataclasses import is_dataclass
from importlib import import_module

import asyncpg
import pytest

from tests.storage.attempts import ATTEMPTS, own_skills, target_of
from tests.storage.filling import contents, fill_for
from trunkline.storage import repositories
from trunkline.storage.repositories.approvals import ApprovalRepository
from trunkline.storage.repositories.audit import AuditRepository
from trunkline.storage.repositories.embeddings import EmbeddingRepository
from trunkline.storage.repositories.everything import Everything
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.keys import AllKeys, KeyRepository
from trunkline.storage.repositories.oauth import (
    LoginRepository,
    OAuthRepository,
    RegistrationRepository,
)
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.pins import AllPins
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.repositories.statistics import StatisticsRepository
from trunkline.storage.repositories.vault import VaultKeys, VaultRepository
from trunkline.storage.rows import AssignmentRow, Calls

pytestmark = pytest.mark.anyio


FOR_THE_PROCESS = {
    OrgRepository,
    OutboxRepository,
    EmbeddingRepository,
    Everything,
    AllPins,
    AllKeys,
    AuditRepository,
    VaultKeys,
    LoginRepository,
    RegistrationRepository,
}
"""No request of an organisation comes to these; each says so and why."""

NEVER_SHARED = {ApprovalRepository, KeyRepository, OAuthRepository, VaultRepository}
"""What is no organisation's is not everybody's either: it is of those who belong to none."""


def is_row_or_error(one: type) -> bool:
    return is_dataclass(one) or issubclass(one, Exception)


def methods() -> set[tuple[type, str]]:
    """Every public method of every repository there is."""
    found: set[tuple[type, str]] = set()
    for one in pkgutil.iter_modules(repositories.__path__, f"{repositories.__name__}."):
        module = import_module(one.name)
        for _, repository in inspect.getmembers(module, inspect.isclass):
            if repository.__module__ == module.__name__ and not is_row_or_error(repository):
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
    target = await target_of(pool, acme)
    before = await contents(pool)

    answer = await ATTEMPTS[method](pool, globex, target)

    assert not answer
    after = await contents(pool)
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), f"{method} changed {table}"
    assert after["outbox"] == before["outbox"]
    assert after["call_statistics"] == before["call_statistics"]


@pytest.mark.parametrize("owner", ["acme", None])
@pytest.mark.parametrize(
    "method",
    [one for one in ATTEMPTS if one[0] in NEVER_SHARED],
    ids=lambda one: f"{one[0].__name__}.{one[1]}",
)
async def test_whoever_belongs_to_none_and_an_organisation_have_nothing_in_common(
    pool: asyncpg.Pool, method: tuple[type, str], owner: str | None
) -> None:
    acme = await OrgRepository(pool).put("acme")
    theirs, ours = (None, acme) if owner is None else (acme, None)
    target = await target_of(pool, theirs)
    before = await contents(pool)

    answer = await ATTEMPTS[method](pool, ours, target)

    assert not answer
    after = await contents(pool)
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), f"{method} changed {table}"


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

"""The table of the audit: added to and read, and nothing else, not even by hand."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from trunkline.errors import NotStorable
from trunkline.storage import migrations
from trunkline.storage.repositories.audit import (
    EXPIRED,
    PAGE,
    AuditEntries,
    AuditFilter,
    AuditRepository,
    AuditRow,
)

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


def row(place: int, chain: UUID, **values: Any) -> AuditRow:
    given: dict[str, Any] = {"at": NOW, "action": "tools/call", "outcome": "ok", "face": "http"}
    return AuditRow(chain=chain, place=place, hash=bytes(32), **given | values)


async def count(pool: asyncpg.Pool) -> int:
    return await pool.fetchval("SELECT count(*) FROM mcp.audit")


async def test_an_entry_comes_back_as_it_was(pool: asyncpg.Pool) -> None:
    audit, chain = AuditRepository(pool), uuid4()
    full = row(
        2,
        chain,
        request="7",
        subject="key:ada",
        user="ada",
        org="acme",
        role="user",
        server="github",
        own_name="search",
        name="github__search",
        arguments_hash=bytes(range(32)),
        arguments={"text": "NUL \0, half \ud800, ä", "number": 2**70, "float": 0.1},
        outcome="denied",
        code="rate_limited",
        duration_ms=0.123,
        causes=[{"code": "rate_limited", "reason": "Too many."}],
    )

    await audit.add([row(1, chain), full])

    bare, found = await AuditEntries(pool).find(None, AuditFilter(), 10)
    full.id, found_id = found.id, found.id
    assert found == full
    assert bare.id < found_id
    assert (bare.subject, bare.arguments, bare.duration_ms) == (None, None, None)


async def test_what_is_sent_twice_is_there_once(pool: asyncpg.Pool) -> None:
    audit, chain = AuditRepository(pool), uuid4()
    rows = [row(place, chain) for place in range(1, 500)]

    await audit.add(rows[:300])
    await asyncio.gather(audit.add(rows), audit.add(rows))

    assert await count(pool) == len(rows)


async def test_an_entry_that_can_never_be_stored_is_told_apart(pool: asyncpg.Pool) -> None:
    audit, chain = AuditRepository(pool), uuid4()

    for values in ({"outcome": "unheard of"}, {"name": "NUL \0"}, {"arguments_hash": b"short"}):
        with pytest.raises(NotStorable):
            await audit.add([row(1, chain), row(2, chain, **values)])

    assert await count(pool) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE mcp.audit SET outcome = 'ok'",
        "UPDATE mcp.audit SET code = NULL WHERE place = 1",
        "DELETE FROM mcp.audit",
        "TRUNCATE mcp.audit",
        "WITH gone AS (DELETE FROM mcp.audit RETURNING 1) SELECT count(*) FROM gone",
        (
            "INSERT INTO mcp.audit OVERRIDING SYSTEM VALUE TABLE mcp.audit "
            "ON CONFLICT (chain, place) DO UPDATE SET code = 'x'"
        ),
        "SET trunkline.audit_expiry = 'on'; DELETE FROM mcp.audit",
        "SET trunkline.audit_expiry = 'on'; UPDATE mcp.audit SET code = 'x'",
        "SET trunkline.audit_expiry = 'on'; TRUNCATE mcp.audit",
    ],
)
async def test_a_change_by_hand_is_refused(pool: asyncpg.Pool, statement: str) -> None:
    audit, chain = AuditRepository(pool), uuid4()
    await audit.add([row(1, chain, at=datetime.now(UTC)), row(2, chain, at=datetime.now(UTC))])
    before = await pool.fetch("SELECT * FROM mcp.audit ORDER BY id")

    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match="only ever added to"):
            await connection.execute(statement)

    assert await pool.fetch("SELECT * FROM mcp.audit ORDER BY id") == before


async def test_old_entries_go_and_young_ones_never(pool: asyncpg.Pool) -> None:
    audit, chain, now = AuditRepository(pool), uuid4(), datetime.now(UTC)
    ages = [timedelta(days=40), timedelta(days=31), timedelta(days=29), timedelta(hours=1)]
    await audit.add([row(n, chain, at=now - age) for n, age in enumerate(ages, 1)])

    assert await audit.expire(30) == 2
    assert await audit.expire(30) == 0

    assert [one.place for one in await AuditEntries(pool).find(None, AuditFilter(), 10)] == [3, 4]
    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.PostgresError, match="only ever added to"):
            await connection.execute("DELETE FROM mcp.audit")


async def test_more_old_entries_than_go_in_one_step_all_go(pool: asyncpg.Pool) -> None:
    audit, chain, old = AuditRepository(pool), uuid4(), datetime.now(UTC) - timedelta(days=40)
    many = EXPIRED + 7
    await audit.add([row(place, chain, at=old) for place in range(1, many + 1)])

    assert await audit.expire(30) == many
    assert await count(pool) == 0


async def test_entries_are_found_by_what_is_asked_for(pool: asyncpg.Pool) -> None:
    audit, entries, chain = AuditRepository(pool), AuditEntries(pool), uuid4()
    search = {"server": "github", "own_name": "search_code", "name": "github__search_code"}
    await audit.add(
        [
            row(1, chain, subject="key:1", user="ada", org="acme", **search),
            row(2, chain, subject="key:2", user="bob", org="globex", outcome="denied", **search),
            row(3, chain, subject="key:10", user="ada", org="acme", action="key.create"),
            row(4, chain, subject="100%", at=NOW + timedelta(hours=1)),
        ]
    )

    async def places(org: str | None = None, **wanted: Any) -> list[int]:
        return [one.place for one in await entries.find(org, AuditFilter(**wanted), 10)]

    assert await places() == [1, 2, 3, 4]
    assert await places(org="acme") == [1, 3]
    assert await places(who="key:1") == [1]
    assert await places(who="key:*") == [1, 2, 3]
    assert await places(who="ada") == [1, 3]
    assert await places(who="*%") == [4]
    assert await places(what="tools/call") == [1, 2, 4]
    assert await places(what="github/*") == [1, 2]
    assert await places(what="github__search_code") == [1, 2]
    assert await places(what="github/search%code") == []
    assert await places(outcome="denied") == [2]
    assert await places(since=NOW + timedelta(minutes=1)) == [4]
    assert await places(org="acme", what="key.*") == [3]
    first, second, *_ = [one.id for one in await entries.find(None, AuditFilter(), 10)]
    assert await places(after=first) == [2, 3, 4]
    assert await places(before=second) == [1]
    assert await places(after=first, before=second) == []
    assert [one.place for one in await entries.find(None, AuditFilter(), 2)] == [3, 4]


async def test_every_entry_is_walked_through_chain_by_chain(pool: asyncpg.Pool) -> None:
    audit, chains = AuditRepository(pool), sorted([uuid4() for _ in range(3)])
    places = range(1, PAGE)
    for chain in reversed(chains):
        await audit.add([row(place, chain) for place in reversed(places)])

    walked = [(one.chain, one.place) async for one in audit.walk()]

    assert walked == [(chain, place) for chain in chains for place in places]


async def test_the_way_back_keeps_the_entries_and_their_guard(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    await migrations.up(connection)
    audit, chain = AuditRepository(connection), uuid4()
    await audit.add([row(1, chain)])

    await migrations.down(connection, to=9)
    with pytest.raises(asyncpg.PostgresError, match="only ever added to"):
        await connection.execute("DELETE FROM mcp.audit_backup_0010")
    await migrations.up(connection)
    await audit.add([row(1, chain), row(2, chain)])

    found = await AuditEntries(connection).find(None, AuditFilter(), 10)
    assert [one.place for one in found] == [1, 2]
    with pytest.raises(asyncpg.PostgresError, match="only ever added to"):
        await connection.execute("DELETE FROM mcp.audit")

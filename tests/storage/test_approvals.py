"""Approvals as rows: used once, by one, in time, and by nobody else's leave."""

import asyncio
import hashlib
from dataclasses import replace
from uuid import UUID

import asyncpg
import pytest

from trunkline.storage import migrations
from trunkline.storage.repositories.approvals import (
    ApprovalRepository,
    ApprovalRow,
    NewApproval,
)
from trunkline.storage.repositories.orgs import OrgRepository

pytestmark = pytest.mark.anyio


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def request(id_: str = "aaaaaaaa", call: str = "drop") -> NewApproval:
    return NewApproval(
        id=id_,
        call_hash=digest(call),
        subject="key:1",
        user="alice",
        server="mail",
        tool="drop",
        arguments="  box: 1",
        risk="HIGH",
        four_eyes=False,
        valid_for=600,
        pending_for=600,
    )


async def acme(pool: asyncpg.Pool) -> UUID:
    return await OrgRepository(pool).put("acme")


async def approve(
    rows: ApprovalRepository, org: UUID | None, id_: str = "aaaaaaaa", *, by: str = "key:2"
) -> ApprovalRow | None:
    return await rows.approve(org, id_, by=by, user=None, everywhere=False)


async def let_expire(pool: asyncpg.Pool, id_: str = "aaaaaaaa") -> None:
    await pool.execute("UPDATE mcp.approvals SET expires_at = now() WHERE id = $1", id_)


async def test_a_request_comes_back_as_it_was_made(pool: asyncpg.Pool) -> None:
    rows, org = ApprovalRepository(pool), await acme(pool)
    odd = replace(request(), tool="dr\0op", subject="token:x#\ud800", user=None)

    row = await rows.put(org, odd, most=5)

    assert row is not None
    assert (row.org, row.subject, row.user) == ("acme", odd.subject, None)
    assert (row.server, row.tool, row.arguments) == ("mail", "dr\0op", "  box: 1")
    assert (row.state, row.risk, row.decided_by, row.used_at) == ("pending", "HIGH", None, None)
    assert 590 < (row.expires_at - row.created_at).total_seconds() <= 600
    assert await rows.list_scope(org, everywhere=False, over=False) == [row]


async def test_the_same_call_has_one_request_until_that_is_over(pool: asyncpg.Pool) -> None:
    rows = ApprovalRepository(pool)
    first = await rows.put(None, request("aaaaaaaa"), most=5)
    again = await rows.put(None, request("bbbbbbbb"), most=5)
    assert first is not None
    assert first == again

    await let_expire(pool)
    later = await rows.put(None, request("cccccccc"), most=5)

    assert later is not None
    assert later.id == "cccccccc"
    states = [one.state for one in await rows.list_scope(None, everywhere=False, over=True)]
    assert sorted(states) == ["expired", "pending"]


async def test_an_approval_is_used_by_one_of_many_who_look_for_it_at_once(
    pool: asyncpg.Pool,
) -> None:
    rows = ApprovalRepository(pool)
    await rows.put(None, request(), most=5)
    assert await rows.take(None, digest("drop")) is None
    await approve(rows, None)

    taken = await asyncio.gather(*(rows.take(None, digest("drop")) for _ in range(8)))

    assert [one.state for one in taken if one is not None] == ["used"]
    assert await rows.take(None, digest("drop")) is None


async def test_an_approval_that_expires_meanwhile_is_not_used(pool: asyncpg.Pool) -> None:
    rows = ApprovalRepository(pool)
    await rows.put(None, request(), most=5)
    await approve(rows, None)
    await let_expire(pool)

    assert await rows.take(None, digest("drop")) is None


async def test_a_request_that_has_expired_is_approved_and_denied_by_nobody(
    pool: asyncpg.Pool,
) -> None:
    rows = ApprovalRepository(pool)
    await rows.put(None, request(), most=5)
    await let_expire(pool)

    assert await approve(rows, None) is None
    assert await rows.deny(None, "aaaaaaaa", by="key:2", everywhere=True) is None
    assert await rows.list_scope(None, everywhere=False, over=False) == []
    over = await rows.list_scope(None, everywhere=False, over=True)
    assert [one.state for one in over] == ["expired"]


async def test_what_was_decided_is_not_decided_again_but_an_unused_approval_can_be_taken_back(
    pool: asyncpg.Pool,
) -> None:
    rows = ApprovalRepository(pool)
    await rows.put(None, request(), most=5)
    assert await approve(rows, None) is not None
    assert await approve(rows, None) is None

    denied = await rows.deny(None, "aaaaaaaa", by="key:3", everywhere=False)

    assert denied is not None
    assert (denied.state, denied.decided_by) == ("denied", "key:3")
    assert await approve(rows, None) is None
    standing = await rows.take(None, digest("drop"))
    assert standing is not None
    assert standing.state == "denied"
    again = await rows.put(None, request("bbbbbbbb"), most=5)
    assert again is not None
    assert (again.id, again.state) == ("aaaaaaaa", "denied")


async def test_an_organisation_does_not_see_or_decide_on_anothers_requests(
    pool: asyncpg.Pool,
) -> None:
    rows, ours = ApprovalRepository(pool), await acme(pool)
    theirs = await OrgRepository(pool).put("globex")
    await rows.put(ours, request(), most=5)

    for org in (theirs, None):
        assert await approve(rows, org) is None
        assert await rows.deny(org, "aaaaaaaa", by="key:2", everywhere=False) is None
        assert await rows.find(org, "aaaaaaaa", everywhere=False) is None
        assert await rows.list_scope(org, everywhere=False, over=True) == []
    assert await rows.find(None, "aaaaaaaa", everywhere=True) is not None
    assert await approve(rows, ours) is not None


@pytest.mark.parametrize(
    ("by", "user", "may"),
    [
        ("key:1", None, False),
        ("key:2", "alice", False),
        ("key:2", "bob", True),
        ("key:2", None, True),
    ],
)
async def test_under_four_eyes_neither_the_caller_nor_its_user_approves(
    by: str, user: str | None, may: bool, pool: asyncpg.Pool
) -> None:
    rows = ApprovalRepository(pool)
    await rows.put(None, replace(request(), four_eyes=True), most=5)

    row = await rows.approve(None, "aaaaaaaa", by=by, user=user, everywhere=True)

    assert (row is not None) is may


async def test_under_four_eyes_one_without_a_user_is_told_from_others_by_its_subject(
    pool: asyncpg.Pool,
) -> None:
    rows = ApprovalRepository(pool)
    await rows.put(None, replace(request(), four_eyes=True, user=None), most=5)

    assert await rows.approve(None, "aaaaaaaa", by="key:1", user=None, everywhere=True) is None
    assert await rows.approve(None, "aaaaaaaa", by="key:2", user=None, everywhere=True)


async def test_one_caller_has_so_many_requests_however_many_come_at_once(
    pool: asyncpg.Pool,
) -> None:
    rows = ApprovalRepository(pool)
    calls = [request(f"aaaaaa{rank:02}", f"drop {rank}") for rank in range(20)]

    kept = await asyncio.gather(*(rows.put(None, one, most=5) for one in calls))

    assert len([one for one in kept if one is not None]) == 5
    known = next(one for one, row in zip(calls, kept, strict=True) if row is not None)
    assert await rows.put(None, known, most=5) is not None
    assert await rows.put(None, replace(request("b" * 8, "x"), subject="key:9"), most=5) is not None


async def test_what_is_long_over_is_forgotten(pool: asyncpg.Pool) -> None:
    rows = ApprovalRepository(pool)
    await rows.put(None, request(), most=5)
    await pool.execute("UPDATE mcp.approvals SET expires_at = now() - interval '8 days'")

    await rows.put(None, request("bbbbbbbb", "another"), most=5)

    left = await rows.list_scope(None, everywhere=True, over=True)
    assert [one.id for one in left] == ["bbbbbbbb"]


async def test_requests_survive_the_way_down_and_up(pool: asyncpg.Pool) -> None:
    rows, org = ApprovalRepository(pool), await acme(pool)
    await rows.put(org, request(), most=5)
    await approve(rows, org)
    async with pool.acquire() as connection:
        await migrations.down(connection, to=7)
        await migrations.up(connection)

    assert await rows.take(org, digest("drop")) is not None

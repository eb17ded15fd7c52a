"""Pins in the real database: who comes first counts, and nobody accepts what they have not seen."""

import hashlib
from typing import Any

import anyio
import asyncpg
import pytest

from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.pins import AllPins, PinRepository, Seen

pytestmark = pytest.mark.anyio

FIRST, SECOND = b"1" * 32, b"2" * 32


def seen(tool: str, digest: bytes = FIRST, *, server: str = "mail", **members: Any) -> Seen:
    return Seen(server, tool, {"name": tool, **members}, digest, is_late=False)


async def test_what_is_seen_first_is_accepted_by_nobody(pool: asyncpg.Pool) -> None:
    pins = PinRepository(pool)

    found = await pins.see(None, None, [seen("send", description="Sends a letter.")])

    pinned = found["mail", "send"]
    assert (pinned.accepted, pinned.accepted_by, pinned.pending) == (FIRST, None, None)
    row = await pins.find(None, "mail", "send")
    assert row is not None
    assert row.accepted == {"name": "send", "description": "Sends a letter."}
    assert row.pending is None


async def test_what_has_changed_waits_beside_what_was_accepted(pool: asyncpg.Pool) -> None:
    pins = PinRepository(pool)
    await pins.see(None, None, [seen("send"), seen("read")])

    found = await pins.see(None, None, [seen("send", SECOND, description="New."), seen("read")])

    assert found["mail", "send"].accepted == FIRST
    assert found["mail", "send"].pending == SECOND
    assert found["mail", "read"].pending is None
    row = await pins.find(None, "mail", "send")
    assert row is not None
    assert (row.accepted, row.pending) == (
        {"name": "send"},
        {"name": "send", "description": "New."},
    )


async def test_a_tool_that_is_again_what_it_was_waits_no_more(pool: asyncpg.Pool) -> None:
    pins = PinRepository(pool)
    await pins.see(None, None, [seen("send")])
    await pins.see(None, None, [seen("send", SECOND)])

    found = await pins.see(None, None, [seen("send")])

    assert found["mail", "send"].pending is None
    assert (await pins.of_server(None, "mail")) == found


async def test_only_what_was_looked_at_is_accepted(pool: asyncpg.Pool) -> None:
    pins, place = PinRepository(pool), ("mail", "send")
    await pins.see(None, None, [seen("send")])
    await pins.see(None, None, [seen("send", SECOND, description="New.")])

    assert not await pins.accept(None, None, place, b"3" * 32, "ada")
    assert not await pins.accept(None, None, ("mail", "read"), SECOND, "ada")
    assert await pins.accept(None, None, place, SECOND, "ada")

    row = await pins.find(None, "mail", "send")
    assert row is not None
    assert row.accepted == {"name": "send", "description": "New."}
    assert (row.pinned.accepted, row.pinned.accepted_by, row.pending) == (SECOND, "ada", None)


async def test_whoever_accepts_what_was_accepted_accepts_nothing_else(pool: asyncpg.Pool) -> None:
    pins = PinRepository(pool)
    await pins.see(None, None, [seen("send")])
    await pins.see(None, None, [seen("send", SECOND)])

    assert await pins.accept(None, None, ("mail", "send"), FIRST, "ada")

    pinned = (await pins.of_server(None, "mail"))["mail", "send"]
    assert (pinned.accepted, pinned.accepted_by, pinned.pending) == (FIRST, "ada", SECOND)


async def test_an_organisation_has_pins_of_its_own(pool: asyncpg.Pool) -> None:
    pins, acme = PinRepository(pool), await OrgRepository(pool).put("acme")
    await pins.see(None, None, [seen("send")])
    await pins.see(acme, "acme", [seen("send", SECOND)])

    assert not await pins.accept(acme, "acme", ("mail", "send"), FIRST, "ada")
    assert await pins.forget(acme, "acme", "mail") == 1
    assert await pins.of_server(acme, "mail") == {}
    assert (await pins.of_server(None, "mail"))["mail", "send"].accepted == FIRST


async def test_everything_is_loaded_under_the_names_of_the_organisations(
    pool: asyncpg.Pool,
) -> None:
    acme = await OrgRepository(pool).put("acme\0inc")
    await PinRepository(pool).see(acme, "acme\0inc", [seen("send\ud800", server="mail\0")])
    await PinRepository(pool).see(None, None, [seen("")])

    assert set(await AllPins(pool).load()) == {
        ("acme\0inc", "mail\0", "send\ud800"),
        (None, "mail", ""),
    }


async def test_what_json_cannot_say_holds_up_no_other(pool: asyncpg.Pool) -> None:
    pins = PinRepository(pool)

    found = await pins.see(
        None, None, [seen("a", description=float("nan")), seen("b", description="\0\ud800")]
    )

    assert list(found) == [("mail", "b")]


async def test_processes_that_see_different_things_at_once_agree_on_who_was_first(
    pool: asyncpg.Pool,
) -> None:
    pins = PinRepository(pool)
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(8)]
    tools = [f"tool{number}" for number in range(1_000)]

    async def see(digest: bytes, order: int) -> None:
        await pins.see(None, None, [seen(tool, digest) for tool in tools[::order]])

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number, digest in enumerate(digests):
                group.start_soon(see, digest, 1 if number % 2 else -1)

    rows = await pins.list_scope(None)
    assert len(rows) == len(tools)
    for row in rows:
        assert row.pinned.accepted in digests
        assert row.pinned.pending in digests
        assert row.pinned.pending != row.pinned.accepted


async def test_of_changing_and_accepting_at_once_nothing_is_accepted_unseen(
    pool: asyncpg.Pool,
) -> None:
    pins, place = PinRepository(pool), ("mail", "send")
    await pins.see(None, None, [seen("send")])
    accepted = list[bytes]()

    async def change() -> None:
        for number in range(30):
            digest = hashlib.sha256(bytes([number])).digest()
            await pins.see(None, None, [seen("send", digest, description=str(number))])

    async def look_and_accept() -> None:
        for _ in range(30):
            row = await pins.find(None, *place)
            assert row is not None
            looked_at = row.pinned.pending or row.pinned.accepted
            if await pins.accept(None, None, place, looked_at, "ada"):
                accepted.append(looked_at)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(change)
            group.start_soon(look_and_accept)

    row = await pins.find(None, *place)
    assert row is not None
    assert row.pinned.accepted in (FIRST, *accepted)
    said = row.accepted.get("description")
    assert said is None or hashlib.sha256(bytes([int(said)])).digest() == row.pinned.accepted


async def test_a_flood_is_stored_in_lots(pool: asyncpg.Pool) -> None:
    pins = PinRepository(pool)

    found = await pins.see(None, None, [seen(f"tool{number}") for number in range(12_000)])

    assert len(found) == 12_000
    assert await pins.forget(None, None, "mail") == 12_000

"""
kill -9 at any moment of a sync, of whoever is at it: nothing lost, nothing doubled.

Each round begins with an index that has caught up and a list that differs from what is stored.
Whatever is killed, what is stored is the list before or the list after, whole; and when the list
has been synced again, rows, ids and outbox are what they would be if nothing had happened.
"""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import psutil
import pytest

from tests.faults.registry_worker import SETTINGS, listing, store
from tests.storage.participants import LIMIT, ROOT, server_pid
from trunkline.errors import StorageUnavailable
from trunkline.models import KINDS, Kind
from trunkline.storage import migrations
from trunkline.storage.embedded import embedded_postgres
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.queries import TABLES
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.rows import digest, to_json

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800)]

IS_LONG: Final = "TRUNKLINE_TEST_ROUNDS" in os.environ
ROUNDS: Final = 50 if IS_LONG else 5
"""The figure of the promise, and its short form."""

FEW: Final = 10 if IS_LONG else 2
SEED: Final = 20_261_124

T = TypeVar("T")

Key = tuple[Kind, str]
"""An item: its kind and own name."""

Said = tuple[str, bytes, int]
"""How it is listed: name, hash of the definition, position."""


@dataclass(frozen=True)
class Stored:
    """What the database has, seen at one moment."""

    items: dict[Key, Said]
    ids: dict[Key, int]


async def stored(database: Database) -> Stored:
    """What is served."""
    items: dict[Key, Said] = {}
    ids: dict[Key, int] = {}
    for kind in KINDS:
        rows = await database.fetch(
            f"SELECT own_name, name, content_hash, position, id FROM mcp.{TABLES[kind]} "
            "WHERE hidden_at IS NULL"
        )
        for own, name, content, position, id_ in rows:
            assert (kind, own) not in items, "an item is there twice"
            items[kind, own] = (name, content, position)
            ids[kind, own] = id_
    return Stored(items, ids)


def wanted(turn: int) -> dict[Key, Said]:
    """What is to be served after a round."""
    return {
        (kind, item.own_name): (item.name, digest(to_json(item.definition)), position)
        for kind in KINDS
        for position, item in enumerate(listing(turn).items[kind])
    }


async def catch_up(database: Database) -> None:
    """Be the worker of an index that does everything at once."""
    outbox = OutboxRepository(database)
    while errands := await outbox.claim(1_000, seconds=60):
        assert await outbox.settle(errands) == len(errands)


async def expect(database: Database, before: Stored, turn: int) -> Stored:
    """What is stored once a round is over, which has to be exact."""
    now = await stored(database)
    assert now.items == wanted(turn)
    assert {key: now.ids[key] for key in now.ids.keys() & before.ids.keys()} == {
        key: before.ids[key] for key in now.ids.keys() & before.ids.keys()
    }
    expected = {
        (key[0], now.ids[key]): ("upsert", 1)
        for key, said in now.items.items()
        if key not in before.items or before.items[key][:2] != said[:2]
    }
    gone = before.ids.keys() - now.ids.keys()
    expected |= {(key[0], before.ids[key]): ("delete", 1) for key in gone}
    rows = await database.fetch("SELECT kind, item_id, operation, version FROM mcp.outbox")
    assert {(row[0], row[1]): (row[2], row[3]) for row in rows} == expected
    for kind in KINDS:
        hidden = await database.fetch(
            f"SELECT id FROM mcp.{TABLES[kind]} WHERE hidden_at IS NOT NULL"
        )
        assert {row["id"] for row in hidden} == {before.ids[key] for key in gone if key[0] == kind}
    about = await database.fetchval("SELECT about FROM mcp.servers")
    assert f"This is round {turn}." in about
    return now


@asynccontextmanager
async def registry(folder: Path) -> AsyncGenerator[Database]:
    """The embedded database of a folder, which has the list of round 0 at first."""
    async with embedded_postgres(folder) as dsn, open_pool(dsn, SETTINGS) as database:
        await database.wait_available(SETTINGS.connect_timeout)
        async with database.acquire() as connection:
            if await migrations.up(connection):
                await store(database, 0)
        yield database


@asynccontextmanager
async def worker(folder: Path, turn: int) -> AsyncGenerator[Process]:
    """A process that has just begun to store a list."""
    sources = [path for path in sys.path if Path(path).is_relative_to(ROOT)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.registry_worker", str(folder), str(turn)),
        stdout=PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sources)},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT):
            assert await process.stdout.readline() == b"begins\n"
        yield process
    finally:
        await kill(process)


async def kill(process: Process) -> None:
    """End a process as a power cut would, unless it has just ended by itself."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    async with asyncio.timeout(LIMIT):
        await process.wait()


async def timed(doing: Awaitable[object]) -> float:
    """How many seconds something takes: what the next moment is chosen from."""
    now = asyncio.get_running_loop().time
    begun = now()
    await doing
    return now() - begun


async def in_the_end(doing: Callable[[], Awaitable[T]]) -> T:
    """What comes of asking until the server is back."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                return await doing()
            except StorageUnavailable:
                await asyncio.sleep(0.02)


async def test_a_process_that_is_killed_at_any_moment_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    dice, finished, folder = random.Random(SEED), 0, tmp_path / "postgres"
    async with registry(folder) as database:
        await catch_up(database)
        before, seconds = await stored(database), 1.0
        for turn in range(1, ROUNDS + 1):
            async with worker(folder, turn) as process:
                await asyncio.sleep(dice.uniform(0, 1.2 * seconds))  # any moment, or just after
                await kill(process)

            left = (await stored(database)).items
            assert left in (before.items, wanted(turn)), "half of a list"
            finished += left != before.items
            took = await timed(store(database, turn))
            before = await expect(database, before, turn)
            seconds = max(took, seconds / 2)
            await catch_up(database)

    assert not IS_LONG or 0 < finished < ROUNDS, "no kill was in the middle, or all were"


async def test_the_server_going_with_its_owner_loses_and_doubles_nothing(tmp_path: Path) -> None:
    dice, folder = random.Random(SEED), tmp_path / "postgres"
    async with registry(folder) as database:
        await catch_up(database)
        before = await stored(database)
    for turn in range(1, FEW + 1):
        async with worker(folder, turn) as process:
            await asyncio.sleep(dice.uniform(0, 1))
            await kill(process)

        async with registry(folder) as database:
            assert (await stored(database)).items in (before.items, wanted(turn)), "half of a list"
            await store(database, turn)
            before = await expect(database, before, turn)
            await catch_up(database)


async def test_a_server_that_is_killed_keeps_what_it_said_was_stored_and_nothing_of_the_rest(
    tmp_path: Path,
) -> None:
    dice, folder = random.Random(SEED), tmp_path / "postgres"
    async with registry(folder) as database:
        await catch_up(database)
        before = await stored(database)
        for turn in range(1, FEW + 1):
            async with asyncio.TaskGroup() as tasks:
                syncing = tasks.create_task(ends_well(store(database, turn)))
                await asyncio.sleep(dice.uniform(0, 1))
                os.kill(victim(folder, turn, dice), signal.SIGKILL)

            left = (await in_the_end(partial(stored, database))).items
            assert left == wanted(turn) or (left == before.items and not syncing.result())
            await in_the_end(partial(store, database, turn))
            before = await in_the_end(partial(expect, database, before, turn))
            await catch_up(database)


def victim(folder: Path, turn: int, dice: random.Random) -> int:
    """The server itself in one round, and one of its processes, which ends all, in the next."""
    server = server_pid(folder)
    return server if turn % 2 else dice.choice(psutil.Process(server).children()).pid


async def ends_well(doing: Awaitable[object]) -> bool:
    """Whether something was done, as far as the database has said."""
    try:
        await doing
    except StorageUnavailable:
        return False
    return True

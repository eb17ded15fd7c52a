"""The database as the storage sees it: away and back again, and its errors in our words."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from tests.storage.participants import server_pid
from tests.storage.postgres import Cluster
from trunkline.errors import (
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageRefused,
    StorageTimeout,
    StorageTooOld,
    StorageUnavailable,
)
from trunkline.settings import DatabaseSettings
from trunkline.storage.embedded import embedded_postgres
from trunkline.storage.failures import check_version
from trunkline.storage.place import Place
from trunkline.storage.pool import Database, open_pool

pytestmark = pytest.mark.anyio

PATIENT = DatabaseSettings(connect_timeout=3600)
"""Whoever waits for this long has waited for nothing."""

QUICK = DatabaseSettings(connect_timeout=10, statement_timeout=5, max_connections=3)


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    """The folder of a server that runs."""
    folder = tmp_path / "postgres"
    async with embedded_postgres(folder):
        yield folder


@asynccontextmanager
async def database_of(
    folder: Path, settings: DatabaseSettings = QUICK, *, user: str = "trunkline", password: str = ""
) -> AsyncGenerator[Database]:
    dsn = Place(folder).dsn.replace("trunkline@", f"{user}:{password}@")
    async with open_pool(dsn, settings) as database:
        yield database


async def restart(folder: Path, database: Database) -> None:
    """Kill the server, and wait until the pool has noticed."""
    gone = asyncio.Event()
    with database.notifying(lambda is_available: None if is_available else gone.set()):
        os.kill(server_pid(folder), signal.SIGKILL)
        async with asyncio.timeout(10):
            await gone.wait()


async def until_seen(database: Database, statement: str) -> None:
    """Wait until the server is at work on *statement*."""
    looking = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
    async with asyncio.timeout(10):
        while await database.fetchval(looking, f"SELECT {statement}%") == 0:
            pass


async def test_statements_get_their_rows(folder: Path) -> None:
    async with database_of(folder) as database:
        await database.execute("CREATE TABLE items (id int)")
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO items VALUES (1), (2)")

        rows = await database.fetch("SELECT id FROM items ORDER BY id")
        row = await database.fetchrow("SELECT id FROM items WHERE id = $1", 2)

        assert [row["id"] for row in rows] == [1, 2]
        assert row is not None
        assert row["id"] == 2
        assert database.is_available
        assert database.reason is None


async def test_a_transaction_that_raises_leaves_nothing(folder: Path) -> None:
    async with database_of(folder) as database:
        await database.execute("CREATE TABLE items (id int)")

        async def insert_and_fail() -> None:
            async with database.transaction() as connection:
                await connection.execute("INSERT INTO items VALUES (1)")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await insert_and_fail()

        assert await database.fetchval("SELECT count(*) FROM items") == 0


async def test_a_restart_of_the_server_is_not_noticed_by_who_comes_next(folder: Path) -> None:
    async with database_of(folder) as database:
        assert await database.fetchval("SELECT 1") == 1

        await restart(folder, database)
        assert not database.is_available
        assert isinstance(database.reason, StorageUnavailable)

        assert await database.fetchval("SELECT 2") == 2
        assert database.is_available


async def test_a_statement_under_way_fails_when_the_server_is_killed(folder: Path) -> None:
    async with database_of(folder) as database:
        asleep = asyncio.ensure_future(database.execute("SELECT pg_sleep(4)"))
        await until_seen(database, "pg_sleep")
        await restart(folder, database)

        with pytest.raises(StorageUnavailable):
            await asleep


async def test_whoever_listens_hears_again_after_a_restart(folder: Path) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    starts: asyncio.Queue[None] = asyncio.Queue()

    async with database_of(folder) as database:
        with database.listening(
            "Changes", on_message=heard.put_nowait, on_start=lambda: starts.put_nowait(None)
        ):
            async with asyncio.timeout(60):
                await starts.get()
                await database.execute("""NOTIFY "Changes", 'one'""")
                assert await heard.get() == "one"

                await restart(folder, database)
                await starts.get()
                await database.execute("""NOTIFY "Changes", 'two'""")
                assert await heard.get() == "two"

    assert heard.empty()


async def test_one_listener_that_fails_does_not_disturb_another(folder: Path) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    started = asyncio.Event()

    def fail(_: str) -> None:
        raise ZeroDivisionError

    async with database_of(folder) as database:
        with (
            database.listening("changes", on_message=fail, on_start=lambda: None),
            database.listening("changes", on_message=heard.put_nowait, on_start=started.set),
        ):
            async with asyncio.timeout(10):
                await started.wait()
                await database.execute("NOTIFY changes, 'one'")
                assert await heard.get() == "one"


async def test_nobody_waits_long_for_a_server_that_is_not_there(tmp_path: Path) -> None:
    settings = DatabaseSettings(connect_timeout=0.2)

    async with database_of(tmp_path, settings) as database:
        with pytest.raises(StorageUnavailable, match="does not answer"):
            await database.fetchval("SELECT 1")
        with pytest.raises(StorageUnavailable, match="does not answer"):
            await database.wait_available(0)

        assert not database.is_available


async def test_a_pool_opened_before_the_server_works_once_it_is_there(tmp_path: Path) -> None:
    async with database_of(tmp_path) as database:
        asking = asyncio.ensure_future(database.fetchval("SELECT 1"))
        async with embedded_postgres(tmp_path):
            assert await asking == 1


async def test_a_wrong_password_is_said_at_once(folder: Path) -> None:
    async with database_of(folder) as database:
        await database.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text("local all guest scram-sha-256\n" + rules.read_text())
        await database.execute("SELECT pg_reload_conf()")

    async with database_of(folder, user="guest", password=quote("right")) as database:
        assert await database.fetchval("SELECT 1") == 1
    async with database_of(folder, PATIENT, user="guest", password="wrong") as database:
        async with asyncio.timeout(60):
            with pytest.raises(StorageRefused, match="password") as caught:
                await database.fetchval("SELECT 1")
        assert "wrong" not in str(caught.value)
    async with database_of(folder, user="stranger") as database:
        with pytest.raises(StorageRefused):
            await database.fetchval("SELECT 1")


async def test_an_address_that_is_none_is_said_at_once() -> None:
    async with open_pool("mysql://somewhere", PATIENT) as database, asyncio.timeout(60):
        with pytest.raises(StorageRefused, match="cannot be understood"):
            await database.fetchval("SELECT 1")


async def test_a_database_that_is_read_only_says_so(folder: Path) -> None:
    async with database_of(folder) as database:
        await database.execute("CREATE ROLE reader SUPERUSER LOGIN")
        await database.execute("ALTER ROLE reader SET default_transaction_read_only = on")

    async with database_of(folder, user="reader") as database:
        assert await database.fetchval("SELECT 1") == 1
        with pytest.raises(StorageReadOnly):
            await database.execute("CREATE TABLE items (id int)")


@pytest.mark.parametrize(
    ("state", "expected"),
    [("53100", StorageFull), ("42501", StorageRefused), ("57P01", StorageUnavailable)],
)
async def test_what_the_server_reports_comes_in_our_words(
    folder: Path, state: str, expected: type[StorageError]
) -> None:
    async with database_of(folder) as database:
        with pytest.raises(expected) as caught:
            await database.execute(f"DO $$ BEGIN RAISE 'secret' USING ERRCODE = '{state}'; END $$")

    assert "secret" not in str(caught.value)


async def test_what_concerns_the_statement_alone_is_left_as_it_is(folder: Path) -> None:
    async with database_of(folder) as database:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await database.execute("SELECT 1 / 0")
        with pytest.raises(asyncpg.DataError):
            await database.fetchval("SELECT $1::int", "no number")


async def test_a_statement_that_takes_too_long_is_given_up(folder: Path) -> None:
    settings = QUICK.model_copy(update={"statement_timeout": 0.2})

    async with database_of(folder, settings) as database:
        with pytest.raises(StorageTimeout):
            await database.execute("SELECT pg_sleep(10)")
        assert await database.fetchval("SELECT 1") == 1
        assert await database.fetchval("SHOW statement_timeout") == "200ms"


async def test_a_pool_that_is_used_up_says_so(folder: Path) -> None:
    settings = QUICK.model_copy(update={"connect_timeout": 1.0, "max_connections": 1})

    async with database_of(folder, settings) as database, database.acquire():
        with pytest.raises(StorageUnavailable, match="No connection"):
            await database.fetchval("SELECT 1")


def test_a_server_that_is_too_old_is_refused() -> None:
    check_version(14)

    with pytest.raises(StorageTooOld, match=r"PostgreSQL 13.*14 or newer"):
        check_version(13)


async def test_a_pause_ends_when_somebody_knows_that_the_server_answers(postgres: Cluster) -> None:
    admin = await asyncpg.connect(postgres.dsn("postgres"))
    try:
        # A database that is not there is only asked for again after a long while.
        async with open_pool(postgres.dsn("late"), DatabaseSettings()) as database:
            async with asyncio.timeout(10):
                while not isinstance(database.reason, StorageRefused):  # noqa: ASYNC110 - as below
                    await asyncio.sleep(0.01)
            await admin.execute("CREATE DATABASE late")
            database.try_now()
            async with asyncio.timeout(10):
                while not database.is_available:  # noqa: ASYNC110 - no event tells
                    await asyncio.sleep(0.01)
    finally:
        await admin.execute("DROP DATABASE IF EXISTS late WITH (FORCE)")
        await admin.close()

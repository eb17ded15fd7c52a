"""`trunkline migrate`, run as a program on real databases: up, down, and what is in the way."""

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import asyncpg
import pytest
from tests.cli.conftest import LIMIT, Workplace
from tests.storage.filling import contents, fill
from tests.storage.participants import participants, server_pid, servers
from tests.storage.postgres import Cluster, cluster

from trunkline.storage import migrations
from trunkline.storage.migrations import LOCK
from trunkline.storage.pool import NETWORK_ALLOWANCE

pytestmark = pytest.mark.anyio

ALL = [one.name for one in migrations.load()]
NEWEST = ALL[-1]
SECRET = "geheim"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture
async def dsn(postgres: Cluster) -> AsyncIterator[str]:
    """The address of a database without a schema."""
    async with postgres.database() as dsn:
        yield dsn


@pytest.fixture(scope="module")
def template(postgres: Cluster) -> str:
    """A database with the whole schema, to be copied."""

    async def migrate() -> None:
        await execute(postgres.dsn("postgres"), "CREATE DATABASE whole")
        connection = await asyncpg.connect(postgres.dsn("whole"))
        await migrations.up(connection)
        await connection.close()

    asyncio.run(migrate())
    return "whole"


@pytest.fixture
async def whole_dsn(postgres: Cluster, template: str) -> AsyncIterator[str]:
    """The address of a database with the whole schema."""
    async with postgres.database(template) as dsn:
        yield dsn


@pytest.fixture
async def guest_dsn(postgres: Cluster, dsn: str) -> AsyncIterator[str]:
    """The same for somebody who is asked for a password, which is not the one given here."""
    rules = postgres.socket / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all guest scram-sha-256\n{before}")
    await execute(dsn, "CREATE ROLE guest LOGIN PASSWORD 'right'; SELECT pg_reload_conf()")
    yield dsn.replace("trunkline@", f"guest:{SECRET}@")
    rules.write_text(before)
    await execute(dsn, "DROP ROLE guest; SELECT pg_reload_conf()")


async def execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def all_rows(dsn: str) -> dict[str, list[str]]:
    """Every row of every table. The way down leaves notes for the index, which are no data."""
    connection = await asyncpg.connect(dsn)
    try:
        return await contents(connection) | {"outbox": []}
    finally:
        await connection.close()


def applied(workplace: Workplace, dsn: str) -> list[str]:
    """The migrations that `status` says the database has."""
    done = workplace.run("migrate", "status", "--json", DATABASE_URL=dsn)
    assert done.returncode == 0, done.stderr
    lines = json.loads(done.stdout)["migrations"]
    return [line["name"] for line in lines if line["applied_at"] is not None]


@contextmanager
def old_server() -> Generator[int]:
    """The port of a server that lets everybody in and says that it is PostgreSQL 13."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.recv(10_000)
                    client.sendall(_message("R", struct.pack("!i", 0)))
                    client.sendall(_message("S", b"server_version\x0013.4\0"))
                    client.sendall(_message("K", struct.pack("!ii", 1, 1)))
                    client.sendall(_message("Z", b"I"))
                    client.recv(10_000)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _message(kind: str, body: bytes) -> bytes:
    """A message of PostgreSQL's protocol, version 3."""
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def unused_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return listener.getsockname()[1]


async def test_up_applies_what_is_missing_and_status_shows_it(
    workplace: Workplace, dsn: str
) -> None:
    assert applied(workplace, dsn) == []

    part = workplace.run("migrate", "up", "--to", "2", DATABASE_URL=dsn)
    assert applied(workplace, dsn) == ALL[:2]
    rest = workplace.run("migrate", "up", DATABASE_URL=dsn)
    again = workplace.run("migrate", "up", DATABASE_URL=dsn)
    shown = workplace.run("migrate", "status", DATABASE_URL=dsn).stdout.splitlines()

    assert part.stdout.splitlines()[:-1] == [f"Applied {name}." for name in ALL[:2]]
    assert rest.stdout.splitlines()[:-1] == [f"Applied {name}." for name in ALL[2:]]
    assert again.stdout == f"Nothing to apply: the database of DATABASE_URL is at {NEWEST}.\n"
    assert [done.returncode for done in (part, rest, again)] == [0, 0, 0]
    assert [line.split()[0] for line in shown[1:]] == ALL
    assert all(
        re.fullmatch(r"\S+ +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S+ +-", line) for line in shown[1:]
    )


async def test_down_and_up_keep_the_data_and_say_where(
    workplace: Workplace, whole_dsn: str
) -> None:
    async with asyncpg.create_pool(whole_dsn, min_size=1, max_size=2) as pool:
        await fill(pool)
    before = await all_rows(whole_dsn)

    down = workplace.run("migrate", "down", "--to", "0", DATABASE_URL=whole_dsn)

    rows = dict(re.findall(r"^mcp\.(\w+_backup_\d{4}) +(\d+)$", down.stdout, re.MULTILINE))
    assert down.returncode == 0, down.stderr
    assert [line for line in down.stdout.splitlines() if line.startswith("Took back")] == [
        f"Took back {name}." for name in reversed(ALL)
    ]
    assert int(rows["servers_backup_0001"]) + int(rows["servers_backup_0005"]) == 3
    assert "0" not in rows.values()
    assert applied(workplace, whole_dsn) == []

    workplace.run("migrate", "up", DATABASE_URL=whole_dsn)
    assert await all_rows(whole_dsn) == before


async def test_down_alone_takes_the_newest_back(workplace: Workplace, whole_dsn: str) -> None:
    one = workplace.run("migrate", "down", DATABASE_URL=whole_dsn)
    assert applied(workplace, whole_dsn) == ALL[:-1]
    none = workplace.run("migrate", "down", "--to", str(len(ALL)), DATABASE_URL=whole_dsn)

    assert one.stdout.startswith(f"Took back {NEWEST}.\n")
    assert none.stdout == f"Nothing to take back: the database of DATABASE_URL is at {ALL[-2]}.\n"
    assert applied(workplace, whole_dsn) == ALL[:-1]


async def test_only_tables_with_something_in_them_are_told_of(
    workplace: Workplace, whole_dsn: str
) -> None:
    down = workplace.run("migrate", "down", "--to", "0", DATABASE_URL=whole_dsn)

    assert re.findall(r"^mcp\.(\S+)", down.stdout, re.MULTILINE) == [
        "skill_categories_backup_0002",
        "skill_categories_backup_0006",
    ]


@contextmanager
def asked_at_a_terminal(
    workplace: Workplace, dsn: str, *words: str
) -> Generator[tuple[subprocess.Popen[str], int]]:
    """`migrate down` of the two newest, with a terminal in front of it, and the terminal."""
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            workplace.command("migrate", "down", "--to", str(len(ALL) - 2), *words),
            cwd=workplace.folder,
            env=workplace.environment | {"DATABASE_URL": dsn},
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            os.close(theirs)
            try:
                yield process, ours
            finally:
                process.kill()
    finally:
        os.close(ours)


def read_question(process: subprocess.Popen[str]) -> str:
    """What is said up to the question."""
    assert process.stderr is not None
    said = ""
    while not said.endswith("[y/N] "):
        character = process.stderr.read(1)
        assert character, said
        said += character
    return said


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [(b"y\n", 0, ALL[:-2]), (b"n\n", 1, ALL), (b"\n", 1, ALL), (b"\x04", 1, ALL)],
    ids=["yes", "no", "nothing", "Ctrl-D"],
)
async def test_down_asks_whoever_sits_at_a_terminal(
    workplace: Workplace, whole_dsn: str, answer: bytes, code: int, left: list[str]
) -> None:
    with asked_at_a_terminal(workplace, whole_dsn) as (process, terminal):
        question = read_question(process)
        assert applied(workplace, whole_dsn) == ALL
        os.write(terminal, answer)
        assert process.wait(LIMIT) == code

    assert f"takes back {ALL[-1]}, {ALL[-2]} in the database of DATABASE_URL" in question
    assert f"mcp.*_backup_{ALL[-1][:4]}, mcp.*_backup_{ALL[-2][:4]}" in question
    assert applied(workplace, whole_dsn) == left


async def test_the_question_can_be_interrupted_or_not_be_asked(
    workplace: Workplace, whole_dsn: str
) -> None:
    with asked_at_a_terminal(workplace, whole_dsn) as (process, _):
        read_question(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 130
    assert applied(workplace, whole_dsn) == ALL

    with asked_at_a_terminal(workplace, whole_dsn, "--yes") as (process, _):
        assert process.wait(LIMIT) == 0
    assert applied(workplace, whole_dsn) == ALL[:-2]


async def test_check_tells_what_is_well_what_up_mends_and_what_it_does_not(
    workplace: Workplace, dsn: str
) -> None:
    empty = workplace.run("migrate", "check", DATABASE_URL=dsn)
    workplace.run("migrate", "up", DATABASE_URL=dsn)
    well = workplace.run("migrate", "check", DATABASE_URL=dsn)
    await execute(dsn, "UPDATE mcp.schema_migrations SET checksum = 'another' WHERE version = 2")
    edited = workplace.run("migrate", "check", DATABASE_URL=dsn)

    assert (empty.returncode, well.returncode, edited.returncode) == (1, 0, 2)
    assert empty.stdout.endswith("Run `trunkline migrate up`. [schema_too_old]\n")
    assert well.stdout == f"All is well: the database of DATABASE_URL is at {NEWEST}.\n"
    assert edited.stdout.startswith("The migration 0002_skills.sql was changed")
    assert empty.stderr == well.stderr == edited.stderr == ""


async def test_ten_processes_at_once_migrate_once(workplace: Workplace, dsn: str) -> None:
    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *workplace.command("migrate", "up"),
            cwd=workplace.folder,
            env=workplace.environment | {"DATABASE_URL": dsn},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    processes = [await start() for _ in range(10)]
    async with asyncio.timeout(LIMIT):
        said = [(await process.communicate())[0].decode() for process in processes]

    assert sorted(re.findall(r"Applied (\w+)\.", "".join(said))) == ALL
    assert [process.returncode for process in processes] == [0] * 10, said
    assert all(words.endswith(f"is at {NEWEST}.\n") for words in said)


async def test_a_migration_may_take_longer_than_a_statement(workplace: Workplace, dsn: str) -> None:
    limit, brief = 0.5, {"TRUNKLINE_DATABASE__STATEMENT_TIMEOUT": "0.5", "DATABASE_URL": dsn}
    other = await asyncpg.connect(dsn)
    await other.execute("SELECT pg_advisory_lock($1)", LOCK)

    up = asyncio.create_task(asyncio.to_thread(workplace.run, "migrate", "up", **brief))
    async with asyncio.timeout(60):
        while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)
    # Beyond the server's limit for a statement, and beyond our own.
    await other.execute("SELECT pg_sleep($1)", limit + NETWORK_ALLOWANCE + 0.5)
    await other.close()

    assert (await up).returncode == 0, (await up).stderr


async def test_why_a_migration_failed_is_in_the_log(workplace: Workplace, dsn: str) -> None:
    await execute(dsn, "CREATE SCHEMA mcp; CREATE TABLE mcp.servers (id integer)")

    up = workplace.run("migrate", "up", DATABASE_URL=dsn)

    log, error = up.stderr.splitlines()
    assert json.loads(log)["event"] == "migration.failed"
    assert '"servers"' in json.loads(log)["error"]
    assert error.startswith("Error: The migration 0001_catalog failed, and nothing of it was kept.")


async def test_a_schema_of_a_newer_program_is_left_alone_and_says_which_is_needed(
    workplace: Workplace, whole_dsn: str
) -> None:
    await execute(
        whole_dsn,
        "INSERT INTO mcp.schema_migrations (version, subject, checksum, program) "
        "VALUES (8000, 'wishes', '', '9.1.0')",
    )

    refused = [workplace.run("migrate", word, DATABASE_URL=whole_dsn) for word in ("up", "down")]
    check = workplace.run("migrate", "check", DATABASE_URL=whole_dsn)
    status = workplace.run("migrate", "status", DATABASE_URL=whole_dsn)

    assert check.returncode == 2
    assert "Start Trunkline 9.1.0 or newer" in check.stdout
    for done in refused:
        assert done.returncode != 0
        assert done.stdout == ""
        assert "8000_wishes" in done.stderr
        assert done.stderr.endswith("[schema_too_new]\n")
    assert "It is of Trunkline 9.1.0" in status.stdout.splitlines()[-1]
    assert applied(workplace, whole_dsn) == [*ALL, "8000_wishes"]


async def test_a_read_only_database_is_looked_at_but_not_moved(
    workplace: Workplace, dsn: str
) -> None:
    workplace.run("migrate", "up", "--to", "1", DATABASE_URL=dsn)
    name = dsn.partition("@/")[2].partition("?")[0]
    await execute(dsn, f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    up = workplace.run("migrate", "up", DATABASE_URL=dsn)
    check = workplace.run("migrate", "check", DATABASE_URL=dsn)

    assert up.returncode != 0
    assert "the database is read-only. Connect to the primary server. [migr" in up.stderr
    assert check.returncode == 1
    assert applied(workplace, dsn) == ALL[:1]


async def test_a_wrong_password_is_a_sentence_that_does_not_repeat_it(
    workplace: Workplace, guest_dsn: str
) -> None:
    up, check = (
        workplace.run("migrate", word, "--log-level", "debug", DATABASE_URL=guest_dsn)
        for word in ("up", "check")
    )

    assert up.returncode != 0
    assert "Correct them in DATABASE_URL. [storage_refused]" in up.stderr
    assert check.returncode == 2
    assert "[storage_refused]" in check.stdout
    assert SECRET not in "".join((up.stdout, up.stderr, check.stdout, check.stderr))


async def test_a_database_that_is_not_there_is_waited_for_no_longer_than_set(
    workplace: Workplace,
) -> None:
    url = f"postgresql://guest:{SECRET}@127.0.0.1:{unused_port()}/db"

    check = workplace.run(
        *("migrate", "check", "--log-level", "debug"),
        DATABASE_URL=url,
        TRUNKLINE_DATABASE__CONNECT_TIMEOUT="0.5",
    )

    assert check.returncode == 2
    assert check.stdout.endswith("[storage_unavailable]\n")
    assert SECRET not in check.stdout + check.stderr


async def test_a_server_that_is_too_old_is_named_with_its_version(workplace: Workplace) -> None:
    with old_server() as port:
        check = workplace.run(
            "migrate", "check", DATABASE_URL=f"postgresql://u@127.0.0.1:{port}/db?sslmode=disable"
        )

    assert check.returncode == 2
    assert check.stdout.startswith("The database is PostgreSQL 13, and Trunkline needs 14 or newer")


@pytest.mark.parametrize("password", ["a/geheim", "a#geheim", "a?geheim", "a[geheim", "geheim/a"])
async def test_a_password_that_breaks_its_address_is_not_shown_either(
    workplace: Workplace, password: str
) -> None:
    up = workplace.run("migrate", "up", DATABASE_URL=f"postgresql://guest:{password}@127.0.0.1/db")

    assert up.returncode != 0
    assert up.stderr.startswith("Error: DATABASE_URL cannot be understood.")
    assert SECRET not in up.stderr


async def test_a_database_of_several_hosts_is_understood(workplace: Workplace) -> None:
    first, second = unused_port(), unused_port()

    check = workplace.run(
        *("migrate", "check"),
        DATABASE_URL=f"postgresql://u:p%40%2F@127.0.0.1:{first},127.0.0.1:{second}/db?sslmode=disable",
        TRUNKLINE_DATABASE__CONNECT_TIMEOUT="0.5",
    )

    assert check.stdout.endswith("[storage_unavailable]\n")


@pytest.mark.parametrize("words", [("up", "--to", "7999"), ("down", "--to", "-1")])
async def test_a_number_that_no_migration_has_is_refused(
    workplace: Workplace, words: tuple[str, ...]
) -> None:
    done = workplace.run("migrate", *words)

    assert done.returncode == 2
    assert (
        done.stderr == f"Error: There is no migration {words[2]}. The newest is {NEWEST}. [usage]\n"
    )
    assert not (workplace.folder / "home").exists()


@pytest.fixture
def home(workplace: Workplace) -> Iterator[Path]:
    """The folder of the embedded database, which no server is left in."""
    folder = workplace.folder / "home" / "postgres"
    yield folder
    assert servers(folder) == []
    shutil.rmtree(folder, ignore_errors=True)


async def test_without_an_address_the_database_is_our_own(workplace: Workplace, home: Path) -> None:
    up = workplace.run("migrate", "up", DATABASE_URL="")
    check = workplace.run("migrate", "check", DATABASE_URL="")

    assert up.stdout.endswith(f"Done: the database in {home} is at {NEWEST}.\n")
    assert check.returncode == 0
    assert (home / "data" / "PG_VERSION").is_file()


async def test_our_own_database_is_shared_with_whoever_runs_it(
    workplace: Workplace, home: Path
) -> None:
    async with participants(home, 1) as (running,):
        before = server_pid(home)
        up = workplace.run("migrate", "up", DATABASE_URL="")

        assert up.returncode == 0, up.stderr
        assert await running.ask("SELECT count(*) FROM mcp.schema_migrations") == len(ALL)
        assert server_pid(home) == before


async def test_a_home_that_cannot_be_made_is_a_sentence(workplace: Workplace) -> None:
    (workplace.folder / "home").write_text("in the way")

    check = workplace.run("migrate", "check", DATABASE_URL="")

    assert check.returncode == 2
    assert check.stderr.endswith("[system_refusal]\n")

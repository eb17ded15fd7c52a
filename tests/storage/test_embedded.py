"""Our own PostgreSQL: one server for all processes of a folder, whatever happens to any of them."""

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.storage.participants import participants, server_pid, servers, until
from trunkline.errors import DataVersion, EmbeddedFailed
from trunkline.storage.binaries import Binaries, find_binaries, within_reach
from trunkline.storage.embedded import embedded_postgres
from trunkline.storage.lock import try_lock
from trunkline.storage.place import Dsn, Place

pytestmark = pytest.mark.anyio

TABLE = "CREATE TABLE kept AS SELECT 1 AS number"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "postgres"
    yield folder
    assert servers(folder) == []
    shutil.rmtree(folder, ignore_errors=True)


async def value(dsn: Dsn, statement: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_what_was_written_is_there_the_next_time(folder: Path) -> None:
    async with embedded_postgres(folder) as dsn:
        await value(dsn, TABLE)

    async with embedded_postgres(folder) as dsn:
        assert await value(dsn, "SELECT number FROM kept") == 1
        assert await value(dsn, "SHOW fsync") == "on"
        assert await value(dsn, "SHOW listen_addresses") == ""
        assert await value(dsn, "SELECT lower('ÄÖ')") == "äö"


async def test_nobody_else_can_reach_the_data_and_no_folder_is_opened_wider(tmp_path: Path) -> None:
    parent = tmp_path / "closed"
    parent.mkdir(mode=0o700)
    folder = parent / "home" / "postgres"

    async with embedded_postgres(folder) as dsn:
        assert await value(dsn, "SELECT 1") == 1

        assert stat.S_IMODE(parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
        assert {process.uids().effective for process in servers(folder)} == {
            Place(folder).account().uid
        }


async def test_the_lock_on_the_data_is_the_servers_own(folder: Path) -> None:
    async with embedded_postgres(folder):
        with try_lock(Place(folder).server_lock) as lock:
            assert lock is None

    with try_lock(Place(folder).server_lock) as lock:
        assert lock is not None


async def test_what_the_block_raises_comes_out_as_it_is(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with embedded_postgres(folder):
            raise ZeroDivisionError


async def test_ten_processes_that_start_at_once_share_one_server(folder: Path) -> None:
    async with participants(folder, 10) as ten:
        await ten[0].ask(TABLE)
        seen = [await one.ask("SELECT number FROM kept") for one in ten]

    assert seen == [1] * 10
    assert not (folder / "data.new").exists()


async def test_a_survivor_takes_over_when_the_owner_is_killed(folder: Path) -> None:
    async with participants(folder, 3) as three:
        await three[0].ask(TABLE)
        before = server_pid(folder)
        owner = psutil.Process(before).ppid()
        survivors = [one for one in three if one.pid != owner]

        os.kill(owner, signal.SIGKILL)
        seen = [await one.ask("SELECT number FROM kept") for one in survivors]

        assert len(survivors) == 2
        assert seen == [1, 1]
        assert server_pid(folder) != before
        assert psutil.Process(server_pid(folder)).ppid() in {one.pid for one in survivors}


async def test_a_killed_server_is_started_again(folder: Path) -> None:
    async with participants(folder, 2) as two:
        await two[0].ask(TABLE)
        before = server_pid(folder)

        os.kill(before, signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(before))
        seen = [await one.ask("SELECT number FROM kept") for one in two]

        assert seen == [1, 1]
        assert server_pid(folder) != before


async def test_nothing_is_left_when_all_are_killed_at_once(folder: Path) -> None:
    async with participants(folder, 3) as three:
        await three[0].ask(TABLE)
        for pid in [one.pid for one in three] + [server_pid(folder)]:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: servers(folder) == [])

    async with embedded_postgres(folder) as dsn:
        assert await value(dsn, "SELECT number FROM kept") == 1


async def test_the_last_one_out_stops_the_server(folder: Path) -> None:
    async with participants(folder, 2) as two:
        await two[0].ask(TABLE)
        assert await two[0].leave() == 0
        assert await two[1].ask("SELECT number FROM kept") == 1

        assert await two[1].leave() == 0

        assert servers(folder) == []
        assert not (folder / "data" / "postmaster.pid").exists()


async def test_the_owner_is_told_apart_from_whoever_has_its_number_now(folder: Path) -> None:
    async with embedded_postgres(folder):
        pass
    account = Place(folder).account()
    stranger = await asyncio.create_subprocess_exec("/bin/sleep", "60", user=account.uid, cwd="/")
    try:
        data = folder / "data"
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):
            (data / name).write_text(f"{stranger.pid}\n{data}\n1\n5432\n.\n\n")
            os.chown(data / name, account.uid, account.gid)
        (data / ".s.PGSQL.5432").touch()

        async with embedded_postgres(folder) as dsn:
            assert await value(dsn, "SELECT 1") == 1

        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_cluster_that_was_never_finished_is_made_anew(folder: Path) -> None:
    (folder / "data.new" / "base").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n")

    async with embedded_postgres(folder) as dsn:
        assert await value(dsn, "SELECT 1") == 1

    assert not (folder / "data.new").exists()


async def test_data_of_another_version_are_kept_and_refused(folder: Path) -> None:
    async with embedded_postgres(folder):
        pass
    version = folder / "data" / "PG_VERSION"
    written = version.read_text()
    version.write_text("15\n")

    with pytest.raises(DataVersion, match=r"PostgreSQL 15.*embedded-postgres==15"):
        async with embedded_postgres(folder):
            pass

    version.write_text(written)
    async with embedded_postgres(folder) as dsn:
        assert await value(dsn, "SELECT 1") == 1


async def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    async with embedded_postgres(folder):
        pass
    (folder / "data" / "pg_hba.conf").write_text("nonsense\n")

    with pytest.raises(EmbeddedFailed, match=r"could not load .*pg_hba\.conf"):
        async with embedded_postgres(folder):
            pass


def short_ways_of(folder: Path) -> list[str]:
    """The links in /tmp that stand in for a path which is too long."""
    digest = Place(folder).name.removeprefix("trunkline-")
    return [name for name in os.listdir("/tmp") if digest in name]  # noqa: PTH208 - names will do


@pytest.mark.parametrize("name", ["x" * 120, 'a, comma\'s "folder" é'])
async def test_any_name_of_a_folder_will_do(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name

    async with embedded_postgres(folder) as dsn:
        assert await value(dsn, "SELECT 1") == 1

    assert short_ways_of(folder) == []


async def test_twenty_rounds_leave_no_process_and_no_descriptor_behind(folder: Path) -> None:
    us = psutil.Process()
    async with embedded_postgres(folder):
        pass
    before = (us.num_fds(), us.num_threads(), us.children(recursive=True))

    for _ in range(20):
        async with embedded_postgres(folder):
            pass

    assert (us.num_fds(), us.num_threads(), us.children(recursive=True)) == before


async def test_a_cancelled_start_leaves_nothing_behind(folder: Path) -> None:
    async def take_part() -> None:
        async with embedded_postgres(folder):
            await asyncio.Event().wait()  # a quick machine comes as far as this

    for seconds in (0.0, 0.05, 0.2, 0.4):
        task = asyncio.create_task(take_part())
        await asyncio.wait({task}, timeout=seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        shutil.rmtree(folder, ignore_errors=True)

    assert servers(folder) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_a_user_who_is_not_root_runs_it_as_himself() -> None:
    python = f"/usr/bin/python3.{sys.version_info.minor}"
    if shutil.which(python) is None:
        pytest.skip("there is no Python that another user can reach")
    nobody = pwd.getpwnam("nobody")
    home = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    folder = home / "postgres"
    try:
        async with participants(folder, 2, python=python, uid=nobody.pw_uid) as two:
            await two[0].ask(TABLE)
            assert await two[1].ask("SELECT number FROM kept") == 1
            assert {process.uids().real for process in servers(folder)} == {nobody.pw_uid}
    finally:
        shutil.rmtree(home)


def test_programs_out_of_reach_are_copied_once_to_where_all_can_read(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    installed = find_binaries()
    package = closed / "embedded_postgres"
    package.mkdir()
    (package / "pginstall").symlink_to(installed.folder)
    (closed / "embedded_postgres.libs").symlink_to(
        installed.folder.parent.with_name("embedded_postgres.libs")
    )
    system = tmp_path / "system"

    copy = within_reach(Binaries(package / "pginstall", installed.version), system)
    again = within_reach(Binaries(package / "pginstall", installed.version), system)

    assert copy == again
    assert copy.folder.is_relative_to(system)
    version = subprocess.run([copy.program("postgres"), "-V"], capture_output=True, check=True)
    assert installed.version.startswith(version.stdout.split()[-1].decode())
    assert all(path.stat().st_mode & 0o004 for path in copy.folder.rglob("*"))
    assert [path.name for path in system.iterdir()] == [f"postgresql-{installed.version}"]

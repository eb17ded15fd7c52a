"""
Our own PostgreSQL, for everybody who has set no DATABASE_URL.

All Trunkline processes that are given one folder share one server. One of them owns it at a time:
the one that holds the lock. The others connect, and stand by. When the owner leaves it stops the
server; when it is killed, the kernel does. Whoever gets the lock next starts the server again, so
it is gone when the last process is.

    process A   lock ── server ── … killed
    process B   no lock … no lock … no lock ── lock ── server ── …
    process C   no lock … no lock … no lock ── no lock … no lock …

While the server changes hands, connections break and are refused; the pool makes them anew.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NoReturn

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from trunkline.background import background
from trunkline.errors import EmbeddedFailed, StorageError, SystemRefusal
from trunkline.storage.cluster import Cluster
from trunkline.storage.lock import try_lock
from trunkline.storage.place import Dsn, Place

log = structlog.get_logger(__name__)

STANDBY_POLL: Final = 0.1
"""Seconds between two looks at the owner's lock: nothing reports that it is free."""

START_TIMEOUT: Final = 120.0
"""Seconds until the server has to answer for the first time."""

LONGEST_PAUSE: Final = 5.0
"""Seconds before a server that will not run is started again; they double up to this."""

STEADY: Final = 1.0
"""Seconds after which a server counts as one that runs, and the next pause is the shortest."""


@asynccontextmanager
async def embedded_postgres(
    folder: Path, *, start_timeout: float = START_TIMEOUT
) -> AsyncGenerator[Dsn]:
    """
    Take part in the server of *folder* for the life of the block; entered when it answers.

    Raises what `EmbeddedPostgres.run` does, and what the block raises as it is.
    """
    server = EmbeddedPostgres(folder)
    async with background() as group:
        await _started(group, server, start_timeout)
        yield server.dsn


async def _started(group: TaskGroup, server: "EmbeddedPostgres", seconds: float) -> None:
    try:
        with anyio.fail_after(seconds):
            await group.start(server.run)
    except TimeoutError:
        raise EmbeddedFailed(
            f"PostgreSQL did not answer within {seconds:g} seconds. Is the machine very busy?"
        ) from None


class EmbeddedPostgres:
    """This process's part in the server of one folder."""

    def __init__(self, folder: Path) -> None:
        self._place = Place(folder.absolute())
        self._cluster = Cluster(self._place)
        self._has_answered = False

    @property
    def dsn(self) -> Dsn:
        """Where the server is or will be: known before it runs, and the same ever after."""
        return self._place.dsn

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> NoReturn:
        """
        Own the server, or stand by to do so, until cancelled.

        Start it with `TaskGroup.start`, which returns once the server answers, and raises
        `EmbeddedFailed`, `DataVersion`, `StorageFull` or `SystemRefusal` if it cannot be made to.
        After that, whatever goes wrong is logged and tried again.
        """
        pause = STANDBY_POLL
        while True:
            try:
                self._place.prepare()
                with try_lock(self._place.owner_lock) as lock:
                    if lock is not None:
                        pause = min(2 * pause, LONGEST_PAUSE)
                        if await self._own(task_status) > STEADY:
                            pause = STANDBY_POLL
                if not self._has_answered and await self._cluster.answers():
                    self._answered(task_status)
            except (StorageError, OSError) as error:
                if not self._has_answered:
                    if isinstance(error, OSError):
                        raise SystemRefusal(error) from error
                    raise
                log.warning("postgres.not_started", error=str(error))
            await asyncio.sleep(pause)

    async def _own(self, task_status: TaskStatus[None]) -> float:
        """Run the server until it ends by itself; how many seconds it was there."""
        now = asyncio.get_running_loop().time
        start = now()
        async with self._cluster.running() as server:
            log.info("postgres.started", pid=server.pid, seconds=round(now() - start, 3))
            self._answered(task_status)
            await server.wait()
        log.warning("postgres.ended", status=server.returncode, log=str(self._place.log))
        return now() - start

    def _answered(self, task_status: TaskStatus[None]) -> None:
        if not self._has_answered:
            self._has_answered = True
            task_status.started()

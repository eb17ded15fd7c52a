"""
The database of a process that serves: there from the first moment as an object, whether there is
a server behind it or not.

With a URL, somebody else runs the server. Without, our own is started beside everything else; one
that cannot be started is reported and tried again, and Trunkline serves without it meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import anyio
import structlog

from trunkline.background import background
from trunkline.errors import EmbeddedFailed, StorageError, StorageUnavailable, SystemRefusal
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool

if TYPE_CHECKING:
    from trunkline.storage.embedded import EmbeddedPostgres

log = structlog.get_logger(__name__)

AGAIN: Final = 15.0
"""Seconds after which a server of our own that could not be started is tried again."""

NOWHERE: Final = "postgresql:///trunkline?host=/nonexistent"
"""Where nothing answers."""


class Standing:
    """A database, and how it is."""

    def __init__(self, database: Database, *, is_embedded: bool, is_new: bool) -> None:
        self.database, self.is_embedded = database, is_embedded
        self.is_new = is_new
        """Whether nothing can have been stored in it yet."""

        self.can_be = True
        """Whether there can be a server at all: our own does not come with every platform."""

        self.not_started: StorageError | SystemRefusal | None = None
        """Why our own server could not be started."""

        self._has_answered = False

    @property
    def reason(self) -> StorageError | SystemRefusal | None:
        """Why it is away; None while it is not."""
        if self.database.is_available:
            self._has_answered = True
            return None
        if self.is_embedded and not self.not_started and not self._has_answered:
            return StorageUnavailable("Trunkline's own PostgreSQL is still starting.")
        return self.not_started or self.database.reason


@asynccontextmanager
async def standing_database(
    settings: DatabaseSettings, url: str | None, folder: Path
) -> AsyncGenerator[Standing]:
    """The database at *url*, or our own in *folder*, for the life of the block. Entered at once."""
    async with AsyncExitStack() as stack:
        if url is not None:
            database = await stack.enter_async_context(open_pool(url, settings))
            yield Standing(database, is_embedded=False, is_new=False)
            return
        try:
            # Its wheel is not there for every platform, and it needs what POSIX alone has.
            from trunkline.storage.embedded import EmbeddedPostgres
        except ImportError:
            database = await stack.enter_async_context(open_pool(NOWHERE, settings))
            standing = Standing(database, is_embedded=True, is_new=True)
            standing.can_be = False
            standing.not_started = EmbeddedFailed(
                "Trunkline's own PostgreSQL does not come with this platform. Set DATABASE_URL to "
                "a PostgreSQL of yours, so that what is added lasts."
            )
            yield standing
            return
        server = EmbeddedPostgres(folder)
        is_new = not (folder / "data" / "PG_VERSION").exists()
        group = await stack.enter_async_context(background())
        database = await stack.enter_async_context(open_pool(server.dsn, settings))
        standing = Standing(database, is_embedded=True, is_new=is_new)
        group.start_soon(_keep_running, server, standing)
        yield standing


async def _keep_running(server: "EmbeddedPostgres", standing: Standing) -> NoReturn:
    while True:
        try:
            async with background() as group:
                await group.start(server.run)
                standing.database.try_now()
                await anyio.sleep_forever()
        except (StorageError, SystemRefusal) as error:
            standing.not_started = error
            log.warning("postgres.not_started", code=error.code, reason=str(error))
        await asyncio.sleep(AGAIN)

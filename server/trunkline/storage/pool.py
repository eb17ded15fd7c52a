"""
The database as the rest of the storage sees it: statements in, rows or errors of ours out.

A pool of connections for the statements, and a watcher that knows whether there is a server. A
server that restarts is not noticed by whoever comes meanwhile: a caller waits for its return before
its first statement, where nothing can have run yet. A statement that was under way fails, and only
its caller knows whether it may be run again.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any, Final

import asyncpg
import structlog

from trunkline.background import background
from trunkline.errors import StorageError, StorageRefused, StorageUnavailable
from trunkline.settings import DatabaseSettings
from trunkline.storage.failures import (
    FAILURES,
    UNREADABLE,
    check_address,
    check_version,
    translate,
    translated,
)
from trunkline.storage.watcher import Watcher

log = structlog.get_logger(__name__)

RETRY_PAUSE: Final = 0.05
"""Seconds before the next attempt to get a connection from a server that is just starting."""

NETWORK_ALLOWANCE: Final = 5.0
"""Seconds beyond the server's own limit after which we give up on a statement ourselves."""

CLOSE_LIMIT: Final = 5.0
"""Seconds that statements under way are given when the pool closes."""


@asynccontextmanager
async def open_pool(dsn: str, settings: DatabaseSettings) -> "AsyncGenerator[Database]":
    """
    The database at *dsn*, for the life of the block.

    Entered at once, whether there is a server or not: see `Database.wait_available`.
    """

    name = f"trunkline {secrets.token_hex(4)}"

    async def connect(*_: Any, **options: Any) -> Any:
        check_address(dsn)
        try:
            connection = await asyncpg.connect(dsn, **_options(settings, name) | options)
        except (ValueError, OverflowError):
            raise StorageRefused(UNREADABLE) from None
        try:
            check_version(connection.get_server_version().major)
        except StorageError:
            connection.terminate()
            raise
        return connection

    watcher = Watcher(connect, probe_interval=settings.probe_interval)
    pool = await asyncpg.create_pool(min_size=0, max_size=settings.max_connections, connect=connect)
    async with background() as group:
        group.start_soon(watcher.run)
        try:
            yield Database(pool, watcher, settings, name)
        finally:
            await _close(pool)


class Database:
    """A PostgreSQL database. Every method raises `StorageError` if it cannot do its work."""

    def __init__(self, pool: Any, watcher: Watcher, settings: DatabaseSettings, name: str) -> None:
        self.pool = pool
        """The `asyncpg.Pool` itself. Its errors are asyncpg's own; it waits for no server."""

        self.name = name
        """What this process is called by the database, and in the notifications it causes."""

        self._watcher, self._settings = watcher, settings

    # -- is it there --------------------------------------------------------------------------

    @property
    def is_available(self) -> bool:
        """Whether there is a server that takes statements, as far as we know at this moment."""
        return self._watcher.is_available

    @property
    def reason(self) -> StorageError | None:
        """Why it is away; None while it is not."""
        return self._watcher.reason

    async def wait_available(self, seconds: float) -> None:
        """
        Wait for a database that is away, but no longer than *seconds* after it went.

        Raises the `reason`: at once if it is one that waiting does not mend.
        """
        await self._watcher.wait_available(seconds)

    def try_now(self) -> None:
        """There is reason to think that the server answers: do not wait to find out."""
        self._watcher.try_now()

    def notifying(self, callback: Callable[[bool], None]) -> AbstractContextManager[None]:
        """For the life of the block, call *callback* whenever `is_available` changes, with it."""
        return self._watcher.notifying(callback)

    def listening(
        self, channel: str, *, on_message: Callable[[str], None], on_start: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """
        For the life of the block, call *on_message* with every payload notified on *channel*.

        *on_start* is called whenever listening begins, the first time and after every loss of the
        connection: what was sent before is not heard, so that is the moment to read the state.
        """
        return self._watcher.listening(channel, on_message=on_message, on_start=on_start)

    # -- statements ---------------------------------------------------------------------------

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Any]:
        """An `asyncpg.Connection` for the life of the block, whose errors leave it translated."""
        with translated():
            connection = await self._connection()
            try:
                yield connection
            finally:
                await self._release(connection)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Any]:
        """A connection in a transaction: committed at the end, rolled back if the block raises."""
        async with self.acquire() as connection, connection.transaction():
            yield connection

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> asyncpg.Record | None:
        async with self.acquire() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        async with self.acquire() as connection:
            return await connection.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: Any) -> str:
        """Run a statement for its effect; returns PostgreSQL's tag, such as `DELETE 3`."""
        async with self.acquire() as connection:
            return await connection.execute(statement, *arguments)

    async def _connection(self) -> Any:
        """A connection, as soon as there is one to have."""
        now = asyncio.get_running_loop().time
        deadline = now() + self._settings.connect_timeout
        while True:
            await self.wait_available(self._settings.connect_timeout)
            try:
                return await self.pool.acquire(timeout=max(deadline - now(), 0.001))
            except TimeoutError as error:
                raise self.reason or StorageUnavailable(
                    "No connection to the database became free in time. Is it very busy?"
                ) from error
            except FAILURES as error:
                own = translate(error)
                if not isinstance(own, StorageUnavailable) or now() >= deadline:
                    raise
            await asyncio.sleep(RETRY_PAUSE)

    async def _release(self, connection: Any) -> None:
        """Give it back. If it is lost meanwhile, what was done on it stands all the same."""
        try:
            await self.pool.release(connection)
        except FAILURES as error:
            log.debug("database.connection_lost", error=type(error).__name__)


Source = Any
"""Where a repository sends statements: a `Database`, which translates errors, or a bare pool."""


def _options(settings: DatabaseSettings, name: str) -> dict[str, Any]:
    """How every connection is made."""
    milliseconds = str(round(settings.statement_timeout * 1000))
    return {
        "timeout": settings.connect_timeout,
        "command_timeout": settings.statement_timeout + NETWORK_ALLOWANCE,
        "server_settings": {
            "application_name": name,
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
        },
    }


async def _close(pool: Any) -> None:
    try:
        async with asyncio.timeout(CLOSE_LIMIT):
            await pool.close()
    except TimeoutError:
        pool.terminate()

"""
The database for a command that cannot do without it: it answers, or an error says why not.

One way in for both kinds, the server of DATABASE_URL and our own. `trunkline serve` does not come
this way: it works on while its database is away.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from trunkline.errors import EmbeddedFailed
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool


@asynccontextmanager
async def open_database(
    settings: DatabaseSettings, url: str | None, home: Path
) -> AsyncGenerator[Database]:
    """
    The database at *url*, or the embedded one in *home* if that is None, for the life of the block.

    Entered when it answers. Raises `StorageError` if it does not within `connect_timeout`, or at
    once if waiting would not help, and for the embedded one also `SystemRefusal`.
    """
    async with _server(url, home) as dsn, open_pool(dsn, settings) as database:
        await database.wait_available(settings.connect_timeout)
        yield database


@asynccontextmanager
async def _server(url: str | None, home: Path) -> AsyncGenerator[str]:
    """The address of a server, which is ours and runs if nobody has named another."""
    if url is not None:
        yield url
        return
    try:
        # It needs what POSIX alone has.
        from trunkline.storage.embedded import embedded_postgres
    except ImportError:
        raise EmbeddedFailed(
            "Trunkline's own PostgreSQL does not come with this platform. Set DATABASE_URL to a "
            "PostgreSQL of yours."
        ) from None
    async with embedded_postgres(home / "postgres") as dsn:
        yield dsn

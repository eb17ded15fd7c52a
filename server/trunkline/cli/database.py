"""The database, for commands that work on it and need nothing else of what serves."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from trunkline.settings import Settings
from trunkline.storage import migrations
from trunkline.storage.opening import open_database
from trunkline.storage.pool import Database


@asynccontextmanager
async def opened(settings: Settings, *, reads_only: bool = False) -> AsyncGenerator[Database]:
    """
    The database, once it is there, with the schema that this program needs.

    An older schema is brought up to date; for a command that only reads, it is an error. Raises
    `StorageError`.
    """
    url = settings.database_url
    address = None if url is None else url.get_secret_value()
    async with open_database(settings.database, address, settings.home) as database:
        async with database.acquire() as connection:
            await (migrations.check if reads_only else migrations.up)(connection)
        yield database

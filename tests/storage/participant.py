"""
A process that takes part in the server of a folder, and answers statements read from stdin.

    python -m tests.storage.participant FOLDER

One line in, one JSON line out: the value, or {"error": code}. It leaves in order when stdin ends.
"""

import asyncio
import json
import sys
from pathlib import Path

from trunkline import logs
from trunkline.errors import StorageError
from trunkline.settings import DatabaseSettings
from trunkline.storage.embedded import embedded_postgres
from trunkline.storage.pool import Database, open_pool


async def main(folder: Path) -> None:
    logs.configure("error")
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with (
        embedded_postgres(folder) as dsn,
        open_pool(dsn, DatabaseSettings(connect_timeout=20)) as database,
    ):
        await database.wait_available(20)
        answer("ready")
        while line := await lines.readline():
            answer(await value(database, line.decode()))


async def value(database: Database, statement: str) -> object:
    try:
        return await database.fetchval(statement)
    except StorageError as error:
        return {"error": error.code}


def answer(what: object) -> None:
    sys.stdout.write(json.dumps(what, default=str) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

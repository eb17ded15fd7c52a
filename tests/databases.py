"""
A database for every home, on one PostgreSQL for the whole run.

Trunkline's own server would do, and is tested by itself; but starting one for each of a thousand
tests takes longer than the tests. A home that is used again finds its database as it left it.
"""

import asyncio
import atexit
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg

from tests.storage.postgres import Cluster, cluster
from trunkline.storage import migrations

KEPT = 30
"""Databases that are there at a time. The one that was not asked for longest goes first."""

_homes: OrderedDict[Path, str] = OrderedDict()
_lock = threading.Lock()


def database_of(home: Path) -> str:
    """The address of the database of a home, migrated; empty the first time."""
    with _lock:
        server()  # by this thread: on Linux it ends with the one that started it
        if home not in _homes:
            name = f"home_{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"
            _elsewhere(_make(name))
            _homes[home] = name
            if len(_homes) > KEPT:
                _elsewhere(_drop(_homes.popitem(last=False)[1]))
        _homes.move_to_end(home)
        return server().dsn(_homes[home])


@cache
def server() -> Cluster:
    """The server, which ends with the tests."""
    stack = ExitStack()
    running = stack.enter_context(cluster())
    atexit.register(stack.close)

    async def migrate() -> None:
        admin = await asyncpg.connect(running.dsn("postgres"))
        await admin.execute("CREATE DATABASE template_of_homes")
        await admin.close()
        connection = await asyncpg.connect(running.dsn("template_of_homes"))
        await migrations.up(connection)
        await connection.close()

    _elsewhere(migrate())
    return running


async def _make(name: str) -> None:
    admin = await asyncpg.connect(server().dsn("postgres"))
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE template_of_homes")
    await admin.close()


async def _drop(name: str) -> None:
    admin = await asyncpg.connect(server().dsn("postgres"))
    await admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await admin.close()


def _elsewhere(work: Coroutine[Any, Any, None]) -> None:
    """Run *work* to its end, whether there is a loop in this thread or not."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    if failed:
        raise failed[0]

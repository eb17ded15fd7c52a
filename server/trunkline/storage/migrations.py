"""
The schema's way up and down: numbered files in sql/migrations, each with its way back.

A migration and the row that records it are one transaction, so it has happened or it has not.
The lock is of the transaction, too: of ten processes that start at once, one applies a migration
and the others find it applied. A schema that needs nothing is only read, which a read-only
database allows.
"""

import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import asyncpg
import structlog

from trunkline import __version__
from trunkline.errors import MigrationEdited, MigrationError, SchemaTooNew, SchemaTooOld
from trunkline.storage.queries import SQL
from trunkline.storage.rows import Connection

log = structlog.get_logger(__name__)

LOCK: Final = 0x7472756E6B6C696E
"""The advisory lock of a migration: "trunklin" in ASCII."""

LOCK_TIMEOUT: Final = 60.0
"""Seconds to wait for another process, or for whoever holds a table."""

STEP_TIMEOUT: Final = 600.0
"""Seconds one migration may take."""

_FILE = re.compile(r"(\d{4})_(\w+)\.sql")
_ENDS_TRANSACTION = re.compile(
    r"^\s*(BEGIN|START\s+TRANSACTION|COMMIT|ROLLBACK|END)\b[^;]*;", re.MULTILINE | re.IGNORECASE
)

_RECORD = """
CREATE SCHEMA IF NOT EXISTS mcp;
CREATE TABLE IF NOT EXISTS mcp.schema_migrations (
    version integer PRIMARY KEY,
    subject text NOT NULL,
    checksum text NOT NULL,
    program text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema, and its way back."""

    version: int
    subject: str
    up: str
    down: str

    @property
    def name(self) -> str:
        return f"{self.version:04}_{self.subject}"

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.up.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """What a database records of a migration it has."""

    version: int
    subject: str
    checksum: str
    program: str
    """The version of Trunkline that applied it."""

    applied_at: datetime

    @property
    def name(self) -> str:
        return f"{self.version:04}_{self.subject}"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of `trunkline migrate status`."""

    name: str
    applied_at: datetime | None
    """None while it waits."""

    note: str
    """What is wrong with it, in a sentence; "" if nothing is."""


@cache
def load(folder: Path = SQL / "migrations") -> tuple[Migration, ...]:
    """
    The migrations of a folder, in order.

    Raises `MigrationError` if one has no way back, shares its number, or ends its transaction.
    """
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        if path.name.endswith(".down.sql"):
            continue
        migration = _read(path)
        if migration.version in found:
            other = found[migration.version].name
            raise MigrationError(f"Two migrations have one number: {other} and {migration.name}.")
        found[migration.version] = migration
    return tuple(found.values())


async def up(
    connection: Connection,
    *,
    to: int | None = None,
    migrations: Sequence[Migration] | None = None,
) -> list[Migration]:
    """
    Apply what the database lacks, up to the version *to* or all; return what this call applied.

    Raises `SchemaTooNew`, `MigrationEdited`, or `MigrationError` with the step that failed and
    left nothing behind.
    """
    known = load() if migrations is None else migrations
    done: list[Migration] = []
    while _next(known, await _applied(connection), to) is not None:
        async with _step(connection, "apply"):
            # Somebody else may have been quicker while we waited for the lock.
            migration = _next(known, await _applied(connection), to)
            if migration is None:
                break
            await _apply(connection, migration)
            done.append(migration)
        log.info("migration.applied", migration=done[-1].name)
    return done


async def down(
    connection: Connection,
    *,
    to: int,
    migrations: Sequence[Migration] | None = None,
) -> list[Migration]:
    """
    Take back every migration after the version *to*, the newest first; return what was taken back.

    0 takes back all. Raises like `up`.
    """
    known = {one.version: one for one in (load() if migrations is None else migrations)}
    done: list[Migration] = []
    while _last(known, await _applied(connection), to) is not None:
        async with _step(connection, "take back"):
            migration = _last(known, await _applied(connection), to)
            if migration is None:
                break
            await _take_back(connection, migration)
            done.append(migration)
        log.info("migration.taken_back", migration=done[-1].name)
    return done


async def status(
    connection: Connection, *, migrations: Sequence[Migration] | None = None
) -> list[Line]:
    """Every migration that the program or the database knows of, in order. Changes nothing."""
    known = {one.version: one for one in (load() if migrations is None else migrations)}
    applied = {one.version: one for one in await _applied(connection)}
    lines: list[Line] = []
    for version in sorted(known | applied):
        there, record = known.get(version), applied.get(version)
        note = ""
        if there is None and record is not None:
            note = f"It is of Trunkline {record.program}, and unknown to this one."
        elif there is not None and record is not None and there.checksum != record.checksum:
            note = "Its file was changed after it was applied."
        name = there.name if there is not None else applied[version].name
        lines.append(Line(name, record.applied_at if record is not None else None, note))
    return lines


async def check(connection: Connection, *, migrations: Sequence[Migration] | None = None) -> None:
    """
    Return if the schema is what this program needs. Changes nothing.

    Raises `SchemaTooOld`, `SchemaTooNew` or `MigrationEdited`.
    """
    known = load() if migrations is None else migrations
    applied = await _applied(connection)
    if _next(known, applied, None) is not None:
        versions = {one.version for one in applied}
        raise SchemaTooOld([one.name for one in known if one.version not in versions])


def _read(path: Path) -> Migration:
    """One migration from its two files."""
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise MigrationError(f"{path.name} is not named like a migration: NNNN_subject.sql.")
    back = path.with_suffix(".down.sql")
    if not back.is_file():
        raise MigrationError(f"The migration {path.name} has no way back: {back.name} is missing.")
    up, down = path.read_text(encoding="utf-8"), back.read_text(encoding="utf-8")
    for name, text in ((path.name, up), (back.name, down)):
        # What it ends is the transaction that makes it happen whole or not at all.
        if _ENDS_TRANSACTION.search(text):
            raise MigrationError(f"{name} begins or ends a transaction; it runs in one as it is.")
    return Migration(int(match[1]), match[2], up, down)


def _next(
    known: Sequence[Migration], applied: Sequence[Applied], to: int | None
) -> Migration | None:
    """The first migration that is missing. Raises if what is there does not fit the program."""
    by_version = {one.version: one for one in known}
    for record in reversed(applied):
        _fit(by_version, record, known)
    versions = {one.version for one in applied}
    missing = [one for one in known if one.version not in versions]
    if missing and versions and missing[0].version < max(versions):
        raise MigrationError(
            f"The migration {missing[0].name} was never applied, but {applied[-1].name} was. "
            f"Take the database back with `trunkline migrate down`, then up again."
        )
    return next((one for one in missing if to is None or one.version <= to), None)


def _last(known: dict[int, Migration], applied: Sequence[Applied], to: int) -> Migration | None:
    """The newest migration to take back. Raises if the program does not know the way."""
    newest = applied[-1] if applied else None
    if newest is None or newest.version <= to:
        return None
    return _fit(known, newest, tuple(known.values()))


def _fit(
    known: dict[int, Migration], record: Applied, migrations: Sequence[Migration]
) -> Migration:
    """The migration of a record. Raises if the program has none, or another."""
    migration = known.get(record.version)
    if migration is None:
        newest = migrations[-1].name if migrations else "0000"
        raise SchemaTooNew(record.name, record.program, newest)
    if migration.checksum != record.checksum:
        raise MigrationEdited(f"{migration.name}.sql")
    return migration


async def _applied(connection: Connection) -> list[Applied]:
    """What the database has, in order."""
    if await connection.fetchval("SELECT to_regclass('mcp.schema_migrations')") is None:
        return []
    rows = await connection.fetch(
        "SELECT version, subject, checksum, program, applied_at "
        "FROM mcp.schema_migrations ORDER BY version"
    )
    return [Applied(*row) for row in rows]


@asynccontextmanager
async def _step(connection: Connection, doing: str) -> AsyncGenerator[None]:
    """One transaction that holds the lock. What goes wrong in it becomes a `MigrationError`."""
    try:
        async with connection.transaction():
            # A pool's own limit is for requests, not for building an index.
            await connection.execute(
                f"SET LOCAL statement_timeout = '{STEP_TIMEOUT:.0f}s';"
                f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT:.0f}s';"
            )
            await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
            yield
    except asyncpg.LockNotAvailableError as error:
        raise MigrationError(
            f"Another program has held the database for {LOCK_TIMEOUT:.0f} seconds, perhaps with a "
            f"migration of its own. Try again when it has finished."
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise MigrationError(
            "The database user may not change the schema. Grant it CREATE on the database, or run "
            "`trunkline migrate up` as a user who may."
        ) from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise MigrationError(
            "The schema has to be changed, and the database is read-only. "
            "Connect to the primary server."
        ) from error
    except asyncpg.PostgresError as error:
        name = getattr(error, "migration", "")
        raise MigrationError(
            f"Could not {doing} the migration {name}: {error.args[0]}. Nothing of it was kept."
        ) from error


async def _apply(connection: Connection, migration: Migration) -> None:
    await connection.execute(_RECORD)
    await _run(connection, migration, migration.up)
    await connection.execute(
        "INSERT INTO mcp.schema_migrations (version, subject, checksum, program) "
        "VALUES ($1, $2, $3, $4)",
        migration.version,
        migration.subject,
        migration.checksum,
        __version__,
    )


async def _take_back(connection: Connection, migration: Migration) -> None:
    await _run(connection, migration, migration.down)
    await connection.execute(
        "DELETE FROM mcp.schema_migrations WHERE version = $1", migration.version
    )


async def _run(connection: Connection, migration: Migration, text: str) -> None: ...

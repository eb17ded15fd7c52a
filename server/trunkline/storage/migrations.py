"""
The schema's way up and down: numbered files in sql/migrations, each with its way back.

A migration and the row that records it are one transaction, so it has happened or it has not.
The lock is of the transaction, too: of ten processes that start at once, one applies a migration
and the others find it applied. A schema that needs nothing is only read, which a read-only
database allows.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Final

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

GRACE: Final = 5.0
"""Seconds beyond the server's own limits after which we give up on it."""

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


_Choice = Callable[[Sequence[Applied]], Migration | None]
_Run = Callable[[Connection, Migration], Awaitable[None]]


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
    return await _walk(connection, partial(_first_missing, known, to), _apply)


async def down(
    connection: Connection, *, to: int, migrations: Sequence[Migration] | None = None
) -> list[Migration]:
    """
    Take back every migration after the version *to*, the newest first; return what was taken back.

    0 takes back all. The data stay, in backup tables that `up` takes up again. Raises like `up`.
    """
    known = load() if migrations is None else migrations
    return await _walk(connection, partial(_newest_after, known, to), _take_back)


async def status(
    connection: Connection, *, migrations: Sequence[Migration] | None = None
) -> list[Line]:
    """Every migration that the program or the database knows of, in order. Changes nothing."""
    known = {one.version: one for one in (load() if migrations is None else migrations)}
    applied = {one.version: one for one in await _applied(connection)}
    return [
        _line(known.get(version), applied.get(version)) for version in sorted({*known, *applied})
    ]


async def check(connection: Connection, *, migrations: Sequence[Migration] | None = None) -> None:
    """
    Return if the schema is what this program needs. Changes nothing.

    Raises `SchemaTooOld`, `SchemaTooNew` or `MigrationEdited`.
    """
    known = load() if migrations is None else migrations
    applied = await _applied(connection)
    if _first_missing(known, None, applied) is not None:
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
        # What it would end is the transaction that makes it happen whole or not at all.
        if _ENDS_TRANSACTION.search(text):
            raise MigrationError(f"{name} begins or ends a transaction; it runs in one as it is.")
    return Migration(int(match[1]), match[2], up, down)


def _line(migration: Migration | None, record: Applied | None) -> Line:
    if record is None:
        return Line(migration.name if migration else "", None, "")
    if migration is None:
        note = f"It is of Trunkline {record.program}, and unknown to this one."
    else:
        edited = migration.checksum != record.checksum
        note = "Its file was changed after it was applied." if edited else ""
    return Line(record.name, record.applied_at, note)


def _first_missing(
    known: Sequence[Migration], to: int | None, applied: Sequence[Applied]
) -> Migration | None:
    """The next migration to apply. Raises if what is there does not fit the program."""
    for record in reversed(applied):
        _migration_of(known, record)
    versions = {one.version for one in applied}
    missing = [one for one in known if one.version not in versions]
    if missing and applied and missing[0].version < applied[-1].version:
        raise MigrationError(
            f"The migration {missing[0].name} was never applied, but {applied[-1].name} was. "
            f"Take the database back to {missing[0].version - 1}, then up again."
        )
    return next((one for one in missing if to is None or one.version <= to), None)


def _newest_after(
    known: Sequence[Migration], to: int, applied: Sequence[Applied]
) -> Migration | None:
    """The next migration to take back. Raises if the program does not know the way."""
    if not applied or applied[-1].version <= to:
        return None
    return _migration_of(known, applied[-1])


def _migration_of(known: Sequence[Migration], record: Applied) -> Migration:
    """The program's own migration of a record. Raises if it has none, or another."""
    for migration in known:
        if migration.version == record.version:
            if migration.checksum != record.checksum:
                raise MigrationEdited(f"{migration.name}.sql")
            return migration
    newest = known[-1].name if known else "0000"
    raise SchemaTooNew(record.name, record.program, newest)


async def _applied(connection: Connection) -> list[Applied]:
    """What the database has, in order."""
    # Reading the table of tables sees what was committed while we waited for the lock; to_regclass
    # would answer from a cache that waiting for an advisory lock does not refresh.
    there = "SELECT FROM pg_tables WHERE schemaname = 'mcp' AND tablename = 'schema_migrations'"
    if await connection.fetchrow(there) is None:
        return []
    rows = await connection.fetch(
        "SELECT version, subject, checksum, program, applied_at "
        "FROM mcp.schema_migrations ORDER BY version"
    )
    return [Applied(*row) for row in rows]


async def _walk(connection: Connection, choose: _Choice, run: _Run) -> list[Migration]:
    """Run what is to be run, one transaction each, until there is nothing left to do."""
    done: list[Migration] = []
    while choose(await _applied(connection)) is not None:
        migration = await _step(connection, choose, run)
        if migration is not None:
            done.append(migration)
            log.info("migration.done", migration=migration.name, way=run.__name__.strip("_"))
    return done


async def _step(connection: Connection, choose: _Choice, run: _Run) -> Migration | None:
    """One migration in one transaction; None if another process was quicker."""
    migration: Migration | None = None
    try:
        async with connection.transaction():
            # A pool's own limits are for requests, not for building an index.
            await connection.execute(
                f"SET LOCAL statement_timeout = '{STEP_TIMEOUT:.0f}s';"
                f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT:.0f}s';"
            )
            await connection.execute(
                "SELECT pg_advisory_xact_lock($1)", LOCK, timeout=LOCK_TIMEOUT + GRACE
            )
            migration = choose(await _applied(connection))
            if migration is not None:
                await run(connection, migration)
    except asyncpg.PostgresError as error:
        raise _explained(error, migration) from error
    return migration


async def _apply(connection: Connection, migration: Migration) -> None:
    await connection.execute(_RECORD)
    await connection.execute(migration.up, timeout=STEP_TIMEOUT + GRACE)
    await connection.execute(
        "INSERT INTO mcp.schema_migrations (version, subject, checksum, program) "
        "VALUES ($1, $2, $3, $4)",
        migration.version,
        migration.subject,
        migration.checksum,
        __version__,
    )


async def _take_back(connection: Connection, migration: Migration) -> None:
    await connection.execute(migration.down, timeout=STEP_TIMEOUT + GRACE)
    await connection.execute(
        "DELETE FROM mcp.schema_migrations WHERE version = $1", migration.version
    )


def _explained(error: asyncpg.PostgresError, migration: Migration | None) -> MigrationError:
    """The sentence for what went wrong. The database's own words go to the log."""
    name = migration.name if migration is not None else "the next one"
    log.error("migration.failed", migration=name, error=str(error))
    if isinstance(error, asyncpg.LockNotAvailableError):
        return MigrationError(
            f"Another program has held the database for {LOCK_TIMEOUT:.0f} seconds, perhaps with a "
            f"migration of its own. Try again when it has finished."
        )
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return MigrationError(
            "The database user may not change the schema. Grant it CREATE on the database, or run "
            "`trunkline migrate up` as a user who may."
        )
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return MigrationError(
            "The schema has to be changed, and the database is read-only. "
            "Connect to the primary server."
        )
    return MigrationError(
        f"The migration {name} failed, and nothing of it was kept. The log has the reason."
    )

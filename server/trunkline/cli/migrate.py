"""
`trunkline migrate`: the schema of the database, moved and looked at by hand.

The database is the one of DATABASE_URL, else the embedded one in TRUNKLINE_HOME, whose server is
shared with a Trunkline that runs. The address is never shown: there may be a password in it.
"""

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Final

from cyclopts import App, Parameter

from trunkline import logs
from trunkline.cli.options import JsonOption, LogLevel, LogLevelOption, read_settings
from trunkline.cli.running import run_async
from trunkline.cli.screen import put, put_json, put_table, say
from trunkline.errors import SchemaTooOld, StorageError, UsageError
from trunkline.security.masking.masking import SECRETS
from trunkline.settings import Settings
from trunkline.storage import migrations
from trunkline.storage.backups import Backup, list_backups
from trunkline.storage.migrations import Line
from trunkline.storage.opening import open_database
from trunkline.storage.rows import Connection

MISSING: Final = 1
"""Exit code of `check` when migrations are missing, which `up` mends."""

UNUSABLE: Final = 2
"""Exit code of `check` when `up` would not mend it."""

DECLINED: Final = 1
"""Exit code of `down` when the person in front of it would rather not."""

migrate = App(
    name="migrate",
    help="""Move the schema of the database up or down, or see where it is.

    The database is the one of DATABASE_URL, else the embedded one in TRUNKLINE_HOME.
    """,
)


@migrate.command(sort_key=0)
def up(
    *,
    to: Annotated[
        int | None,
        Parameter(name="--to", help="The number of the last migration to apply. Otherwise all."),
    ] = None,
    log_level: LogLevelOption = None,
) -> None:
    """
    Apply the migrations that the database lacks.

    Each is a transaction of its own. Of processes that do this at the same time, one applies a
    migration, and the others find it applied.
    """
    settings = _read_settings(log_level)
    _require_known(to)
    done, at = run_async(_up(settings, to))
    for name in done:
        put(f"Applied {name}.")
    put(f"{'Done' if done else 'Nothing to apply'}: {_standing(settings, at)}")


@migrate.command(sort_key=1)
def down(
    *,
    to: Annotated[
        int | None,
        Parameter(
            name="--to",
            help="The number of the last migration to keep; 0 keeps none. "
            "Otherwise the newest is taken back.",
        ),
    ] = None,
    yes: Annotated[
        bool, Parameter(name="--yes", negative="", help="Do not ask on a terminal.")
    ] = False,
    log_level: LogLevelOption = None,
) -> int:
    """
    Take migrations back, the newest first.

    This is for going back to an older Trunkline; stop the newer ones first. The data are kept in
    backup tables, and the way up takes them up again.
    """
    settings = _read_settings(log_level)
    _require_known(to)
    plan, at = run_async(_plan(settings, to))
    if not plan:
        put(f"Nothing to take back: {_standing(settings, at)}")
        return 0
    if sys.stdin.isatty() and not yes and not _confirm(settings, plan):
        say("Nothing was taken back.")
        return DECLINED
    done, backups, at = run_async(_down(settings, _version(plan[-1]) - 1))
    for name in done:
        put(f"Took back {name}.")
    if kept := [(one.table, str(one.rows)) for one in backups if one.rows]:
        put("\nKept until the way up takes it up again:\n")
        put_table(("Table", "Rows"), kept)
        put("")
    put(f"Done: {_standing(settings, at)}")
    return 0


@migrate.command(sort_key=2)
def status(*, json: JsonOption = False, log_level: LogLevelOption = None) -> None:
    """
    Show every migration, and when it was applied.

    Those that are missing, those of a newer Trunkline and those whose file was changed included.
    """
    lines = run_async(_status(_read_settings(log_level)))
    if json:
        put_json({"migrations": [asdict(line) for line in lines]})
    else:
        put_table(("Migration", "Applied at", "Note"), [_row(line) for line in lines])


@migrate.command(sort_key=3)
def check(*, log_level: LogLevelOption = None) -> int:
    """
    Say whether the database is as this Trunkline needs it.

    Changes nothing. Exits 0 when it is, 1 when migrations are missing, and 2 when it cannot be
    used: it does not answer or let us in, is too old, or has a schema that is newer or was edited.
    """
    settings = _read_settings(log_level)
    try:
        at = run_async(_check(settings))
    except StorageError as error:
        put(f"{error} [{error.code}]")
        return MISSING if isinstance(error, SchemaTooOld) else UNUSABLE
    put(f"All is well: {_standing(settings, at)}")
    return 0


async def _up(settings: Settings, to: int | None) -> tuple[list[str], str]:
    async with _connected(settings) as connection:
        done = await migrations.up(connection, to=to)
        return [one.name for one in done], await _newest(connection)


async def _plan(settings: Settings, to: int | None) -> tuple[list[str], str]:
    """What is to be taken back, the newest first, and where the schema is."""
    async with _connected(settings) as connection:
        there = _applied(await migrations.status(connection))
        after = there[-1:] if to is None else [name for name in there if _version(name) > to]
        return after[::-1], await _newest(connection)


async def _down(settings: Settings, to: int) -> tuple[list[str], list[Backup], str]:
    async with _connected(settings) as connection:
        done = await migrations.down(connection, to=to)
        backups = await list_backups(connection, [one.version for one in done])
        return [one.name for one in done], backups, await _newest(connection)


async def _status(settings: Settings) -> list[Line]:
    async with _connected(settings) as connection:
        return await migrations.status(connection)


async def _check(settings: Settings) -> str:
    async with _connected(settings) as connection:
        await migrations.check(connection)
        return await _newest(connection)


async def _newest(connection: Connection) -> str:
    """The newest migration that the database has; "" if it has none."""
    return next(reversed(_applied(await migrations.status(connection))), "")


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncGenerator[Connection]:
    url = settings.database_url
    async with (
        open_database(
            settings.database, url.get_secret_value() if url else None, settings.home
        ) as database,
        database.acquire() as connection,
    ):
        yield connection


def _read_settings(log_level: LogLevel | None) -> Settings:
    """The settings. Errors are logged: why a migration failed is told in the log alone."""
    settings = read_settings(log_level=log_level)
    level = settings.log_level if "log_level" in settings.model_fields_set else "error"
    logs.configure(level, mask=SECRETS.mask_all)
    return settings


def _require_known(to: int | None) -> None:
    """Raise `UsageError` for the number of a migration that there is none of."""
    known = migrations.load()
    if to is not None and to not in {0, *(one.version for one in known)}:
        raise UsageError(f"There is no migration {to}. The newest is {known[-1].name}.")


def _confirm(settings: Settings, plan: Sequence[str]) -> bool:
    """Ask the person in front of the terminal."""
    tables = ", ".join(f"mcp.*_backup_{_version(name):04}" for name in plan)
    say(f"This takes back {', '.join(plan)} in {_place(settings)}.")
    say(f"The data are kept in {tables}. Stop every Trunkline that uses this database first.")
    sys.stderr.write("Go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _applied(lines: Sequence[Line]) -> list[str]:
    return [line.name for line in lines if line.applied_at is not None]


def _version(name: str) -> int:
    return int(name.partition("_")[0])


def _standing(settings: Settings, newest: str) -> str:
    return f"{_place(settings)} is at {newest}." if newest else f"{_place(settings)} has no schema."


def _place(settings: Settings) -> str:
    """Which database it is, in words that hold no password."""
    if settings.database_url is not None:
        return "the database of DATABASE_URL"
    return f"the database in {settings.home / 'postgres'}"


def _row(line: Line) -> tuple[str, str, str]:
    at = line.applied_at
    when = "-" if at is None else at.astimezone().isoformat(sep=" ", timespec="seconds")
    return line.name, when, line.note or "-"

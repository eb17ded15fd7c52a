"""
`trunkline audit`: who did what, as the database has it, and whether it is still as it was written.

The database is the one of DATABASE_URL, else the embedded one in TRUNKLINE_HOME, whose server is
shared with a Trunkline that runs. Whoever may read it may read everything.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from cyclopts import App, Parameter
from pydantic_core import to_json

from trunkline import logs
from trunkline.cli.database import opened
from trunkline.cli.options import JsonOption, LogLevelOption, read_settings
from trunkline.cli.running import run_async
from trunkline.cli.screen import aligned, count, put, put_json, put_table
from trunkline.errors import SystemRefusal, UsageError
from trunkline.security.audit.chain import Verification, as_shown, row_of
from trunkline.settings import Settings
from trunkline.storage.repositories.audit import (
    AuditEntries,
    AuditFilter,
    AuditRepository,
    AuditRow,
    Outcome,
)
from trunkline.storage.rows import from_text

BROKEN: Final = 1
"""Exit code of `verify` when something was changed or is missing."""

LOOK: Final = 0.5
"""Seconds between two looks for new entries."""

LATE: Final = 10
"""Looks for which an entry may come after one with a higher number: another process was quicker."""

MOST: Final = 10_000
"""Entries that are read in one look."""

COLUMNS: Final = ("At", "Who", "Org", "What", "Outcome", "ms")

_AGO = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

audit = App(
    name="audit",
    help="""See who did what, and whether it is as it was written.

    The database is the one of DATABASE_URL, else the embedded one in TRUNKLINE_HOME.
    """,
)


@audit.default
def show(
    *,
    org: Annotated[
        str | None, Parameter(name="--org", help="What was done in this organisation.")
    ] = None,
    who: Annotated[
        str | None,
        Parameter(name="--who", help="A credential or a user; * stands for anything: 'key:*'."),
    ] = None,
    what: Annotated[
        str | None,
        Parameter(
            name="--what",
            help="An action, a name, or server/item; * stands for anything: 'github/*'.",
        ),
    ] = None,
    outcome: Annotated[Outcome | None, Parameter(name="--outcome", help="How it ended.")] = None,
    since: Annotated[
        str | None,
        Parameter(name="--since", help="A time, such as 2026-11-24T08:00, or how long ago: 2h."),
    ] = None,
    limit: Annotated[
        int, Parameter(name="--limit", help="How many entries are shown at most, the newest.")
    ] = 50,
    follow: Annotated[
        bool,
        Parameter(name="--follow", negative="", help="Go on with what comes, until interrupted."),
    ] = False,
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> None:
    """
    Show entries of the audit, the newest last.

    With --json, one object; together with --follow, one entry a line.
    """
    if not 1 <= limit <= MOST:
        raise UsageError(f"--limit is {limit}; choose 1 to {MOST:,}.")
    wanted = AuditFilter(
        who=who, what=what, outcome=outcome, since=_moment(since) if since else None
    )
    settings = _read(log_level)
    if follow:
        run_async(_follow(settings, org, wanted, limit, json=json))
        return
    rows = run_async(_find(settings, org, wanted, limit))
    if json:
        put_json({"entries": [as_shown(row) for row in rows]})
    elif rows:
        put_table(COLUMNS, [_cells(row) for row in rows])
    else:
        put("There is no such entry.")


@audit.command(sort_key=0)
def verify(
    *,
    file: Annotated[
        Path | None,
        Parameter(name="--file", help="A file of JSON lines to check, instead of the database."),
    ] = None,
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> int:
    """
    Check that no entry was changed, and that none is missing between two others.

    Exits 0 if so, and 1 if not. What is cut off at the end of a chain shows only beside something
    kept elsewhere: with --json, the last hash of each chain is told.
    """
    settings = _read(log_level)
    seen = _verify_file(file) if file is not None else run_async(_verify(settings))
    if json:
        heads = {str(chain): [place, hash_.hex()] for chain, (place, hash_) in seen.heads.items()}
        put_json(
            {
                "entries": seen.entries,
                "beheaded": seen.beheaded,
                "findings": seen.findings,
                "heads": heads,
            }
        )
    else:
        _tell(seen)
    return BROKEN if seen.findings else 0


def _tell(seen: Verification) -> None:
    for finding in seen.findings:
        put(finding)
    what = f"{count(seen.entries, 'entry', 'entries')} in {count(len(seen.heads), 'chain')}"
    if seen.beheaded:
        begin = "chain begins" if seen.beheaded == 1 else "chains begin"
        put(f"{seen.beheaded} {begin} later than at 1, as when old entries have gone.")
    if seen.findings:
        put(f"{what}: {count(len(seen.findings), 'finding')}.")
    else:
        put(f"{what}: as they were written.")


async def _find(
    settings: Settings, org: str | None, wanted: AuditFilter, limit: int
) -> list[AuditRow]:
    async with opened(settings, reads_only=True) as database:
        return await AuditEntries(database).find(org, wanted, limit)


async def _follow(
    settings: Settings, org: str | None, wanted: AuditFilter, limit: int, *, json: bool
) -> None:
    async with opened(settings, reads_only=True) as database:
        entries = AuditEntries(database)
        newest = await entries.find(None, AuditFilter(), 1)
        floors = [newest[0].id if newest else 0] * LATE
        rows = await entries.find(org, wanted, limit)
        shown: set[int] = set()
        while True:
            _put_lines(rows, json=json)
            shown = {row.id for row in rows} | {one for one in shown if one > floors[0]}
            floors = [*floors[1:], max(shown | {floors[-1]})]
            await asyncio.sleep(LOOK)
            found = await entries.find(org, replace(wanted, after=floors[0]), MOST)
            rows = [row for row in found if row.id not in shown]


async def _verify(settings: Settings) -> Verification:
    seen = Verification()
    async with opened(settings, reads_only=True) as database:
        async for row in AuditRepository(database).walk():
            seen.see(row)
    return seen


def _verify_file(path: Path) -> Verification:
    seen = Verification()
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    if line.strip():
                        seen.see(row_of(line))
                except ValueError:
                    seen.findings.append(f"Line {number} of {path} is no entry.")
    except OSError as error:
        raise SystemRefusal(error) from error
    return seen


def _read(log_level: LogLevelOption) -> Settings:
    settings = read_settings(log_level=log_level)
    logs.configure(settings.log_level if "log_level" in settings.model_fields_set else "critical")
    return settings


def _moment(text: str) -> datetime:
    """The time that *text* means; a time without a zone is of this machine's."""
    if match := _AGO.fullmatch(text.strip()):
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        except OverflowError:
            pass
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since {text!r} is no time. Write 2026-11-24, 2026-11-24T08:00, or how long ago it "
            "was: 30m, 2h, 7d."
        ) from None


def _put_lines(rows: Sequence[AuditRow], *, json: bool) -> None:
    if json:
        for row in rows:
            put(to_json(as_shown(row)).decode())
    elif rows:
        for line in aligned([_cells(row) for row in rows]):
            put(line)


def _cells(row: AuditRow) -> tuple[str, ...]:
    at = row.at.astimezone().isoformat(sep=" ", timespec="seconds")
    who = " ".join(filter(None, (row.subject, row.user if row.user != row.subject else None)))
    target = "/".join(filter(None, (row.server, row.own_name))) or row.name or ""
    outcome = row.outcome if row.code in (None, row.outcome) else f"{row.outcome} ({row.code})"
    duration = "" if row.duration_ms is None else f"{row.duration_ms:.1f}"
    cells = (at, who or "-", row.org or "-", f"{row.action} {target}".strip(), outcome, duration)
    return tuple(map(from_text, cells))

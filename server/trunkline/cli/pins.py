"""
`trunkline pins`: what tools were when they were accepted, and whether they may be what they are.

These are kept in the database. Whoever serves from it follows within a second, and nobody need be
running. Accepting goes by the hash of what was looked at: what has changed meanwhile is refused.
"""

import getpass
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Final

from cyclopts import App, Parameter

from trunkline.cli.database import opened
from trunkline.cli.options import JsonOption, LogLevelOption, read_settings
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import count, put, put_json, put_table, say
from trunkline.errors import UsageError
from trunkline.security.pins.review import Case, PinNotFound, PinReview
from trunkline.security.pins.scan_text import escaped
from trunkline.settings import Settings

DECLINED: Final = 1
"""Exit code of `accept` when the person in front of it would rather not."""

NameArgument = Annotated[
    str, Parameter(name="NAME", help="SERVER/TOOL with the server's own name of it, or SERVER.")
]
OrgOption = Annotated[
    str | None, Parameter(name="--org", help="Only what belongs to this organisation.")
]
YesOption = Annotated[bool, Parameter(name="--yes", negative="", help="Do not ask on a terminal.")]

pins = App(
    name="pins",
    help="""See which tools are not what they were, and accept them.

    The definition of every tool is kept when it is first seen, in the database of DATABASE_URL or
    else the embedded one in TRUNKLINE_HOME.
    """,
)


@pins.command(name="list", sort_key=0)
def list_(
    server: Annotated[str | None, Parameter(name="SERVER", help="Only of this server.")] = None,
    /,
    *,
    all_: Annotated[
        bool,
        Parameter(name="--all", negative="", help="Also those that need not be looked at."),
    ] = False,
    org: OrgOption = None,
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> None:
    """List the tools that somebody should look at."""
    settings = _read(log_level)
    cases = [
        case
        for case in run_async(_cases(settings, org))
        if (case.is_open or all_) and server in (None, case.server)
    ]
    if json:
        put_json({"pins": [case.as_json() for case in cases]})
    elif cases:
        put_table(("Tool", "Org", "State", "Since", "Findings"), [_row(case) for case in cases])
    else:
        put("No tools are pinned." if all_ else "There is nothing to look at.")


@pins.command(sort_key=1)
def show(
    name: NameArgument,
    /,
    *,
    org: OrgOption = None,
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> None:
    """
    Show what has changed of a tool, or all of one that has not changed, and what a scan finds.

    With the name of a server: everything of it that somebody should look at.
    """
    cases = _named(run_async(_cases(_read(log_level), org)), name)
    if json:
        put_json({"pins": [case.as_json() | {"text": case.text} for case in cases]})
        return
    for case in cases:
        put(_shown(case))
    if not cases:
        put("There is nothing to look at.")


@pins.command(sort_key=2)
def accept(
    name: Annotated[
        str | None,
        Parameter(name="NAME", help="SERVER/TOOL with the server's own name of it, or SERVER."),
    ] = None,
    /,
    *,
    all_: Annotated[
        bool,
        Parameter(name="--all", negative="", help="Everything that somebody should look at."),
    ] = False,
    looked_at: Annotated[
        str | None,
        Parameter(
            name="--hash",
            help="The hash that `pins show` has shown, or its first 16 digits: nothing else is "
            "accepted.",
        ),
    ] = None,
    yes: YesOption = False,
    org: OrgOption = None,
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> int:
    """
    Accept tools as they are now.

    Shows them and asks. Without a terminal to ask on, give the --hash of what you have looked at,
    or --yes.
    """
    if (name is None) is not all_:
        raise UsageError("Say which: `trunkline pins accept NAME`, or --all.")
    settings = _read(log_level)
    cases = run_async(_cases(settings, org))
    cases = [case for case in cases if case.is_open] if name is None else _named(cases, name)
    if looked_at is not None and len(cases) != 1:
        raise UsageError(f"--hash is about one tool, and there are {len(cases)}. Name one.")
    if looked_at is None and not yes and cases and not _confirm(cases):
        say("Nothing was accepted.")
        return DECLINED
    run_async(_accept(settings, cases, looked_at))
    if json:
        put_json({"accepted": [case.as_json() for case in cases]})
    elif cases:
        for case in cases:
            put(f"Accepted {escaped(case.name)} ({case.hash[:16]}).")
    else:
        put("There is nothing to accept.")
    return 0


@pins.command(sort_key=3)
def forget(
    server: Annotated[str, Parameter(name="SERVER", help="The server's name.")],
    /,
    *,
    org: OrgOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """
    Let go of every pin of a server: its tools are pinned anew, as they are when next seen.

    For a server that is gone, or that another one has taken the name of.
    """
    put(f"Let go of {count(run_async(_forget(_read(log_level), server, org)), 'pin')}.")


async def _cases(settings: Settings, org: str | None) -> list[Case]:
    async with _opened(settings) as review:
        orgs = await review.orgs() if org is None else [org]
        return [case for one in orgs for case in await review.cases(one, everything=True)]


async def _accept(settings: Settings, cases: Sequence[Case], looked_at: str | None) -> None:
    async with _opened(settings) as review:
        for case in cases:
            await review.accept(
                case.org, case.server, case.tool, looked_at or case.hash, by=f"local:{_user()}"
            )


async def _forget(settings: Settings, server: str, org: str | None) -> int:
    async with _opened(settings) as review:
        return await review.forget(org, server)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[PinReview]:
    """The pins, in a database with the schema that this program needs."""
    async with opened(settings) as database:
        yield PinReview(database, settings.pins)


def _named(cases: Sequence[Case], name: str) -> list[Case]:
    """The tool of that name, or what is open of the server. Raises `PinNotFound`."""
    if found := [case for case in cases if case.name == name]:
        return found
    of_server = [case for case in cases if case.server == name]
    if not of_server:
        raise PinNotFound(name)
    return [case for case in of_server if case.is_open]


def _confirm(cases: Sequence[Case]) -> bool:
    """Show what is to be accepted, and ask the person in front of the terminal."""
    if not sys.stdin.isatty():
        raise UsageError(
            "There is no terminal to ask on. Give --hash with what `trunkline pins show` has "
            "shown, or --yes."
        )
    for case in cases:
        say(_shown(case))
    sys.stderr.write(f"Accept {count(len(cases), 'tool')}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _shown(case: Case) -> str:
    by = f", accepted by {case.accepted_by}" if case.accepted_by is not None else ""
    found = [f"! {finding}" for finding in case.findings]
    head = f"{escaped(case.name)}: {case.state} since {_when(case)}{by}\nhash {case.hash}\n"
    return "\n".join((head, case.text, *found, ""))


def _row(case: Case) -> tuple[str, ...]:
    found = ", ".join(
        sorted({f"{one.kind} ({one.severity.name.lower()})" for one in case.findings})
    )
    return escaped(case.name), case.org or "-", case.state, _when(case), found or "-"


def _when(case: Case) -> str:
    return case.since.astimezone().isoformat(sep=" ", timespec="seconds")


def _user() -> str:
    """Who sits here, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _read(log_level: LogLevelOption) -> Settings:
    settings = read_settings(log_level=log_level)
    log_briefly(settings)
    return settings

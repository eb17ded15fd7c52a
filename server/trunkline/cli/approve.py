"""
`trunkline approvals`, `approve` and `deny`: deciding on calls that wait for a person.

They are rows of the database, and nobody need be running. Whoever can read that database decides
here as the local user does anywhere: for every organisation.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, TypeVar

from cyclopts import Parameter

from trunkline.cli.database import opened
from trunkline.cli.deeds import enter
from trunkline.cli.options import JsonOption, LogLevelOption, read_settings
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import put, put_json, put_table
from trunkline.models import LOCAL
from trunkline.security.approvals.desk import ApprovalDesk
from trunkline.settings import Settings
from trunkline.storage.repositories.approvals import ApprovalRow
from trunkline.storage.rows import Org

T = TypeVar("T")

IdArgument = Annotated[str, Parameter(name="ID", help="The request's id.")]


def approvals(
    *,
    all_: Annotated[
        bool,
        Parameter(name="--all", negative="", help="Also what became of those that are over."),
    ] = False,
    json: JsonOption = False,
    log_level: LogLevelOption = None,
) -> None:
    """
    List the calls that wait for a person, oldest first.

    What is over can be looked at for a week. Arguments are shortened, and shown without what looks
    secret.
    """
    settings = _read(log_level)
    rows = run_async(_with_desk(settings, lambda desk: desk.list_open(LOCAL, over=all_)))
    if json:
        put_json({"approvals": [asdict(row) for row in rows]})
    elif rows:
        columns = ("ID", "State", "Risk", "Tool", "Caller", "Arguments", "Until")
        put_table(columns, [_line(row) for row in rows])
    else:
        put("There are no requests." if all_ else "Nothing waits for approval.")


def approve(
    id_: IdArgument, /, *, json: JsonOption = False, log_level: LogLevelOption = None
) -> None:
    """
    Let a call run that waits for approval.

    Once, with the arguments it had, if its caller repeats it in time.
    """
    settings = _read(log_level)
    row = run_async(_decide(settings, "approval.approved", lambda desk: desk.approve(LOCAL, id_)))
    _show(row, json, "Approved {}. Its caller may call it once, until {}.")


def deny(id_: IdArgument, /, *, json: JsonOption = False, log_level: LogLevelOption = None) -> None:
    """
    Let a call not run that waits for approval.

    An approval that was not used yet is taken back.
    """
    settings = _read(log_level)
    row = run_async(_decide(settings, "approval.denied", lambda desk: desk.deny(LOCAL, id_)))
    _show(row, json, "Denied {}. Its caller is told so, and nobody is asked again, until {}.")


async def _with_desk(settings: Settings, work: Callable[[ApprovalDesk], Awaitable[T]]) -> T:
    async with opened(settings) as database:
        return await work(ApprovalDesk(database, _global))


async def _decide(
    settings: Settings, action: str, work: Callable[[ApprovalDesk], Awaitable[ApprovalRow]]
) -> ApprovalRow:
    async with opened(settings) as database:
        row = await work(ApprovalDesk(database, _global))
        await enter(database, action, row.org, server=row.server, own_name=row.tool, name=row.id)
        return row


def _global(_org: str | None) -> Org:
    return None


def _read(log_level: LogLevelOption) -> Settings:
    settings = read_settings(log_level=log_level)
    log_briefly(settings)
    return settings


def _show(row: ApprovalRow, json: bool, sentence: str) -> None:
    if json:
        put_json(asdict(row))
    else:
        put(sentence.format(f"{row.id} ({row.tool} of {row.server})", _time(row.expires_at)))


def _line(row: ApprovalRow) -> tuple[str, ...]:
    caller = row.subject if row.org is None else f"{row.subject} of {row.org}"
    tool = f"{row.server}/{row.tool}"
    return row.id, row.state, row.risk, tool, caller, row.arguments, _time(row.expires_at)


def _time(at: datetime) -> str:
    return at.astimezone().isoformat(sep=" ", timespec="seconds")

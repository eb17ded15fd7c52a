"""
The start as a person sees it: who has connected, who has not and why, as it happens.

On a terminal one line at the bottom says whom we are waiting for. Nobody else waits: requests are
served all the while.
"""

import asyncio
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from trunkline.app import App, ServerReport
from trunkline.cli.screen import count, say
from trunkline.downstream.config import ConfigProblem
from trunkline.models import State

if TYPE_CHECKING:
    from rich.status import Status

LOOK: Final = 0.1
"""Seconds between two looks at how the servers are doing."""


HEALTHY: Final = frozenset({State.CONNECTED, State.DISCONNECTED})
"""The states of a server that is as it should be; it is DISCONNECTED on purpose."""


class WaitingLine(Protocol):
    """The line at the bottom."""

    def show(self, text: str) -> None: ...


async def tell_start(app: App, *, limit: float) -> None:
    """Say of every server and plugin how its start went; returns when all are through."""
    told: set[str] = set()
    with waiting_line() as line:
        settled = asyncio.ensure_future(app.settled(limit))
        try:
            while not settled.done():
                await asyncio.wait([settled], timeout=LOOK)
                # What mcp.json says wrongly has no kind and never starts: that is told elsewhere.
                reports = [report for report in app.reports() if report.kind]
                width = max((len(report.name) for report in reports), default=0)
                for report in reports:
                    if report.name not in told and (settled.done() or _is_through(report)):
                        told.add(report.name)
                        say(f"  {describe(report, width)}")
                line.show(_waiting_for(reports))
        finally:
            settled.cancel()


async def wait_for_start(app: App, *, limit: float) -> bool:
    """Wait until all are through, saying only whom we wait for. False after *limit* seconds."""
    with waiting_line() as line:
        settled = asyncio.ensure_future(app.settled(limit))
        try:
            while not settled.done():
                await asyncio.wait([settled], timeout=LOOK)
                line.show(_waiting_for(app.reports()))
            return settled.result()
        finally:
            settled.cancel()


def describe(report: ServerReport, width: int = 0) -> str:
    """One server or plugin in one line, its name filled up to *width* characters."""
    offers = (
        count(report.tools, "tool"),
        count(report.prompts, "prompt"),
        count(report.resources, "resource"),
    )
    parts = [", ".join(offer for offer in offers if not offer.startswith("0 ")) or "nothing"]
    if report.state is not State.CONNECTED:
        parts = [report.last_error or report.reason]
        if report.next_try is not None:
            parts.append(f"Next try {until(report.next_try)}.")
    return f"{report.name:<{width}}  {report.state.lower():<12}  {' '.join(parts)}".rstrip()


def until(moment: datetime) -> str:
    """How long it is until *moment*, as a person says it."""
    seconds = (moment - datetime.now(moment.tzinfo)).total_seconds()
    if seconds < 1:
        return "now"
    return f"in {seconds:.0f} s" if seconds < 120 else f"in {seconds / 60:.0f} min"


def describe_problem(path: object, problem: ConfigProblem) -> str:
    """A problem of mcp.json with the place where an editor finds it."""
    sentence = f"{problem.message} [{problem.code}]"
    return (
        sentence if problem.line is None else f"{path}:{problem.line}:{problem.column}: {sentence}"
    )


@contextmanager
def waiting_line() -> Generator[WaitingLine]:
    """A line at the bottom of the terminal; nothing at all where there is no terminal."""
    if not sys.stderr.isatty():
        yield _NoLine()
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text("Starting")) as status:
        yield _BottomLine(status)


class _NoLine:
    def show(self, text: str) -> None:
        pass


class _BottomLine:
    def __init__(self, status: "Status") -> None:
        self._status = status

    def show(self, text: str) -> None:
        from rich.text import Text

        self._status.update(Text(text))


def _is_through(report: ServerReport) -> bool:
    # A server is connected before it has listed; what it offers is not known until then.
    if report.state is State.CONNECTED:
        return bool(report.tools or report.prompts or report.resources)
    return report.state is not State.CONNECTING


def _waiting_for(reports: Iterable[ServerReport]) -> str:
    names = [report.name for report in reports if not _is_through(report)]
    return f"Waiting for {', '.join(names)}" if names else "Starting"

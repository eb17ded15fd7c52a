"""
`make conformance`: the official suite against the fixture, directly and through Trunkline.

    python -m tests.conformance [--target NAME]... [--revision R]... [--scenario S]
        [--sharing S] [--json FILE]

Prints one table per revision. Exits 0 if every scenario goes as well through Trunkline as
directly, 1 if one goes worse, 2 if something could not be run. A handshake-only downstream is
excused from the few scenarios that need what its era does not have.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
from rich.console import Console

from tests.conformance import suite
from tests.conformance.report import BASELINE, Report
from tests.conformance.suite import REVISIONS, Revision, SuiteError
from tests.conformance.targets import TARGETS, NotReady, Target, serving

AT_ONCE: Final = 2
"""Targets tested at the same time."""

SHARINGS: Final = ("global", "org", "user", "client")
WIDTH: Final = 140
"""Columns of the table where the output is no terminal."""


async def test_all(node: Path, options: argparse.Namespace, report: Report) -> None:
    """Test every chosen target, and the fixture itself to compare with."""
    chosen = [target for target in TARGETS.values() if target.name in options.target]
    slots = anyio.Semaphore(AT_ONCE)

    async def test_one(target: Target) -> None:
        async with slots:
            try:
                async with serving(target, options.sharing) as url:
                    for revision in options.revision:
                        results = await suite.run(node, url, revision, options.scenario)
                        report.add(revision, target.name, results)
            except (SuiteError, NotReady, RuntimeError) as error:
                report.broken[target.name] = str(error)

    async with anyio.create_task_group() as tests:
        for target in chosen:
            tests.start_soon(test_one, target)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. The fixture itself is always among the targets."""
    options = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--target", action="append", choices=tuple(TARGETS), help="default: all")
    options.add_argument("--revision", action="append", choices=REVISIONS, help="default: both")
    options.add_argument("--scenario", help="one scenario instead of all")
    options.add_argument(
        "--sharing", choices=SHARINGS, help="who shares the downstream's session; default: unset"
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes here too")
    chosen = options.parse_args(arguments)
    chosen.target = {BASELINE, *(chosen.target or TARGETS)}
    revisions: list[Revision] = chosen.revision or list(REVISIONS)
    chosen.revision = revisions
    return chosen


def main() -> int:
    """Run, print, and return the exit code."""
    options = parse()
    report = Report(sharing=options.sharing)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        node = suite.install()
    except SuiteError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 2
    anyio.run(test_all, node, options, report)
    report.show(console)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    if report.broken:
        return 2
    return 1 if report.regressions() else 0


if __name__ == "__main__":
    sys.exit(main())

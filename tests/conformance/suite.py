"""
The official suite: install it once, run it against a URL, read what it found.

It comes from npm, pinned in `package.json` and its lock file, into `node_modules` beside them. It
needs Node 22: the one on PATH if that is new enough, else the one npm has as a package.
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from tests.servers.processes import end_group

HERE: Final = Path(__file__).parent
MODULES: Final = HERE / "node_modules"
BUNDLE: Final = MODULES / "@modelcontextprotocol/conformance/dist/index.js"
NODE_NEEDED: Final = 22
INSTALL_LIMIT: Final = 600.0
"""Seconds the installation may take."""

RUN_LIMIT: Final = 900.0
"""Seconds all scenarios of one revision may take against one server."""

SCENARIO_LIMIT: Final = 30.0
"""Seconds the suite gives one scenario."""

Revision = Literal["2025-11-25", "2026-07-28"]
REVISIONS: Final[tuple[Revision, ...]] = ("2025-11-25", "2026-07-28")

Grade = Literal["passed", "warned", "failed", "absent"]
GRADES: Final[tuple[Grade, ...]] = ("absent", "failed", "warned", "passed")
"""From worst to best."""


class SuiteError(Exception):
    """The suite could not be installed or run. `str()` says why and what to do."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one scenario went: the worst of its checks, and what those that did not pass said."""

    grade: Grade
    checks: int = 0
    messages: tuple[str, ...] = ()

    @classmethod
    def of(cls, checks: Sequence[dict[str, Any]]) -> "Outcome":
        """Sum up a scenario's checks; information and what was skipped does not count."""
        failed = [check for check in checks if check["status"] == "FAILURE"]
        warned = [check for check in checks if check["status"] == "WARNING"]
        passed = [check for check in checks if check["status"] == "SUCCESS"]
        grade: Grade = "failed" if failed else "warned" if warned else "passed"
        said = tuple(f"{c['id']}: {c.get('errorMessage', '')}" for c in (*failed, *warned))
        return cls(grade, len(failed) + len(warned) + len(passed), said)

    def is_worse_than(self, other: "Outcome") -> bool:
        """Whether a reader would call it a step back."""
        return GRADES.index(self.grade) < GRADES.index(other.grade)


Results = dict[str, Outcome]
"""Outcomes by scenario, in the suite's order."""


def install() -> Path:
    """Make sure that the suite is there, and return the Node to run it with."""
    node = _node_on_path()
    if not BUNDLE.exists() or (node is None and _node_from_npm() is None):
        npm = shutil.which("npm")
        if npm is None:
            raise SuiteError(
                "The conformance suite comes from npm, and there is no npm on PATH. Install Node "
                f"{NODE_NEEDED} or newer."
            )
        omit = ("--omit=optional",) if node else ()
        command = (npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", *omit)
        done = subprocess.run(command, cwd=HERE, timeout=INSTALL_LIMIT, check=False)
        if done.returncode != 0:
            raise SuiteError(f"`npm ci` in {HERE} failed; its message is above.")
    node = node or _node_from_npm()
    if node is None:
        raise SuiteError(f"The suite needs Node {NODE_NEEDED} or newer on PATH.")
    return node


def _node_on_path() -> Path | None:
    found = shutil.which("node")
    if found is None:
        return None
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    new_enough = int(version.stdout.removeprefix("v").split(".")[0]) >= NODE_NEEDED
    return Path(found) if new_enough else None


def _node_from_npm() -> Path | None:
    return next(iter(MODULES.glob("node-*-*/bin/node")), None)


async def run(node: Path, url: str, revision: Revision, scenario: str | None = None) -> Results:
    """
    Run all scenarios of *revision*, or one, against the server at *url*.

    Raises `SuiteError` if the suite takes longer than `RUN_LIMIT` or leaves no results.
    """
    with TemporaryDirectory(prefix="conformance-") as folder:
        chosen = ("--scenario", scenario) if scenario else ("--suite", "all")
        process = await asyncio.create_subprocess_exec(
            *(str(node), str(BUNDLE), "server", "--url", url, "--spec-version", revision),
            *("--output-dir", folder, "--timeout", str(int(SCENARIO_LIMIT * 1000)), *chosen),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(RUN_LIMIT):
                output, _ = await process.communicate()
        except TimeoutError:
            raise SuiteError(f"The suite took longer than {RUN_LIMIT:g} seconds.") from None
        finally:
            end_group(process.pid)
            await process.wait()
        results = _read(Path(folder))
    if not results:
        raise SuiteError(f"The suite left no results. It said:\n{output.decode()[-2000:]}")
    return results


def _read(folder: Path) -> Results:
    """Read `server-<scenario>-<time>/checks.json` of every scenario, oldest first."""
    results: Results = {}
    for file in sorted(folder.glob("*/checks.json"), key=lambda file: file.parent.name[-24:]):
        scenario = file.parent.name.removeprefix("server-")[:-25]
        results[scenario] = Outcome.of(json.loads(file.read_text()))
    return results

"""
What a call pays for being limited and audited, and for knowing who makes it.

    python -m bench.security [--calls 100000] [--results 300]

Each line is CPU time per call, in microseconds and as a multiple of an empty loop: first what is on
the path of a call, then what is done for it behind, where no call waits. Identity is a stand-in: a
look into a dict by the hash of a header. All runs in one thread, with nothing to wait for, so
the figures add up; the database's own work is not in them.
"""

import argparse
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from trunkline.models import LOCAL, Json, Principal
from trunkline.security.audit.audit import Audit
from trunkline.security.audit.chain import line_of
from trunkline.security.audit.entries import Entries, Event
from trunkline.security.limits.limits import Limits
from trunkline.security.limits.results import LargeResults
from trunkline.security.limits.rules import Rules
from trunkline.settings import AuditSettings

MANY: Final = 1_000_000_000
POLICY: Final[Json] = {
    "key": {"calls_per_minute": MANY, "result_bytes": 8 * 1024 * 1024, "concurrent": 100},
    "org": {"calls_per_minute": MANY},
    "tool": {"github/*": {"calls_per_minute": MANY}},
}
ARGUMENTS: Final[Json] = {"query": "is:open label:bug", "repo": "acme/widgets", "limit": 20}

Step = Callable[[], object]


class Bench:
    """Everything that a call meets, with nothing behind it."""

    def __init__(self, calls: int, results: int) -> None:
        headers = [f"Bearer tk_{number:06}_{'x' * 32}" for number in range(100)]
        self._principals = {
            sha256(header.encode()).digest(): Principal(
                subject=f"key:{number}", org=f"org{number % 10}", user="ada"
            )
            for number, header in enumerate(headers)
        }
        self._headers, self._turn = headers, 0
        self.limits = Limits(Rules(), lambda _: POLICY)
        self.large = LargeResults(1024 * 1024)
        self.audit = Audit(AuditSettings(queue=calls * 2), [], Path(), face="http")
        self.result: Json = {"content": [{"type": "text", "text": "x" * results}]}

    def identify(self) -> Principal:
        self._turn = (self._turn + 1) % len(self._headers)
        return self._principals[sha256(self._headers[self._turn].encode()).digest()]

    def limit(self, who: Principal) -> None:
        with self.limits.admit(who, "github", "search", ARGUMENTS) as admission:
            self.large.fit("tools/call", self.result, who, admission.result_bytes)

    def enter(self, who: Principal) -> None:
        self.audit.record(
            Event.ended(
                "tools/call",
                who,
                result=self.result,
                server="github",
                own_name="search",
                name="github__search",
                arguments=ARGUMENTS,
                seconds=0.0123,
            )
        )

    def whole(self) -> None:
        """One call's share of identity, limits and audit."""
        who = self.identify()
        self.limit(who)
        self.enter(who)


def seconds_of(step: Step, calls: int) -> float:
    """CPU seconds one step takes, over so many."""
    started = time.process_time()
    for _ in range(calls):
        step()
    return (time.process_time() - started) / calls


def nothing() -> None:
    """What the loop itself costs is the unit."""


def rows(calls: int, results: int) -> list[tuple[str, float]]:
    """Each part, and its CPU seconds per call."""
    bench = Bench(calls, results)
    who = bench.identify()
    found = [
        ("empty loop", seconds_of(nothing, calls)),
        ("identity (stand-in)", seconds_of(bench.identify, calls)),
        ("limits and size of the result", seconds_of(lambda: bench.limit(who), calls)),
        ("limits, the local user", seconds_of(lambda: bench.limit(LOCAL), calls)),
        ("audit", seconds_of(lambda: bench.enter(who), calls)),
    ]
    bench = Bench(calls, results)
    found.append(("all of it on the path", seconds_of(bench.whole, calls)))
    event = Event.ended("tools/call", who, arguments=ARGUMENTS, name="github__search")
    for what, keeps in (("entry", False), ("entry with arguments", True)):
        entries = Entries("http", lambda _, keeps=keeps: keeps)
        step = entries.of
        found.append((f"behind: {what}", seconds_of(lambda step=step: step(event), calls // 10)))
    row = Entries("http", lambda _: False).of(event)
    line = seconds_of(lambda: line_of(row, with_hash=True), calls // 10)
    return [*found, ("behind: JSON line", line)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--results", type=int, default=300, help="characters of a result")
    given = parser.parse_args()
    found = rows(given.calls, given.results)
    unit = found[0][1]
    for what, seconds in found:
        print(f"{what:<32}{seconds * 1e6:8.2f} µs{seconds / unit:9.1f} x")  # noqa: T201


if __name__ == "__main__":
    main()

"""What came out, as a table for people and as JSON for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.conformance.suite import Outcome, Results, Revision
from tests.conformance.targets import INAPPLICABLE, TARGETS

BASELINE: Final = "direct"
ABSENT: Final = Outcome("absent")
MARKS: Final = {
    "passed": "[green]pass[/]",
    "warned": "[yellow]warn[/]",
    "failed": "[red]FAIL[/]",
    "absent": "[red]none[/]",
}
INAPPLICABLE_MARK: Final = "[dim]n/a[/]"


@dataclass(slots=True)
class Report:
    """All outcomes, by revision and target."""

    sharing: str | None = None
    """The `sharing` the downstream was configured with; None was Trunkline's default."""

    results: dict[Revision, dict[str, Results]] = field(
        default_factory=dict[Revision, dict[str, Results]]
    )
    broken: dict[str, str] = field(default_factory=dict[str, str])
    """Targets that could not be tested, and why."""

    def add(self, revision: Revision, target: str, results: Results) -> None:
        """Keep what one run of the suite found."""
        self.results.setdefault(revision, {})[target] = results

    def regressions(self) -> list[str]:
        """One line for every scenario that goes worse through Trunkline than directly."""
        lines: list[str] = []
        for revision, by_target in self.results.items():
            for scenario, wanted in by_target.get(BASELINE, {}).items():
                for target, results in by_target.items():
                    outcome = results.get(scenario, ABSENT)
                    if outcome.is_worse_than(wanted) and not inapplicable(
                        revision, target, scenario
                    ):
                        said = "; ".join(outcome.messages) or outcome.grade
                        lines.append(f"{revision} {target} {scenario}: {said}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "sharing": self.sharing,
            "broken": self.broken,
            "results": {
                revision: {
                    target: {scenario: asdict(outcome) for scenario, outcome in results.items()}
                    for target, results in by_target.items()
                }
                for revision, by_target in self.results.items()
            },
        }

    def show(self, console: Console) -> None:
        """Print one table per revision, then what does not apply, what is worse, what is broken."""
        for revision, by_target in sorted(self.results.items()):
            console.print(_table(revision, by_target, self.sharing))
        tested = {name for by_target in self.results.values() for name in by_target}
        if any(TARGETS[name].handshake_only for name in tested):
            _say(console, "Not applicable to a handshake-only downstream:")
            for (revision, scenario), reason in INAPPLICABLE.items():
                _say(console, f"  {revision} {scenario}: {reason}")
        for line in self.regressions():
            _say(console, f"worse {line}", style="red")
        for target, reason in self.broken.items():
            _say(console, f"broken {target}: {reason}", style="red")


def _say(console: Console, line: str, style: str | None = None) -> None:
    """Print what others wrote: as it is, in one line."""
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


def inapplicable(revision: Revision, target: str, scenario: str) -> bool:
    """Whether nobody could pass this scenario in front of that target's downstream."""
    return TARGETS[target].handshake_only and (revision, scenario) in INAPPLICABLE


def _table(revision: Revision, by_target: Mapping[str, Results], sharing: str | None) -> Table:
    targets = [name for name in TARGETS if name in by_target]
    title = f"Revision {revision}" + (f', "sharing": "{sharing}"' if sharing else "")
    table = Table("scenario", *targets, title=title, title_justify="left")
    scenarios = dict.fromkeys(s for target in targets for s in by_target[target])
    for scenario in scenarios:
        marks = (_mark(revision, name, scenario, by_target[name]) for name in targets)
        table.add_row(scenario, *marks)
    table.add_section()
    totals = (_total(revision, name, by_target[name], list(scenarios)) for name in targets)
    table.add_row("passed", *totals)
    return table


def _mark(revision: Revision, target: str, scenario: str, results: Results) -> str:
    outcome = results.get(scenario, ABSENT)
    if outcome.grade != "passed" and inapplicable(revision, target, scenario):
        return INAPPLICABLE_MARK
    return MARKS[outcome.grade]


def _total(revision: Revision, target: str, results: Results, scenarios: Sequence[str]) -> str:
    passed = {name for name, outcome in results.items() if outcome.grade == "passed"}
    possible = [
        scenario
        for scenario in scenarios
        if scenario in passed or not inapplicable(revision, target, scenario)
    ]
    return f"{len(passed)} of {len(possible)}"

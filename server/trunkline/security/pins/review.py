"""
What people do with pins: see what is to be decided, and decide.

All of it is done in the database, so it is the same from the command line, from the API and from
another machine; every process that serves hears of it. An organisation decides on its own servers,
and whoever may change what belongs to everybody on the global ones.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from trunkline.errors import NotFound, OrgNotFound, TrunklineError
from trunkline.models import Json
from trunkline.security.pins.differences import described, difference
from trunkline.security.pins.judgement import State
from trunkline.security.pins.scan import Finding, scan
from trunkline.security.pins.scan_rules import Severity
from trunkline.settings import PinSettings
from trunkline.storage.pool import Database
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.pins import PinRepository, PinRow
from trunkline.storage.rows import Org

PREFIX: Final = 16
"""Hex digits that are enough to say which definition was looked at."""


class PinNotFound(NotFound):
    """A pin was named that there is none of."""

    code = "pin_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"No pin is named {name[:200]!r}. Write SERVER/TOOL, with the server's own name of the "
            "tool; `trunkline pins list --all` shows every one."
        )


class PinChanged(TrunklineError):
    """What was to be accepted is not what is there."""

    code = "pin_changed"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name[:200]!r} is not what you looked at any more, and was not accepted. Look at it "
            "again."
        )


@dataclass(frozen=True, slots=True)
class Case:
    """One tool, as whoever decides on it sees it."""

    org: str | None
    server: str
    tool: str
    state: State
    since: datetime
    hash: str
    """Of what is there now: what is accepted by accepting."""

    accepted_by: str | None
    """None: it was taken as it was first seen."""

    definition: Json
    """What it is now."""

    accepted: Json
    findings: tuple[Finding, ...]
    """What a scan finds in what it is now."""

    is_open: bool
    """Whether somebody should look at it."""

    @classmethod
    def of(cls, org: str | None, row: PinRow, settings: PinSettings) -> Self:
        """A pin, seen with what the policy says of it."""
        pinned, is_changed = row.pinned, row.pending is not None
        definition = row.accepted if row.pending is None else row.pending
        is_new = pinned.is_late and pinned.accepted_by is None and settings.new != "accept"
        state = State.CHANGED if is_changed else State.NEW if is_new else State.KNOWN
        findings = scan(definition)
        is_suspect = any(one.severity > Severity.LOW for one in findings)
        return cls(
            org,
            row.server,
            row.own_name,
            state,
            row.pending_since or row.accepted_at,
            (pinned.pending or pinned.accepted).hex(),
            pinned.accepted_by,
            definition,
            row.accepted,
            findings,
            is_changed or (pinned.accepted_by is None and (is_new or is_suspect)),
        )

    @property
    def name(self) -> str:
        return f"{self.server}/{self.tool}"

    @property
    def text(self) -> str:
        """What it is now, or what makes that of what was accepted."""
        if self.state is State.CHANGED:
            return difference(self.accepted, self.definition)
        return described(self.definition)

    def as_json(self) -> Json:
        """It for other programs."""
        shown: dict[str, Any] = {
            "name": self.name,
            "org": self.org,
            "server": self.server,
            "tool": self.tool,
            "state": self.state,
            "since": self.since,
            "hash": self.hash,
            "accepted_by": self.accepted_by,
            "open": self.is_open,
            "findings": [
                {"kind": one.kind, "severity": one.severity.name.lower(), "where": one.where}
                | {"excerpt": one.excerpt, "why": one.why}
                for one in self.findings
            ],
        }
        return shown


class PinReview:
    """The pins of the database. Every method raises `StorageError`."""

    def __init__(self, database: Database, settings: PinSettings) -> None:
        self._pins, self._orgs = PinRepository(database), OrgRepository(database)
        self._settings = settings

    async def orgs(self) -> list[str | None]:
        """Everybody who may have pins; None is what is global."""
        return [None, *await self._orgs.list_all()]

    async def cases(self, org: str | None, *, everything: bool = False) -> list[Case]:
        """What an organisation has to look at among its own, or *everything* that it has."""
        rows = await self._pins.list_scope(await self._scope(org))
        cases = [Case.of(org, row, self._settings) for row in rows]
        return [case for case in cases if case.is_open or everything]

    async def case(self, org: str | None, server: str, tool: str) -> Case:
        """One tool. Raises `PinNotFound`."""
        row = await self._pins.find(await self._scope(org), server, tool)
        if row is None:
            raise PinNotFound(f"{server}/{tool}")
        return Case.of(org, row, self._settings)

    async def accept(
        self, org: str | None, server: str, tool: str, looked_at: str, *, by: str
    ) -> Case:
        """
        Accept what has the hash *looked_at*, or one that begins with its first digits.

        Raises `PinNotFound`, and `PinChanged` if the tool is something else by now.
        """
        case, scope = await self.case(org, server, tool), await self._scope(org)
        looked_at = looked_at.lower()
        if len(looked_at) < PREFIX or not case.hash.startswith(looked_at):
            raise PinChanged(case.name)
        done = await self._pins.accept(scope, org, (server, tool), bytes.fromhex(case.hash), by)
        if not done:
            raise PinChanged(case.name)
        return case

    async def forget(self, org: str | None, server: str) -> int:
        """Let go of every pin of a server; return how many there were. It is new again then."""
        return await self._pins.forget(await self._scope(org), org, server)

    async def _scope(self, org: str | None) -> Org:
        """The id of an organisation. Raises `OrgNotFound`."""
        if org is None:
            return None
        orgs = await self._orgs.list_all()
        if org not in orgs:
            raise OrgNotFound(org)
        return orgs[org]

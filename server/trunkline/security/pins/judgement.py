"""
What the pins and the policy come to: whether a tool is served, and what a person is told of it.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from trunkline.errors import StorageError
from trunkline.security.pins.scan import Finding
from trunkline.security.pins.scan_rules import Severity
from trunkline.security.pins.scan_text import escaped
from trunkline.settings import PinSettings
from trunkline.storage.repositories.pins import Pinned

MOST: Final = 10_000
"""Tools of one server that are pinned. A server that invents names must not fill the database."""

Key = tuple[str | None, str, str]
"""The name of an organisation, or None; a server's; and a tool's own name there."""


Look = Callable[[], tuple[Finding, ...]]
"""Makes a scan, or has made it."""


class PinsNotLoaded(StorageError):
    """Nobody knows what tools were when they were accepted."""

    code = "pins_not_loaded"

    def __init__(self, tool: str) -> None:
        super().__init__(
            f"The tool {tool!r} is withheld: whether it has changed is not known until the "
            "database has answered. It is served by itself then."
        )


class State(StrEnum):
    """What a definition is, compared with what was accepted."""

    NEW = "new"
    KNOWN = "known"
    CHANGED = "changed"
    WITHHELD = "withheld"
    """Neither to be listed nor called."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the catalog is to do with a tool, and what a person is told of it."""

    state: State
    note: str | None = None
    is_accepted: bool = False
    """Whether somebody has accepted it as it is. Otherwise it was taken as it was first seen."""

    look: Look = field(default=tuple, compare=False, repr=False)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """
        What a scan finds, the worst first; empty once somebody has accepted the definition.

        The scan is made when it is first asked for: nobody has to wait for it who only lists.
        """
        return self.look()

    @property
    def is_withheld(self) -> bool:
        return self.state is State.WITHHELD

    def sentences(self, tool: str) -> tuple[str, ...]:
        """Everything worth telling of the tool, for `check` and the API."""
        worth = [one for one in self.findings if one.severity > Severity.LOW]
        told = [self.note] if self.note is not None else []
        return (*told, *(f"The tool {tool!r}: {one}" for one in worth))


ACCEPTED: Final = Judgement(State.KNOWN, is_accepted=True)


class Policy:
    """What the settings say of tools that are not what they were."""

    def __init__(self, settings: PinSettings, *, is_plugin: bool = False) -> None:
        """A plugin's file is the operator's: what has changed there is told, never withheld."""
        self._settings, self._may_withhold = settings, not is_plugin

    def decide(self, key: Key, pinned: Pinned, seen: bytes | None, look: Look) -> Judgement:
        """Judge a tool that has been compared with its pin."""
        settings = self._settings
        if seen != pinned.accepted:
            why = "has changed since it was accepted"
            return self._told(key, State.CHANGED, settings.changed, why, look)
        if pinned.accepted_by is not None:
            return ACCEPTED
        if pinned.is_late and settings.new != "accept":
            why = "was not there when its server was first seen"
            return self._told(key, State.NEW, settings.new, why, look)
        if settings.findings == "withhold" and _is_bad(look()):
            why = "says what no honest description has to say"
            return self._told(key, State.NEW, settings.findings, why, look)
        return Judgement(State.KNOWN, look=look)

    def decide_unloaded(self, key: Key, look: Look) -> Judgement:
        """Judge a tool while nobody knows what it was."""
        is_bad = self._may_withhold and self._settings.findings == "withhold" and _is_bad(look())
        if not self._is_strict and not is_bad:
            return Judgement(State.NEW, look=look)
        error = PinsNotLoaded(key[2])
        return Judgement(State.WITHHELD, f"{error} [{error.code}]", look=look)

    def decide_beyond(self, key: Key) -> Judgement:
        """Judge a tool that there is no room for."""
        note = (
            f"The tool {key[2]!r} is not compared with what it was: its server has shown more than "
            f"{MOST:,} tools. `trunkline pins forget {_quoted(key[1])}` begins anew."
        )
        return Judgement(State.WITHHELD if self._is_strict else State.NEW, note)

    @property
    def _is_strict(self) -> bool:
        """Whether a tool that nothing is known of may not be served."""
        return self._may_withhold and "withhold" in (self._settings.changed, self._settings.new)

    def _told(self, key: Key, state: State, policy: str, why: str, look: Look) -> Judgement:
        _, server, tool = key
        is_withheld, name = self._may_withhold and policy == "withhold", _quoted(f"{server}/{tool}")
        note = (
            f"The tool {tool!r} {'is withheld: it ' if is_withheld else ''}{why}. "
            f"See `trunkline pins show {name}`; accept it with `trunkline pins accept {name}`."
        )
        return Judgement(State.WITHHELD if is_withheld else state, note, look=look)


def _is_bad(findings: tuple[Finding, ...]) -> bool:
    return bool(findings) and findings[0].severity is Severity.HIGH


def _quoted(name: str) -> str:
    """A name as a shell takes it."""
    return shlex.quote(escaped(name))

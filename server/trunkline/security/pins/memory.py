"""
What a process knows of its tools and their pins.

It grows with the tools there are, not with how often they change, and of definitions it holds those
alone that are being listed anyway.
"""

from collections import Counter
from dataclasses import dataclass, field

from trunkline.models import Json
from trunkline.security.pins.digest import pinned_part
from trunkline.security.pins.judgement import Key
from trunkline.security.pins.scan import Finding, scan
from trunkline.storage.repositories.pins import Pinned, Seen

Server = tuple[str | None, str]
"""The name of an organisation, or None, and a server's."""


@dataclass(slots=True)
class Pin:
    """What is known of one tool."""

    pinned: Pinned
    definition: Json | None = None
    """What was listed last. Compared by identity: judging it again costs nothing."""

    seen: bytes | None = None
    """Its digest."""

    findings: tuple[Finding, ...] | None = None
    """What a scan of it has found; None while there was none."""

    is_compared: bool = False
    """Whether what was listed last has been compared with what is stored."""

    def look(self) -> tuple[Finding, ...]:
        """What there is to be known of what was listed last."""
        if self.findings is None:
            self.findings = scan(self.definition or {})
        return self.findings

    def as_seen(self, key: Key) -> Seen:
        """It as it was listed last, to be stored."""
        assert self.definition is not None
        assert self.seen is not None
        part = pinned_part(self.definition)
        return Seen(key[1], key[2], part, self.seen, self.pinned.is_late)


@dataclass(slots=True)
class Memory:
    """The pins of every organisation."""

    pins: dict[Key, Pin] = field(default_factory=dict)
    counts: Counter[Server] = field(default_factory=Counter)
    known: set[Server] = field(default_factory=set)
    """Servers whose first list has been seen: what they add from now on comes late."""

    def add(self, key: Key, pin: Pin) -> None:
        self.pins[key] = pin
        self.counts[key[:2]] += 1

    def remove(self, key: Key) -> None:
        del self.pins[key]
        self.counts[key[:2]] -= 1

    def of_server(self, server: Server) -> list[Key]:
        return [key for key in self.pins if key[:2] == server]

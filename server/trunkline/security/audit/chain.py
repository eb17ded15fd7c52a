"""
Entries of the audit that each cover the one before: what is changed or missing shows.

    hash = SHA-256(hash of the entry before + the entry as JSON), the first one after 32 zero bytes

Every process has a chain of its own, so none waits for another. The chain is no secret: whoever may
write to the database and knows how can make all of it anew. Against that helps what is kept
elsewhere: the JSON lines, which carry the hashes, or the last hash of each chain. What is cut off
at the end of a chain leaves no trace in it either.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from operator import index
from typing import Any, Final
from uuid import UUID, uuid4

from trunkline.storage.repositories.audit import AuditRow

ZERO: Final = bytes(32)


class Chain:
    """The end of one process's chain, to which entries are added."""

    def __init__(self) -> None:
        self.id = uuid4()
        self._place, self._hash = 0, ZERO

    def add(self, **values: Any) -> AuditRow:
        """The next entry, with the values given."""
        self._place += 1
        row = AuditRow(chain=self.id, place=self._place, hash=ZERO, **values)
        self._hash = row.hash = link(self._hash, row)
        return row


def link(before: bytes, row: AuditRow) -> bytes:
    """The hash of an entry, after one with the hash *before*."""
    return sha256(before + line_of(row).encode()).digest()


def line_of(row: AuditRow, *, with_hash: bool = False) -> str:
    """An entry as one line of JSON. What is None is left out."""
    values: dict[str, Any] = {
        "at": row.at.isoformat(),
        "chain": str(row.chain),
        "place": row.place,
        "action": row.action,
        "outcome": row.outcome,
        "code": row.code,
        "subject": row.subject,
        "user": row.user,
        "org": row.org,
        "role": row.role,
        "face": row.face,
        "request": row.request,
        "server": row.server,
        "own_name": row.own_name,
        "name": row.name,
        "arguments_hash": row.arguments_hash.hex() if row.arguments_hash is not None else None,
        "arguments": row.arguments,
        "duration_ms": row.duration_ms,
        "causes": row.causes,
        "hash": row.hash.hex() if with_hash else None,
    }
    present = {name: value for name, value in values.items() if value is not None}
    return json.dumps(present, separators=(",", ":"))


def row_of(line: str | bytes) -> AuditRow:
    """The entry that a line is of. Raises `ValueError`."""
    values = json.loads(line)
    try:
        for name in ("hash", "arguments_hash"):
            if name in values:
                values[name] = bytes.fromhex(values[name])
        values["chain"], values["at"] = UUID(values["chain"]), datetime.fromisoformat(values["at"])
        values["place"] = index(values["place"])
        return AuditRow(**values)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("it is no entry of an audit") from error


@dataclass(slots=True)
class Verification:
    """What looking through chains came to. The rows of one chain are to come in their order."""

    entries: int = 0
    beheaded: int = 0
    """Chains that begin later than at 1: what came before went by age, or otherwise."""

    findings: list[str] = field(default_factory=list)
    """Sentences, each about a place where a chain is broken."""

    heads: dict[UUID, tuple[int, bytes]] = field(default_factory=dict)
    """By chain: the last place and its hash, to be kept elsewhere."""

    def see(self, row: AuditRow) -> None:
        """Look at the next row."""
        place, before = self.heads.get(row.chain, (0, ZERO))
        if row.place <= place:  # a file has an entry twice that was sent to it twice
            if row.place == place and row.hash != before:
                self._find(row, "is there twice, with another hash")
            return
        if row.place == place + 1:
            if link(before, row) != row.hash:
                self._find(row, "does not fit its hash: it, or the entry before it, was changed")
        elif place == 0:
            self.beheaded += 1
        else:
            missing = row.place - place - 1
            entries = "entry is" if missing == 1 else "entries are"
            self._find(row, f"comes after a gap: {missing} {entries} missing before it")
        self.entries += 1
        self.heads[row.chain] = row.place, row.hash

    def _find(self, row: AuditRow, what: str) -> None:
        self.findings.append(f"Entry {row.place} of chain {row.chain} {what}.")


def as_shown(row: AuditRow) -> Mapping[str, Any]:
    """An entry as programs are given it, with its id."""
    return {"id": row.id, **json.loads(line_of(row, with_hash=True))}

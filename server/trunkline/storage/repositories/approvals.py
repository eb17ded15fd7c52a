"""
Approvals: calls that wait for a person, and what was decided.

Everything that must not happen twice, or too late, is decided by one statement here and by the
clock of the database: an approval is used by one call, however many replicas look for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self

from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.rows import Org, from_text, to_text

_STATEMENTS = load("approvals.sql")

KEPT: Final = 7 * 86_400.0
"""Seconds that what is over can still be looked at."""

ApprovalState = Literal["pending", "approved", "denied", "used", "expired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApproval:
    """A request, as it is to be kept."""

    id: str
    call_hash: bytes
    subject: str
    user: str | None
    server: str
    tool: str
    arguments: str
    """For a person: shortened, and without what looks secret."""

    risk: str
    four_eyes: bool
    valid_for: float
    """Seconds an approval of it will be good for."""

    pending_for: float
    """Seconds it waits for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRow:
    """A request, as it is kept."""

    id: str
    org: str | None
    """The organisation, by name."""

    subject: str
    """Whose call it is."""

    user: str | None
    server: str
    tool: str
    arguments: str
    risk: str
    state: ApprovalState
    four_eyes: bool
    created_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    used_at: datetime | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        org, user, by = row["org_name"], row["user_name"], row["decided_by"]
        return cls(
            id=row["id"],
            org=None if org is None else from_text(org),
            subject=from_text(row["subject"]),
            user=None if user is None else from_text(user),
            server=from_text(row["server"]),
            tool=from_text(row["tool"]),
            arguments=from_text(row["arguments"]),
            risk=row["risk"],
            state="expired" if row.get("is_over") else row["state"],
            four_eyes=row["four_eyes"],
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            decided_by=None if by is None else from_text(by),
            decided_at=row["decided_at"],
            used_at=row["used_at"],
        )


class ApprovalRepository:
    """The requests of every organisation. Every method raises `StorageError`."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def take(self, org: Org, call_hash: bytes) -> ApprovalRow | None:
        """Use up the approval of a call; or the denial that stands, or None if there is neither."""
        row = await self._pool.fetchrow(_STATEMENTS["take"], org, call_hash)
        return None if row is None else ApprovalRow.of(row)

    async def put(self, org: Org, new: NewApproval, *, most: int) -> ApprovalRow | None:
        """
        The open request of a call, made if there is none.

        None if so many as *most* other calls of the same caller wait already, or if a call of
        another organisation has that hash.
        """
        subject = to_text(new.subject)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_STATEMENTS["lock"], org, subject)
            await connection.execute(_STATEMENTS["expire"], org, new.call_hash)
            waiting = await connection.fetchval(
                _STATEMENTS["count_pending"], org, subject, new.call_hash
            )
            if waiting >= most:
                return None
            row = await connection.fetchrow(
                _STATEMENTS["put"],
                new.id,
                org,
                new.call_hash,
                subject,
                None if new.user is None else to_text(new.user),
                to_text(new.server),
                to_text(new.tool),
                to_text(new.arguments),
                new.risk,
                new.four_eyes,
                new.valid_for,
                new.pending_for,
            )
            await connection.execute(_STATEMENTS["forget"], KEPT)
            return None if row is None else ApprovalRow.of(row)

    async def approve(
        self, org: Org, id_: str, *, by: str, user: str | None, everywhere: bool
    ) -> ApprovalRow | None:
        """
        Approve a pending request of an organisation, or of any if *everywhere*.

        None if there is none that is pending and that the subject *by*, or its *user*, may approve.
        """
        row = await self._pool.fetchrow(
            _STATEMENTS["approve"],
            org,
            everywhere,
            to_text(id_),
            to_text(by),
            None if user is None else to_text(user),
        )
        return None if row is None else ApprovalRow.of(row)

    async def deny(self, org: Org, id_: str, *, by: str, everywhere: bool) -> ApprovalRow | None:
        """Deny a request that is pending, or approved and not used; None if there is none."""
        row = await self._pool.fetchrow(
            _STATEMENTS["deny"], org, everywhere, to_text(id_), to_text(by)
        )
        return None if row is None else ApprovalRow.of(row)

    async def find(self, org: Org, id_: str, *, everywhere: bool) -> ApprovalRow | None:
        """A request, whatever became of it."""
        row = await self._pool.fetchrow(_STATEMENTS["find"], org, everywhere, to_text(id_))
        return None if row is None else ApprovalRow.of(row)

    async def list_scope(self, org: Org, *, everywhere: bool, over: bool) -> list[ApprovalRow]:
        """The requests that wait, oldest first; those that are *over* as well if asked for."""
        rows = await self._pool.fetch(_STATEMENTS["list_scope"], org, everywhere, over)
        return [ApprovalRow.of(row) for row in rows]

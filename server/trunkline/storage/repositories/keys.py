"""
API keys, as they are kept: who may come in, and the hash of what they show.

The secrets themselves never come here. An organisation sees and changes its own keys alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Self

import asyncpg

from trunkline.errors import NotFound, OrgNotFound, TrunklineError
from trunkline.models import Role
from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.rows import Org, from_text, to_name, to_text

_STATEMENTS = load("keys.sql")

CHANNEL: Final = "mcp_keys"
"""What is notified when a key is made, rotated or revoked. The payload says nothing."""


class KeyNotFound(NotFound):
    """There is no such key, or it was revoked."""

    code = "key_not_found"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"There is no key {key[:64]!r} that is in use. `trunkline key list` shows them all."
        )


class KeyNameTaken(TrunklineError):
    """Another key of the organisation has that name."""

    code = "key_name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"A key named {name[:64]!r} is in use. Choose another name, or revoke that one first."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that is to be."""

    name: str
    user: str | None = None
    """The person who will hold it; None if it is nobody's."""

    role: Role = Role.USER
    allow: Sequence[str] = ("*",)
    deny: Sequence[str] = ()
    orgs: Sequence[str] = ()
    """The organisations it may switch to."""

    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key, as it is stored."""

    id: str
    org_id: Org
    org: str | None
    name: str
    user: str | None
    role: Role
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    orgs: tuple[str, ...]
    secret_hash: bytes = field(repr=False)
    old_hash: bytes | None = field(repr=False)
    """Of the secret before the last rotation, which is good until `old_until`."""

    old_until: datetime | None
    expires_at: datetime | None
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None = field(compare=False)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        return cls(
            id=row["id"],
            org_id=row["org_id"],
            org=_text(row["org"]),
            name=from_text(row["name"]),
            user=_text(row["user_name"]),
            role=Role(row["role"]),
            allow=tuple(map(from_text, row["allow"])),
            deny=tuple(map(from_text, row["deny"])),
            orgs=tuple(map(from_text, row["authorized_orgs"])),
            secret_hash=row["secret_hash"],
            old_hash=row["old_hash"],
            old_until=row["old_until"],
            expires_at=row["expires_at"],
            created_at=row["created_at"],
            revoked_at=row["revoked_at"],
            last_used_at=row["last_used_at"],
        )


class KeyRepository:
    """The keys of one scope: an organisation's own, or those without one."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def add(self, org: Org, key_id: str, secret_hash: bytes, key: NewKey) -> KeyRow:
        """Keep a new key. Raises `KeyNameTaken`, `OrgNotFound`, `NotStorable`."""
        values = (
            to_name(key.name),
            None if key.user is None else to_name(key.user),
            key.role,
            [to_text(pattern) for pattern in key.allow],
            [to_text(pattern) for pattern in key.deny],
            [to_name(name) for name in key.orgs],
            secret_hash,
            key.expires_at,
        )
        try:
            row = await self._pool.fetchrow(_STATEMENTS["add"], org, key_id, *values)
        except asyncpg.UniqueViolationError as error:
            raise KeyNameTaken(key.name) from error
        except asyncpg.ForeignKeyViolationError as error:
            raise OrgNotFound(org) from error
        return KeyRow.of(row)

    async def revoke(self, org: Org, key_id: str) -> KeyRow:
        """Let nobody in with a key any more. Raises `KeyNotFound`."""
        return _found(await self._pool.fetchrow(_STATEMENTS["revoke"], org, key_id), key_id)

    async def rotate(
        self, org: Org, key_id: str, secret_hash: bytes, *, grace: timedelta
    ) -> KeyRow:
        """Give a key another secret; the one before is good for *grace*. Raises `KeyNotFound`."""
        row = await self._pool.fetchrow(_STATEMENTS["rotate"], org, key_id, secret_hash, grace)
        return _found(row, key_id)

    async def list_scope(self, org: Org) -> list[KeyRow]:
        """Every key an organisation ever had, the oldest first."""
        return [KeyRow.of(row) for row in await self._pool.fetch(_STATEMENTS["list_scope"], org)]


class AllKeys:
    """
    The keys of every organisation.

    The process itself asks, and administrators of everything: whoever lets one come here has
    decided that they are.
    """

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def list_all(self) -> list[KeyRow]:
        """Every key there ever was, the oldest first."""
        return [KeyRow.of(row) for row in await self._pool.fetch(_STATEMENTS["list_all"])]

    async def list_live(self) -> list[KeyRow]:
        """The keys that somebody may come in with now."""
        return [KeyRow.of(row) for row in await self._pool.fetch(_STATEMENTS["list_live"])]

    async def exist(self) -> bool:
        """Whether there has ever been a key."""
        return await self._pool.fetchval(_STATEMENTS["exist"])

    async def note_used(self, used: Mapping[str, datetime]) -> None:
        """Keep when keys were last used, by their ids."""
        await self._pool.execute(_STATEMENTS["note_used"], list(used), list(used.values()))


def _found(row: Any, key_id: str) -> KeyRow:
    if row is None:
        raise KeyNotFound(key_id)
    return KeyRow.of(row)


def _text(text: str | None) -> str | None:
    return None if text is None else from_text(text)

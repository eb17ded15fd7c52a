"""
The vault's rows: what they hold is sealed before it comes here, and opened elsewhere.
"""

from dataclasses import dataclass, field
from typing import Any

from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.rows import Connection, Org, from_text, to_name, to_text

_STATEMENTS = load("vault.sql")


@dataclass(frozen=True, slots=True)
class Sealed:
    """One secret as it is stored."""

    key_id: str
    """Which master key opens `wrapped_key`."""

    wrapped_key: bytes = field(repr=False)
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The key of one secret, for a new master key."""

    org: Org
    user: str
    name: str
    key_id: str
    wrapped_key: bytes = field(repr=False)


class VaultRepository:
    """Secrets by organisation, user and name."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def find(self, org: Org, user: str, name: str) -> Sealed | None:
        """What is stored; None if there is nothing."""
        row = await self._pool.fetchrow(_STATEMENTS["find"], org, to_text(user), to_text(name))
        return None if row is None else Sealed(row["key_id"], row["wrapped_key"], row["sealed"])

    async def put(
        self, org: Org, connection: Connection, user: str, name: str, sealed: Sealed
    ) -> None:
        """Store a secret in the place of the one before, in the caller's transaction."""
        values = (sealed.key_id, sealed.wrapped_key, sealed.secret)
        owner = (org, to_name(user), to_name(name))
        await connection.execute(_STATEMENTS["put"], *owner, *values)

    async def forget(self, org: Org, user: str, name: str) -> bool:
        """Delete a secret; return whether there was one."""
        rows = await self._pool.fetch(_STATEMENTS["forget"], org, to_text(user), to_text(name))
        return bool(rows)


class VaultKeys:
    """Under which keys the secrets of everybody are. No request comes here, only who seals."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def count_by_key(self) -> dict[str, int]:
        """How many secrets there are under each master key."""
        return _counts(await self._pool.fetch(_STATEMENTS["count_by_key"]))

    async def hold_keys(self, connection: Connection, *, to_change_them: bool) -> None:
        """Until the transaction ends, seal beside others who seal, or change the keys alone."""
        await connection.execute(_STATEMENTS["hold_keys"], to_change_them)

    async def under_other_keys(
        self, connection: Connection, key_id: str, *, after: Wrapped | None, limit: int
    ) -> list[Wrapped]:
        """The next of the secrets under other keys, held until the transaction ends."""
        last = (None, "", "") if after is None else _owner(after)
        rows = await connection.fetch(_STATEMENTS["under_other_keys"], key_id, limit, *last)
        return [
            Wrapped(
                row["org_id"],
                from_text(row["user_name"]),
                from_text(row["name"]),
                row["key_id"],
                row["wrapped_key"],
            )
            for row in rows
        ]

    async def rewrap(self, connection: Connection, wrapped: Wrapped) -> None:
        """Store a secret's key as it is under another master key."""
        values = (wrapped.key_id, wrapped.wrapped_key)
        await connection.execute(_STATEMENTS["rewrap"], *_owner(wrapped), *values)


def _owner(wrapped: Wrapped) -> tuple[Org, str, str]:
    return wrapped.org, to_text(wrapped.user), to_text(wrapped.name)


def _counts(rows: Any) -> dict[str, int]:
    return {row["key_id"]: row["secrets"] for row in rows}

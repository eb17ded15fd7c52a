"""
New master keys for the vault, while others go on using it.

    new key into our file, before the old one ─> every secret's key wrapped anew ─> old key dropped
           (nobody seals meanwhile)               (200 in a transaction)            (likewise)

Whoever finds a secret under a key it has not seen reads the file again. So it may be interrupted
at any moment: the old key stays until no secret needs it, and the next rotation finishes this one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from trunkline.security.vault.keys import Key, KeyRing, SealBroken
from trunkline.security.vault.secret import rewrapped
from trunkline.storage.pool import Database
from trunkline.storage.repositories.vault import VaultKeys, Wrapped
from trunkline.storage.rows import Connection

log = structlog.get_logger(__name__)

LOT: Final = 200
"""Secrets that are brought under a new master key in one transaction."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """How bringing every secret under the newest key has gone."""

    key_id: str | None
    """The key that seals now; None if there never was one."""

    rewrapped: int
    left: Mapping[str, int]
    """Other keys, and how many secrets are still under them: the key is not here, or the secret
    is damaged."""


class Rotator:
    """Brings secrets under the key that seals. Every method raises `StorageError`."""

    def __init__(self, database: Database, keys: KeyRing) -> None:
        self._database, self._keys, self._rows = database, keys, VaultKeys(database)

    async def rotate(self) -> Rotation:
        """Bring every secret under the key that seals; if that is our own file, under a new one."""
        sealing = await self.begin()
        if sealing is None:
            return Rotation(None, 0, await self._rows.count_by_key())
        done, last = 0, None
        while lot := await self.rewrap_lot(sealing, last):
            last = lot[-1][0]
            done += sum(is_done for _, is_done in lot)
        return Rotation(sealing.id, done, await self.finish(sealing))

    async def begin(self) -> Key | None:
        """The key to bring secrets under: a new one, unless that is begun already, or not ours."""
        if self._keys.is_ours:
            await self._change_keys(lambda keys: keys if keys[1:] else [Key.new(), *keys])
        return self._keys.sealing

    async def rewrap_lot(self, sealing: Key, last: Wrapped | None) -> list[tuple[Wrapped, bool]]:
        """Bring the secrets after *last* under a key; return them, and whether that was done."""
        async with self._database.transaction() as connection:
            lot = await self._rows.under_other_keys(connection, sealing.id, after=last, limit=LOT)
            return [(one, await self._rewrap(connection, one, sealing)) for one in lot]

    async def _rewrap(self, connection: Connection, one: Wrapped, sealing: Key) -> bool:
        key = self._keys.find(one.key_id)
        if key is None:
            return False
        try:
            wrapped = rewrapped(one, key, sealing)
        except SealBroken:
            log.warning("vault.damaged", user=one.user, name=one.name)
            return False
        await self._rows.rewrap(connection, wrapped)
        return True

    async def finish(self, sealing: Key) -> dict[str, int]:
        """Drop the older keys of our file if nothing needs them; tell what is left under others."""
        counts = await self._rows.count_by_key()
        left = {key: count for key, count in counts.items() if key != sealing.id}
        if self._keys.is_ours and not any(key.id in left for key in self._keys.older):
            await self._change_keys(lambda keys: keys[:1])
        return left

    async def _change_keys(self, change: Callable[[list[Key]], list[Key]]) -> None:
        """Change the keys of our file while nobody seals."""
        async with self._database.transaction() as connection:
            await self._rows.hold_keys(connection, to_change_them=True)
            if (sealing := self._keys.sealing) is None:
                return
            before = [sealing, *self._keys.older]
            if (after := change(before)) != before:
                self._keys.write(after)

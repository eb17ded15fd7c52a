"""
The outbox: what the index has to be told, and who is telling it.

A worker claims errands, carries them out by looking at the item as it is now, and settles them or
puts them off. It serves every organisation, and no request comes here.
"""

from collections.abc import Sequence
from typing import Final

import asyncpg

from trunkline.errors import SyncConflict
from trunkline.models import KINDS, Kind
from trunkline.storage.pool import Source
from trunkline.storage.queries import load, load_for
from trunkline.storage.rows import Errand, to_text

_STATEMENTS = load("outbox.sql")

ATTEMPTS: Final = 5
"""How often errands are settled anew when a sync and this have locked each other up."""


class OutboxRepository:
    """Errands for the index."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def claim(self, limit: int, *, seconds: float) -> list[Errand]:
        """
        Take up to *limit* errands that are due.

        They are the caller's for so many *seconds*, within which it has to settle or postpone
        them: after that another worker may take them.
        """
        rows = await self._pool.fetch(_STATEMENTS["claim"], limit, seconds)
        return [Errand(**row) for row in rows]

    async def settle(self, errands: Sequence[Errand]) -> int:
        """
        Strike off errands that are done, and delete the rows of items that were to go.

        Returns how many were struck off: one whose item changed meanwhile is not.
        Raises `SyncConflict`.
        """
        settled = 0
        for kind in KINDS:
            mine = [one for one in errands if one.kind == kind]
            if mine:
                settled += await self._settle(kind, mine)
        return settled

    async def _settle(self, kind: Kind, errands: Sequence[Errand]) -> int:
        for _ in range(ATTEMPTS):
            try:
                rows = await self._pool.fetch(
                    load_for(kind)["settle"],
                    [one.item_id for one in errands],
                    [one.version for one in errands],
                    [one.claim for one in errands],
                )
                return len(rows)
            except asyncpg.DeadlockDetectedError:
                continue  # a sync had locked some of the items, in another order
        raise SyncConflict(f"These {kind} kept being changed while their errands were settled.")

    async def postpone(self, errands: Sequence[Errand], *, seconds: float, error: str) -> None:
        """Give back errands that failed, to be tried again in so many *seconds*."""
        await self._pool.execute(
            _STATEMENTS["postpone"],
            [one.kind for one in errands],
            [one.item_id for one in errands],
            [one.claim for one in errands],
            seconds,
            to_text(error),
        )

    async def requeue(self) -> None:
        """Have every tool looked at once more: what is made of them is made otherwise now."""
        await self._pool.execute(_STATEMENTS["requeue"])

    async def backlog(self) -> int:
        """How many items the index is behind on."""
        return await self._pool.fetchval(_STATEMENTS["backlog"])

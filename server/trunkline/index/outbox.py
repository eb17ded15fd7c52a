"""
The worker that tells an index outside of this process what has changed in the catalog.

    outbox ── claim ──> items as they are now ── deliver ──> index ── settle ──> row struck off
                              │ fails
                              └──> postponed, longer each time

An errand is only struck off when the index has it, and only in the version that was delivered, so
whatever dies on the way is done again. A deleted item's row goes with its errand. The index in this
process needs no errands, for it follows the catalog itself: without another one they are struck
off at once.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, Protocol

import structlog

from trunkline.errors import IndexFailure, StorageError
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.rows import Errand

log = structlog.get_logger(__name__)

BATCH: Final = 200
"""Errands claimed at a time."""

CLAIM: Final = 60.0
"""Seconds a batch may take before another worker may have its errands."""

MARGIN: Final = 5.0
"""Seconds before the end of a claim at which its holder gives up: then nobody else has it yet."""

POLL: Final = 1.0
"""Seconds between two looks: the work of other processes that ended is found like new work."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 300.0
"""Seconds until an errand that failed is due again; they double."""


class Delivery(Protocol):
    """Brings errands to an index."""

    async def deliver(self, errands: Sequence[Errand]) -> None:
        """
        Make the index what the items are now: it may be told twice, and in any order.

        Raises `IndexFailure` if it could not.
        """
        ...


class OutboxWorker:
    """One worker of one process. Several work side by side and never on the same errand."""

    def __init__(self, outbox: OutboxRepository, deliveries: Sequence[Delivery] = ()) -> None:
        """An errand goes through *deliveries* in their order. Without any, nobody is told."""
        self._outbox, self._deliveries = outbox, deliveries
        self._is_failing = False

    async def run(self, is_usable: Callable[[], bool]) -> NoReturn:
        """Work until cancelled, whenever the database can be used."""
        while True:
            try:
                while is_usable() and await self.work():
                    pass
            except StorageError as error:
                log.debug("outbox.waiting", code=error.code)
            except Exception:  # the errands are still there; nothing else must end for them
                log.exception("outbox.crashed")
            await asyncio.sleep(POLL)

    async def work(self) -> bool:
        """Carry out one batch. False if there was nothing to do. Raises `StorageError`."""
        errands = await self._outbox.claim(BATCH, seconds=CLAIM)
        if not errands:
            return False
        try:
            async with asyncio.timeout(CLAIM - MARGIN):
                for delivery in self._deliveries:
                    await delivery.deliver(errands)
        except (IndexFailure, TimeoutError) as error:
            await self._postpone(errands, error)
            return False
        await self._outbox.settle(errands)
        if self._is_failing:
            self._is_failing = False
            log.info("outbox.delivering")
        return True

    async def _postpone(self, errands: Sequence[Errand], error: Exception) -> None:
        if not self._is_failing:
            self._is_failing = True
            log.warning("outbox.postponed", errands=len(errands), reason=str(error))
        attempts = min(errand.attempts for errand in errands)
        pause = min(FIRST_PAUSE * 2**attempts, LONGEST_PAUSE)
        await self._outbox.postpone(errands, seconds=pause, error=str(error))

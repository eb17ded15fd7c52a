"""
Whether Redis is in use, and the way back when it is not.

The first failure takes Redis out of use: from then on nobody waits for it, and one task behind the
scenes tries to mend it, with growing pauses. One incident is one line in the log, whatever number
of calls it touched. It is over when Redis has been in use for a while without a failure; until
then a relapse belongs to it, and the pauses go on growing.

    in use ── failure ── out of use ── mend ── in use ── STEADY seconds ── over
                            └── pause ──┘          └── relapse ── pause ── mend ── …
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from trunkline.cache import metrics
from trunkline.cache.failures import CacheFailure, Trouble

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts to mend; they double."""

REFUSED_PAUSE: Final = 15.0
"""Seconds until a Redis that has refused us is asked again: somebody has to change something."""

STEADY: Final = 10.0
"""Seconds in use without a failure after which an incident is over."""


class Breaker:
    """Starts out of use. `run` is to be running for anything to change that."""

    def __init__(self) -> None:
        self.reason: CacheFailure | None = CacheFailure("starting")
        """Why Redis is out of use; None while it is in use."""

        self._told: set[Trouble] = set()
        """The troubles of this incident that the log has heard of."""

        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self._opened.set()

    @property
    def is_closed(self) -> bool:
        """Whether Redis is in use."""
        return self.reason is None

    def trip(self, failure: CacheFailure) -> None:
        """Take Redis out of use."""
        if failure.trouble not in self._told:
            self._told.add(failure.trouble)
            metrics.INCIDENTS.labels(failure.trouble).inc()
            cause = type(failure.__cause__).__name__ if failure.__cause__ else None
            log.warning("cache.down", trouble=failure.trouble, reason=str(failure), cause=cause)
        self.doubt(failure)

    def doubt(self, failure: CacheFailure) -> None:
        """Take Redis out of use until it has been mended, without that being an incident."""
        self.reason = failure
        self._closed.clear()
        self._opened.set()
        metrics.AVAILABLE.set(0)

    async def wait_closed(self) -> None:
        """Wait until Redis is in use."""
        await self._closed.wait()

    async def run(self, mend: Callable[[], Awaitable[None]]) -> NoReturn:
        """Call *mend* whenever Redis is out of use. What it raises is why that did not help."""
        pause = FIRST_PAUSE
        while True:
            await self._opened.wait()
            try:
                await mend()
            except CacheFailure as failure:
                self.trip(failure)
                await asyncio.sleep(REFUSED_PAUSE if failure.trouble == "refused" else pause)
            else:
                self._close()
                if await self._holds():
                    pause = FIRST_PAUSE
                    continue
                await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _close(self) -> None:
        self.reason = None
        self._opened.clear()
        self._closed.set()
        metrics.AVAILABLE.set(1)

    async def _holds(self) -> bool:
        """Whether the incident is over. False as soon as there is a relapse."""
        try:
            async with asyncio.timeout(STEADY if self._told else 0):
                await self._opened.wait()
            return False
        except TimeoutError:
            if self._told:
                log.info("cache.recovered", troubles=sorted(self._told))
            self._told.clear()
            return True

"""
Replicas that keep one limit together, without a call ever waiting for Redis.

Every process lets calls in by its own buckets. Now and then it tells the shared counters what it
has let in, hears what all have, and takes from its buckets what was the others'. A bucket that
holds less than nothing then is waited off. So, over any time, N replicas together let in no more
than

    the rate x the time + N x the burst

and one replica alone what the limit says. While Redis is away each goes by itself, which the log
hears of once. Calls under way at a time are never shared: that limit is each process's own.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NoReturn

import structlog

from trunkline.cache.shares import Holder, SharedCounters
from trunkline.errors import CacheUnavailable
from trunkline.security.limits.limits import Limits

log = structlog.get_logger(__name__)

TIDY: Final = 5.0
"""Seconds between two times that idle buckets are let go of."""


class Shares:
    """One process's part. `run` is to be running; without *counters* it only tidies up."""

    def __init__(
        self,
        limits: Limits,
        counters: SharedCounters | None,
        *,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*interval* is in seconds; *clock* is the one the limits go by."""
        self._limits, self._counters = limits, counters
        self._interval, self._clock = interval, clock
        self.is_alone: bool | None = None
        """Whether the others could not be heard of last; None before the first time."""

    async def run(self) -> NoReturn:
        """Tell, hear and tidy up until cancelled."""
        tidied = self._clock()
        while True:
            await asyncio.sleep(TIDY if self._counters is None else self._interval)
            await self.settle()
            if self._clock() - tidied >= TIDY:
                tidied = self._clock()
                self._limits.drop_idle()

    async def settle(self) -> None:
        """One round. Never raises because of Redis."""
        buckets = self._limits.buckets.take_used()
        told = {key: one.used for key, one in buckets.items()}
        if not told:
            return
        totals: dict[Holder, int] = {}
        try:
            if self._counters is not None:
                totals = await self._counters.add(told)
                self._hear_of(None)
        except CacheUnavailable as error:
            self._hear_of(error)
        now = self._clock()
        for key, bucket in buckets.items():
            # What was told to nobody is forgotten: it may have been counted all the same.
            bucket.settle(told[key], totals.get(key), now)

    def _hear_of(self, error: CacheUnavailable | None) -> None:
        was, self.is_alone = self.is_alone, error is not None
        if error is not None and not was:
            log.warning("limits.alone", reason=str(error))
        elif error is None and was:
            log.info("limits.shared")

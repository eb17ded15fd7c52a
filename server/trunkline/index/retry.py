"""
The second and third try of every Qdrant operation.

Every operation here may be repeated: points are replaced by id and deleted by id, an alias is set
to where it leads already. So whatever may have been a passing fault is tried again, and what Qdrant
refused is not. At once, after 0.5 s, after 1.0 s, no jitter: that is what the lines in the log say,
word for word, and what operators look for there.

A loop of our own and not stamina, which the rest of Trunkline retries with: stamina announces each
retry itself through hooks that belong to the whole process, so that these lines would come twice or
everybody else's not at all, and does not tell the delay that Qdrant's `Retry-After` leads to.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

import structlog

from trunkline.errors import IndexUnavailable
from trunkline.index.metrics import EXHAUSTIONS, RETRIES

log = structlog.get_logger(__name__)

LONGEST_DELAY: Final = 30.0
"""Seconds that are waited at most, whatever `Retry-After` says."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often an operation is tried, and how patiently."""

    attempts: int = 3
    base_delay: float = 0.5
    """Seconds before the second attempt; twice as many before each further one."""

    timeout: float = 5.0
    """Seconds one attempt may take."""

    def delay(self, attempt: int, asked_for: float | None) -> float:
        """Seconds to wait after *attempt* (from 1) failed; *asked_for* is Qdrant's own wish."""
        own = self.base_delay * 2 ** (attempt - 1)
        return min(max(own, asked_for or 0.0), LONGEST_DELAY)


BACKOFF: Final = Backoff()


async def retrying(
    operation: str,
    call: Callable[[], Awaitable[T]],
    *,
    subject: str = "",
    backoff: Backoff = BACKOFF,
) -> T:
    """
    What *call* returns, tried again while it raises `IndexUnavailable` or takes too long.

    *operation* is a word, for the metrics; *subject* says in the log what it is done to. Raises
    `IndexUnavailable` when no attempt is left, and at once whatever else *call* raises.
    """
    name = f"{operation} {subject}".rstrip()
    for attempt in count(1):
        try:
            return await _within(backoff.timeout, call)
        except IndexUnavailable as error:
            failed = f"Qdrant {name} failed (attempt {attempt}/{backoff.attempts}): {error.reason}."
            if attempt >= backoff.attempts:
                log.warning(f"{failed} Giving up.", operation=operation)
                EXHAUSTIONS.labels(operation=operation).inc()
                raise
            delay = backoff.delay(attempt, error.retry_after)
        log.warning(f"{failed} Retrying in {delay:.1f}s...", operation=operation)
        RETRIES.labels(operation=operation).inc()
        await asyncio.sleep(delay)
    raise AssertionError("count() has no end")


async def _within(seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except (TimeoutError, ConnectionError) as error:
        raise IndexUnavailable(_word_for(error)) from error


def _word_for(error: Exception) -> str:
    return "TimeoutError" if isinstance(error, TimeoutError) else "ConnectionError"

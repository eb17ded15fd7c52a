"""
Counters that replicas share in Redis: each adds what it has let in, and reads what all have.

A counter only grows, so it needs no clock and no window, and losing one costs a round of knowing
about the others. The keys of one organisation have its name in braces, which keeps them on one node
of a cluster. They are no part of the cache: `cache flush` leaves them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from trunkline.cache.cache import Cache
from trunkline.cache.failures import CacheFailure

ROOT: Final = "mcp:limits:v1:"

KEPT: Final = 3600
"""Seconds a counter outlives its last use."""

BATCH: Final = 1000
"""Counters that are written in one conversation."""

Holder = tuple[str | None, ...]
"""Whose counter: the organisation first, then what tells it apart within it."""


class SharedCounters:
    """The counters in one Redis."""

    def __init__(self, cache: Cache, timeout: float) -> None:
        """*timeout* is how many seconds Redis may take over a thousand counters."""
        self._cache, self._timeout = cache, timeout

    async def add(self, uses: Mapping[Holder, int]) -> dict[Holder, int]:
        """
        Add to counters; what each comes to.

        Raises `CacheUnavailable`. Then what was to be added may have been, and may not.
        """
        client = self._cache.store().client
        from trunkline.cache.store import diagnose  # it brings the library, which is there by now

        holders, sums = list(uses), list[int]()
        for start in range(0, len(holders), BATCH):
            pipeline = client.pipeline(transaction=False)
            for holder in holders[start : start + BATCH]:
                name = key(holder)
                pipeline.incrby(name, uses[holder])
                pipeline.expire(name, KEPT)
            try:
                async with asyncio.timeout(self._timeout):
                    answers: Sequence[int] = await pipeline.execute()
            except Exception as error:  # whatever the library raises is Redis being away
                raise CacheFailure(diagnose(error)) from error
            sums += answers[::2]
        return dict(zip(holders, sums, strict=True))


def key(holder: Holder) -> str:
    """A holder's key. Who it is does not stand in it, but for the organisation."""
    org, *rest = holder
    tag = (
        ""
        if org is None
        else blake2b(org.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    )
    what = "\0".join(str(part) for part in rest).encode(errors="surrogatepass")
    return f"{ROOT}{{{tag or 'global'}}}:{len(rest)}:{blake2b(what, digest_size=16).hexdigest()}"

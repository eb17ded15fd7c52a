"""
How often each tool is called, how it goes and how long it takes.

A call adds to sums in memory and waits for nothing. The sums go to the database now and then, by
organisation and tool; while it is away they grow on, which takes no more memory than there are
tools.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

import structlog

from trunkline.catalog.offer import Entry
from trunkline.errors import StorageError
from trunkline.models import ProviderId
from trunkline.storage.repositories.statistics import StatisticsRepository
from trunkline.storage.rows import Calls, Org

log = structlog.get_logger(__name__)

FLUSH: Final = 5.0
"""Seconds between two writes."""

LAST_FLUSH: Final = 2.0
"""Seconds the last write may take, when the process stops."""

BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the latency buckets, in seconds; the last bucket has none."""

Key = tuple[str | None, ProviderId, str]
"""The caller's organisation, the server, and the tool's own name there."""


@dataclass(slots=True)
class _Sum:
    count: int = 0
    errors: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))


class CallStatistics:
    """Sums of calls that are not in the database yet."""

    def __init__(self) -> None:
        self._sums: defaultdict[Key, _Sum] = defaultdict(_Sum)

    def add(self, org: str | None, entry: Entry, seconds: float, *, failed: bool) -> None:
        """Count one call of a tool by a client of *org*."""
        one = self._sums[org, entry.origin, entry.own]
        one.count += 1
        one.errors += failed
        one.seconds += seconds
        one.buckets[bisect_left(BOUNDS, seconds)] += 1

    async def keep_writing(
        self,
        repository: StatisticsRepository,
        scope: Callable[[str | None], Awaitable[Org]],
        ids: Callable[[ProviderId], Awaitable[Mapping[str, int]]],
        is_usable: Callable[[], bool],
    ) -> NoReturn:
        """
        Write the sums until cancelled, and once more then.

        *scope* finds an organisation, *ids* the ids of a server's tools by their own names;
        *is_usable* tells whether there is a database to write to.
        """
        try:
            while True:
                await asyncio.sleep(FLUSH)
                if is_usable():
                    await self._write(repository, scope, ids)
        finally:
            try:
                async with asyncio.timeout(LAST_FLUSH):
                    if is_usable():
                        await self._write(repository, scope, ids)
            except TimeoutError:
                pass
            if self._sums:
                log.warning("statistics.lost", calls=sum(s.count for s in self._sums.values()))

    async def _write(
        self,
        repository: StatisticsRepository,
        scope: Callable[[str | None], Awaitable[Org]],
        ids: Callable[[ProviderId], Awaitable[Mapping[str, int]]],
    ) -> None:
        """Write what there is. What cannot be written is kept; a tool that has gone is not."""
        sums, self._sums = self._sums, defaultdict(_Sum)
        if not sums:
            return
        written: set[Key] = set()
        try:
            known = {server: await ids(server) for server in {server for _, server, _ in sums}}
            for org in {org for org, _, _ in sums}:
                mine = {key: one for key, one in sums.items() if key[0] == org}
                calls = {
                    known[server][own]: Calls(one.count, one.errors, one.seconds, one.buckets)
                    for (_, server, own), one in mine.items()
                    if own in known[server]
                }
                await repository.record(await scope(org), calls)
                written |= mine.keys()
        except StorageError as error:
            log.debug("statistics.not_written", code=error.code)
        finally:
            for key in sums.keys() - written:
                self._return(key, sums[key])

    def _return(self, key: Key, one: _Sum) -> None:
        now = self._sums[key]
        now.count += one.count
        now.errors += one.errors
        now.seconds += one.seconds
        now.buckets = [a + b for a, b in zip(now.buckets, one.buckets, strict=True)]

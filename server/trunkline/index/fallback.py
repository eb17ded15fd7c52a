"""
Two indexes as one: Qdrant, and the one in this process while Qdrant does not answer.

Everything is written to both, so the one in process is always as complete. A Qdrant that fails a
few times in a row is not asked any more, so that nobody waits for it; it is probed from behind, and
asked again when it answers.

    search ── is it up? ── Qdrant ── within `patience` ── answer
                 │            └── failed ──┐
                 └── down ── in process ───┴── answer, degraded
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol

import structlog

from trunkline.errors import IndexFailure, IndexMismatch, IndexUnavailable
from trunkline.index.index import Index, Match, Point, Query, Ref
from trunkline.index.metrics import DEGRADED

log = structlog.get_logger(__name__)

PATIENCE: Final = 2.0
"""Seconds a search waits for Qdrant, with its retries: the third one still gets its chance."""

FAILURES: Final = 2
"""Searches in a row that have to fail before Qdrant is taken for down."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two probes. They double, until a search has been answered again."""


class Remote(Index, Protocol):
    """An index that may be away."""

    async def ping(self) -> None:
        """Ask once whether searches can be answered. Raises `IndexFailure` if not."""
        ...


class FallbackIndex:
    """Qdrant's index with a net under it. `run` is to be running, or it stays down."""

    def __init__(
        self,
        remote: Remote,
        local: Index,
        *,
        patience: float = PATIENCE,
        failures: int = FAILURES,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self.remote, self.local = remote, local
        self._patience, self._limit = patience, failures
        self._first_pause = self.pause = first_pause
        """Seconds until the next probe, when one is due."""

        self._failures = 0
        """Searches that failed since the last that did not."""

        self._went_down = asyncio.Event()
        self.reason: IndexFailure | None = None
        """Why Qdrant did not answer the last search; None if it did."""

    @property
    def degraded(self) -> bool:
        """Whether the last search was answered in process, and the next may be."""
        return self._failures > 0

    @property
    def is_down(self) -> bool:
        """Whether Qdrant is not asked at present."""
        return self._failures >= self._limit

    async def run(self) -> None:
        """Probe Qdrant while it is down. Never returns; cancel it."""
        while True:
            await self._went_down.wait()
            while self.is_down:
                await asyncio.sleep(self.pause)
                self.pause = min(self.pause * 2, LONGEST_PAUSE)
                await self._probe()
            self._went_down.clear()

    # -- what an index does ---------------------------------------------------------------------

    async def search(self, query: Query) -> list[Match]:
        """The best matches, from wherever they can be had; see `degraded`."""
        return (await self.answer(query))[0]

    async def answer(self, query: Query) -> tuple[list[Match], bool]:
        """The best matches, and whether it was not Qdrant that found them."""
        if not self.is_down:
            try:
                return await self._ask_remote(query), False
            except IndexMismatch:
                raise  # the query's vector is of another space, for either index
            except IndexFailure as error:
                self._note_failure(error)
        return await self.local.search(query), True

    async def upsert(self, points: Sequence[Point]) -> None:
        """Add points to both. Raises `IndexFailure` if Qdrant did not take them; repeat it then."""
        await self.local.upsert(points)
        await self.remote.upsert(points)

    async def delete(self, refs: Sequence[Ref]) -> None:
        """Take points out of both. Raises `IndexFailure` if Qdrant did not; repeat it then."""
        await self.local.delete(refs)
        await self.remote.delete(refs)

    async def count(self) -> int:
        """How many points Qdrant has."""
        return await self.remote.count()

    def contents(self) -> AsyncIterator[tuple[Ref, bytes]]:
        """What Qdrant has."""
        return self.remote.contents()

    # -- up and down ----------------------------------------------------------------------------

    async def _ask_remote(self, query: Query) -> list[Match]:
        try:
            async with asyncio.timeout(self._patience):
                matches = await self.remote.search(query)
        except TimeoutError as error:
            raise IndexUnavailable("TimeoutError") from error
        self.pause = self._first_pause
        self._note_success()
        return matches

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await self.remote.ping()
        except (IndexFailure, TimeoutError):
            return
        self._note_success()

    def _note_failure(self, error: IndexFailure) -> None:
        was_down, self.reason = self.is_down, error
        self._failures += 1
        if self.is_down and not was_down:
            DEGRADED.set(1)
            self._went_down.set()
            log.warning("qdrant.down", code=error.code, reason=str(error))

    def _note_success(self) -> None:
        was_down, self._failures, self.reason = self.is_down, 0, None
        if was_down:
            DEGRADED.set(0)
            log.info("qdrant.up")

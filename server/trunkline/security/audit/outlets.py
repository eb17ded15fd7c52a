"""
Where entries go, and a queue before each place: table and file do not wait for each other.

    entries ──┬── queue ── table
              └── queue ── file        what is left of a queue at the end ── spool ── the next start

A place that cannot be written to is tried again until it can; its queue grows meanwhile. At a clean
stop what is left is put into a spool, a file of JSON lines, which the next start takes in first.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, NoReturn, Protocol

import anyio
import structlog

from trunkline.errors import NotStorable, StorageUnavailable, SystemRefusal, TrunklineError
from trunkline.security.audit.chain import line_of, row_of
from trunkline.security.audit.lines import append
from trunkline.storage.repositories.audit import AuditRepository, AuditRow

log = structlog.get_logger(__name__)

BATCH: Final = 100
"""Entries that are written at a time: what that keeps others waiting for is a millisecond or so."""

AGAIN: Final = 1.0
"""Seconds until a place that could not be written to is tried again."""


class Place(Protocol):
    """Something that entries can be written to."""

    @property
    def name(self) -> str: ...

    async def write(self, rows: Sequence[AuditRow]) -> None:
        """Write entries, all of them for certain. Raises `TrunklineError`."""
        ...


class AuditTable:
    """The table, once the database has it."""

    name = "table"

    def __init__(self, repository: AuditRepository, is_usable: Callable[[], bool]) -> None:
        """*is_usable* tells whether the database is there, with a schema as it has to be."""
        self._repository, self._is_usable = repository, is_usable

    async def write(self, rows: Sequence[AuditRow]) -> None:
        if not self._is_usable():
            raise StorageUnavailable("The database is not there to be written to now.")
        await self._repository.add(rows)


class Outlet:
    """One place, and the entries that wait for it. `run` is to be running."""

    def __init__(self, place: Place, spool: Path, on_written: Callable[[], None]) -> None:
        """*spool* is the folder for what is left; *on_written* hears that the queue is shorter."""
        self.name = place.name
        self.trouble: TrunklineError | None = None
        """Why it cannot be written to now; None while it can."""

        self._place, self._spool, self._on_written = place, spool, on_written
        self._waiting: deque[AuditRow] = deque()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        """How many entries wait."""
        return len(self._waiting)

    def add(self, rows: Sequence[AuditRow]) -> None:
        """Have entries written."""
        self._waiting.extend(rows)
        self._some.set()

    async def run(self) -> NoReturn:
        """Take in what earlier processes have left; then write what comes, until cancelled."""
        for path in sorted(self._spool.glob(f"*.{self.name}.jsonl")):
            await self._take_in(path)
        while True:
            await self._some.wait()
            self._some.clear()
            await self.write_all()

    async def write_all(self) -> None:
        """Write until nothing waits, however long that takes."""
        while self._waiting:
            self._strike(await self._write(self._next()))

    async def write_last(self) -> None:
        """Write what waits, as far as that goes without trying anything twice."""
        try:
            while self._waiting:
                self._strike(await self._attempt(self._next()))
        except TrunklineError as error:
            self._fail(error)

    def keep_rest(self) -> int:
        """Put what still waits into the spool; how many entries. Raises `SystemRefusal`."""
        rows = list(self._waiting)
        if rows:
            path = self._spool / f"{rows[0].chain}-{rows[0].place}.{self.name}.jsonl"
            lines = "".join(f"{line_of(row, with_hash=True)}\n" for row in rows)
            try:
                append(path, lines.encode())
            except OSError as error:
                raise SystemRefusal(error) from error
        return len(rows)

    def _next(self) -> list[AuditRow]:
        return list(islice(self._waiting, BATCH))

    def _strike(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()
        self._on_written()

    async def _write(self, rows: Sequence[AuditRow]) -> int:
        """Write the first of some entries, trying until it works; how many are through."""
        while True:
            try:
                count = await self._attempt(rows)
            except TrunklineError as error:
                self._fail(error)
                await asyncio.sleep(AGAIN)
            else:
                self._recover()
                return count

    async def _attempt(self, rows: Sequence[AuditRow]) -> int:
        """Write the first of some entries; how many are through. Raises `TrunklineError`."""
        try:
            await self._place.write(rows)
        except NotStorable as error:
            if len(rows) > 1:  # the one that is refused is to hold up nobody else
                return await self._attempt(rows[: len(rows) // 2])
            log.critical("audit.refused", place=self.name, row=rows[0].place, reason=str(error))
        return len(rows)

    async def _take_in(self, path: Path) -> None:
        """Write what a spool holds, and remove it."""
        try:
            rows = await anyio.to_thread.run_sync(_read, path)
            start = 0
            while start < len(rows):
                start += await self._write(rows[start : start + BATCH])
            await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
        except (OSError, ValueError) as error:
            log.warning("audit.spool_unreadable", path=str(path), error=type(error).__name__)
        else:
            log.info("audit.taken_in", place=self.name, entries=len(rows))

    def _fail(self, error: TrunklineError) -> None:
        if self.trouble is None or self.trouble.code != error.code:
            log.warning("audit.waiting", place=self.name, code=error.code, reason=str(error))
        self.trouble = error

    def _recover(self) -> None:
        if self.trouble is not None:
            log.info("audit.written", place=self.name)
            self.trouble = None


def _read(path: Path) -> list[AuditRow]:
    """The entries of a spool. Raises `OSError` or `ValueError`."""
    return [row_of(line) for line in path.read_bytes().splitlines()]

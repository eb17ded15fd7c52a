"""
The audit of one process: told of everything at once, written down behind the calls.

    call ── record ──> events ── 0.2 s, or 500 ──> entries ──> table, file

`record` adds to a queue and returns. The queue is bounded: when it is full because nothing can be
written, calls wait for room and are refused in the end, or go on without being entered, as the
settings say. The local user never waits. A clean stop loses nothing; a process that is killed loses
what was not written yet, which is the last fifth of a second while the database answers.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Final, NoReturn, Self

import anyio
import structlog
from prometheus_client import Counter, Gauge

from trunkline.background import background
from trunkline.errors import StorageError, SystemRefusal, TrunklineError
from trunkline.models import Principal
from trunkline.security.audit.entries import Entries, Event
from trunkline.security.audit.outlets import Outlet, Place
from trunkline.settings import AuditSettings
from trunkline.storage.repositories.audit import AuditRepository

log = structlog.get_logger(__name__)

DROPPED: Final = Counter("trunkline_audit_dropped", "Events that were not entered in the audit.")
WAITING: Final = Gauge("trunkline_audit_waiting", "Entries of the audit that are not written yet.")

FLUSH: Final = 0.2
"""Seconds that events are gathered before they are written."""

MANY: Final = 500
"""Events that are not waited with."""

SLICE: Final = 25
"""Events made into entries before others have their turn: half a millisecond or so."""

LAST_FLUSH: Final = 3.0
"""Seconds the last write may take, when the process stops."""

EXPIRY: Final = 3600.0
"""Seconds between two times that old entries are let go of."""

NOT_YET: Final = 30.0
"""Seconds until that is tried while the database is not there."""


class AuditFull(TrunklineError):
    """What somebody is about to do cannot be written down now, so it may not be done."""

    code = "audit_full"
    audit_outcome: ClassVar = "denied"

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Calls have to be entered in the audit, and it cannot be written now. {reason} "
            f"Nothing was run. Try again when that is mended."
        )


class Audit:
    """Where everything is told. It is to be `open` for anything to be written."""

    def __init__(
        self,
        settings: AuditSettings,
        places: Sequence[Place],
        spool: Path,
        *,
        face: str,
        keeps_arguments: Callable[[str | None], bool] = lambda _: False,
    ) -> None:
        """
        *spool* is a folder of ours for what could not be written at the end. *face* is how clients
        come, where an event does not say; *keeps_arguments* tells of an organisation whether its
        policy wants arguments in the audit.
        """
        self._settings = settings
        self._entries = Entries(face, keeps_arguments)
        self._events: deque[Event] = deque()
        self._some, self._many, self._written = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._outlets = [Outlet(place, spool, self._written.set) for place in places]
        self._most = settings.queue if settings.overflow == "drop" else 2 * settings.queue
        self._is_dropping = False

    @property
    def trouble(self) -> TrunklineError | None:
        """Why entries are not being written now; None while they are."""
        return next((one.trouble for one in self._outlets if one.trouble is not None), None)

    @property
    def is_full(self) -> bool:
        """Whether as many entries wait as may."""
        return self.waiting >= self._settings.queue

    def record(self, event: Event) -> None:
        """Enter something. What the event refers to must not change any more."""
        events = self._events
        if self.waiting >= self._most:
            self._drop()
            return
        events.append(event)
        if len(events) == 1:
            self._some.set()
        elif len(events) == MANY:
            self._many.set()

    async def room(self, principal: Principal) -> None:
        """
        Return when there is room for a call of somebody's. To be asked before it runs.

        Raises `AuditFull` if there is none in time.
        """
        if principal.is_local or self._settings.overflow == "drop" or not self.is_full:
            return
        try:
            async with asyncio.timeout(self._settings.patience):
                while self.is_full:
                    self._written.clear()
                    await self._written.wait()
        except TimeoutError:
            raise AuditFull(str(self.trouble or "It is slower than what happens.")) from None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self]:
        """
        Write for the life of the block; then write the rest, or put it into the spool.

        To be left after everything that records, and before the database.
        """
        try:
            async with background() as group:
                for outlet in self._outlets:
                    group.start_soon(outlet.run)
                group.start_soon(self._run)
                WAITING.set_function(lambda: self.waiting)
                yield self
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def keep_young(self, repository: AuditRepository, is_usable: Callable[[], bool]) -> None:
        """Let go of old entries of the table, now and every hour, until cancelled."""
        days = self._settings.keep_days
        while True:
            pause = EXPIRY if is_usable() else NOT_YET
            try:
                if is_usable() and (gone := await repository.expire(days)):
                    log.info("audit.expired", entries=gone, days=days)
            except StorageError as error:
                log.warning("audit.not_expired", code=error.code, reason=str(error))
            await asyncio.sleep(pause)

    @property
    def waiting(self) -> int:
        """Events and entries that are not in every place yet."""
        count = 0
        for outlet in self._outlets:
            if len(outlet) > count:
                count = len(outlet)
        return count + len(self._events)

    def _drop(self) -> None:
        DROPPED.inc()
        if not self._is_dropping:
            self._is_dropping = True
            log.error("audit.dropping", reason=str(self.trouble or "more happens than is written"))

    async def _run(self) -> NoReturn:
        while True:
            await self._gather()
            await self._make_entries()

    async def _gather(self) -> None:
        """Return when there is something to write, and some time for more of it has passed."""
        await self._some.wait()
        try:
            async with asyncio.timeout(FLUSH):
                await self._many.wait()
        except TimeoutError:
            pass

    async def _make_entries(self) -> None:
        """Make entries of all events there are, with pauses for others."""
        while self._events:
            self._make_some()
            await asyncio.sleep(0)
        self._some.clear()
        self._many.clear()
        self._is_dropping = self._is_dropping and self.is_full

    def _make_some(self) -> None:
        events = [self._events.popleft() for _ in range(min(SLICE, len(self._events)))]
        rows = [self._entries.of(event) for event in events]
        for outlet in self._outlets:
            outlet.add(rows)

    async def _end(self) -> None:
        while self._events:
            self._make_some()
        with anyio.move_on_after(LAST_FLUSH):
            async with anyio.create_task_group() as group:
                for outlet in self._outlets:
                    group.start_soon(outlet.write_last)
        for outlet in self._outlets:
            try:
                if kept := outlet.keep_rest():
                    log.warning("audit.spooled", place=outlet.name, entries=kept)
            except SystemRefusal as error:
                log.critical(
                    "audit.lost", place=outlet.name, entries=len(outlet), reason=str(error)
                )

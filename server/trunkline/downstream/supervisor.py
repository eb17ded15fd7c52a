"""
Keeping one connection alive: connect, watch, reconnect, and say how it stands.

A supervisor stands for one session key (server, scope, era). It starts a fresh task for every
incarnation of the session and waits for it to end; then it starts the next one, at once after a
session that worked, with growing pauses after failures.

    borrow() ─ ready? ── yes ──────────────> session
                  └─ no ─> wake, wait for one attempt ─> session, or the reason it failed

After `BREAKER_LIMIT` failures in a row the circuit is open: callers are told the reason at once,
and at most one attempt a quarter of a second is made for them. So a server that is back works on
the next call, and one that is not costs nothing.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from trunkline.downstream.channel import ChannelLost
from trunkline.downstream.session import Session
from trunkline.errors import DownstreamError, DownstreamTimeout, DownstreamUnavailable
from trunkline.models import State, Status

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
BREAKER_LIMIT: Final = 5
BREAKER_FLOOR: Final = 0.25
"""Seconds between two attempts that callers may force while the circuit is open."""

STABLE_AFTER: Final = 5.0
"""Seconds a session must live for its end not to count as a failure to start."""

GATE_HOLD: Final = 3.0
"""Seconds a starting server may hold a place in the gate: one that hangs delays no others."""


class Supervisor:
    """Owns the incarnations of one session."""

    def __init__(
        self,
        name: str,
        new_session: Callable[[], Session],
        gate: asyncio.Semaphore,
        *,
        eager: bool,
        transient: bool,
        idle_timeout: float | None,
        probe_interval: float,
        on_ready: Callable[[Session], None] | None = None,
        on_state: Callable[[], None] | None = None,
    ) -> None:
        """
        *eager* keeps the session up whether or not anyone asks; otherwise it is opened for the
        first borrower. *transient* ends the supervisor itself when its session was stopped for
        being idle. *idle_timeout* closes it after so many seconds without a request. *gate*
        bounds how many servers are starting at once.
        """
        self.name = name
        self._new_session, self._gate = new_session, gate
        self._eager, self.transient = eager, transient
        self._idle_timeout, self._probe_interval = idle_timeout, probe_interval
        self._on_ready, self._on_state = on_ready, on_state
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._failed_at = float("-inf")
        self._failure: str | None = None
        self.last_failure: BaseException | None = None
        """Why the last session ended or never began."""

        self._next_try: datetime | None = None
        self._degraded = ""
        self._wake = asyncio.Event()
        self._attempt = asyncio.Event()
        self._stopping = False
        self._state = State.CONNECTING if eager else State.DISCONNECTED

    # -- for borrowers ------------------------------------------------------------------------

    @property
    def ready_session(self) -> Session | None:
        """The session, if it can be used right now."""
        session = self._session
        return session if session is not None and session.is_ready else None

    async def borrow(self, timeout: float) -> Session:
        """
        The session, opened first if need be; waits for one attempt of at most *timeout* seconds.

        Raises `DownstreamUnavailable` with the reason, or `DownstreamTimeout`.
        """
        if (session := self.ready_session) is not None:
            return session
        if self._stopping:
            raise DownstreamUnavailable(self.name, "it is being stopped.")
        now = asyncio.get_running_loop().time()
        if self._failures >= BREAKER_LIMIT and now - self._failed_at < BREAKER_FLOOR:
            raise DownstreamUnavailable(self.name, self._failure or "it failed several times.")
        attempt = self._attempt
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                await attempt.wait()
        except TimeoutError:
            raise DownstreamTimeout(self.name, timeout, doing="start") from None
        if (session := self.ready_session) is not None:
            return session
        raise DownstreamUnavailable(self.name, self._failure or "its connection was lost at once.")

    @property
    def is_over(self) -> bool:
        """Whether it has been stopped, by somebody or for being idle."""
        return self._stopping

    @property
    def idle_since(self) -> float | None:
        """Loop time of its last request; None while one is in flight or it is starting."""
        session = self.ready_session
        return None if session is None or session.busy else session.last_used

    @property
    def status(self) -> Status:
        """How it stands now."""
        if self._state is State.CONNECTED and self._degraded:
            return Status(State.DEGRADED, self._degraded, self._failure)
        reason = (self._failure or "") if self._state is State.ERROR else ""
        return Status(self._state, reason, self._failure, self._next_try)

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Supervise until `stop`. Run it in a task group; raises nothing but cancellation."""
        try:
            await self._run()
        finally:
            self._attempt.set()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as incarnations:
            while not self._stopping:
                if not self._eager and not self._wake.is_set():
                    if self._state is not State.ERROR:
                        self._become(State.DISCONNECTED)
                    await self._wake.wait()
                    continue
                await self._incarnate(incarnations)
                if self._failures and not self._stopping:
                    await self._pause()

    async def stop(self) -> None:
        """End for good, and wait until the connection is closed."""
        self._stopping = True
        self._wake.set()
        session, task = self._session, self._task
        if session is None or task is None:
            return
        session.close()
        if not session.settled.is_set():
            task.cancel()
        await asyncio.wait({task})

    async def _incarnate(self, incarnations: asyncio.TaskGroup) -> None:
        """Open one session, watch it, and see it ended."""
        self._become(State.CONNECTING)
        session = self._new_session()
        async with self._gate:
            if self._stopping:
                return
            self._session = session
            self._task = task = incarnations.create_task(session.run())
            try:
                async with asyncio.timeout(GATE_HOLD):
                    await session.settled.wait()
            except TimeoutError:
                pass
        try:
            await session.settled.wait()
            if session.is_ready:
                self._succeeded(session)
                await self._watch(session)
        finally:
            session.close()
            if session.ready_since is None:
                task.cancel()
            await asyncio.wait({task})
            self._ended(session)

    async def _watch(self, session: Session) -> None:
        """Stay until the session ends: probe it when it is silent, stop it when it is idle."""
        loop = asyncio.get_running_loop()
        checked = loop.time()
        while not self._stopping:
            now = loop.time()
            due = max(session.last_used, checked) + self._probe_interval - now
            if self._idle_timeout is not None:
                due = min(due, session.last_used + self._idle_timeout - now)
            try:
                async with asyncio.timeout(max(due, 0.01)):
                    await session.channel.closed.wait()
                    return
            except TimeoutError:
                pass
            if session.busy:
                checked = loop.time()
                if self._idle_timeout is not None:
                    session.last_used = checked
                continue
            idle = loop.time() - session.last_used
            if self._idle_timeout is not None and idle >= self._idle_timeout:
                self._eager, self._stopping = False, self.transient
                log.info("session.idle_stopped", server=self.name)
                return
            if loop.time() - max(session.last_used, checked) >= self._probe_interval:
                checked = loop.time()
                if not await self._alive(session):
                    return

    async def _alive(self, session: Session) -> bool:
        """Probe, and probe again: one slow answer is not a death."""
        for last_chance in (False, True):
            try:
                await session.probe()
            except (DownstreamError, ChannelLost) as error:
                self._failure = self._degraded = f"A health probe failed: {error}"
                self._tell()
                if last_chance or session.channel.closed.is_set():
                    session.failure = error
                    return False
            else:
                if self._degraded:
                    self._degraded = ""
                    self._tell()
                return True
        return False

    async def _pause(self) -> None:
        """Wait before the next attempt; a borrower cuts the wait short."""
        seconds = min(FIRST_PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE)
        seconds *= random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
        self._next_try = datetime.now(UTC) + timedelta(seconds=seconds)
        self._tell()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._next_try = None

    def _succeeded(self, session: Session) -> None:
        self._failure, self._degraded = None, ""
        self._become(State.CONNECTED)
        log.info("session.ready", server=self.name, era=session.era.value)
        if self._on_ready is not None:
            self._on_ready(session)
        self._finish_attempt()

    def _ended(self, session: Session) -> None:
        """Take note of why a session ended, or never began."""
        failure, now = session.failure, asyncio.get_running_loop().time()
        if failure is None:
            self._become(State.DISCONNECTED)
        else:
            before, self.last_failure = self._failure, failure
            self._failure = (
                failure.reason if isinstance(failure, DownstreamUnavailable) else str(failure)
            )
            if session.ready_since is not None and now - session.ready_since >= STABLE_AFTER:
                self._failures = 0
            else:
                self._failures += 1
            self._failed_at = now
            event = "session.failed" if session.ready_since is None else "session.lost"
            # The same reason again is no news.
            tell = log.debug if self._failure == before else log.warning
            tell(event, server=self.name, reason=self._failure, failures=self._failures)
            self._become(State.ERROR)
        if session.ready_since is None:
            self._finish_attempt()

    def _finish_attempt(self) -> None:
        """Wake the borrowers who wait for this attempt; the next ones wait for the next."""
        self._wake.clear()
        self._attempt.set()
        self._attempt = asyncio.Event()

    def _become(self, state: State) -> None:
        if state is not self._state:
            self._state = state
            self._tell()

    def _tell(self) -> None:
        if self._on_state is not None:
            self._on_state()

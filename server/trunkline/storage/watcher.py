"""
The one connection that is always there: whether the database is, and what it has to say.

One task makes it, holds it and makes it again, with growing pauses. Its loss is how we learn at
once that the server is gone; a statement now and then finds the dead ends that nobody reports. It
listens to every channel that somebody has asked for, and says when messages may have been missed.

    connect ── listen ── available ── lost ── away ── pause ── connect ── …
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import structlog

from trunkline.errors import StorageError, StorageTimeout, StorageUnavailable
from trunkline.storage.failures import FAILURES, translate

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts to connect; they double."""

REFUSED_PAUSE: Final = 15.0
"""Seconds until a server that has refused us is asked again: somebody has to change something."""

PROBE_LIMIT: Final = 10.0
"""Seconds a statement that does nothing may take."""


@dataclass(eq=False, frozen=True, slots=True)
class Listener:
    """Somebody who wants to hear a channel."""

    channel: str
    on_message: Callable[[str], None]
    on_start: Callable[[], None]


class Watcher:
    """Holds the connection. `run` is to be running for the rest to work."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], *, probe_interval: float) -> None:
        """*connect* makes an asyncpg connection, and bounds its own waits."""
        self._connect, self._probe_interval = connect, probe_interval
        self._listeners: list[Listener] = []
        self._deaf: set[Listener] = set()
        """Listeners whose channel is not listened to yet on this connection."""

        self._callbacks: list[Callable[[bool], None]] = []
        self._wake, self._try = asyncio.Event(), asyncio.Event()
        self._changed = asyncio.Event()
        """Set, and replaced, when the database comes, goes, or is away for another reason."""

        self._away_since = asyncio.get_running_loop().time()
        self.reason: StorageError | None = StorageUnavailable(
            "The database has not answered yet. Check that it runs, and that DATABASE_URL names it."
        )
        """Why it is away; None while it is not."""

    @property
    def is_available(self) -> bool:
        return self.reason is None

    async def wait_available(self, seconds: float) -> None:
        """
        Wait for a database that is away, but no longer than *seconds* after it went.

        Raises the `reason`: at once if it is one that waiting does not mend.
        """
        try:
            async with asyncio.timeout_at(self._away_since + seconds):
                while isinstance(self.reason, StorageUnavailable):
                    await self._changed.wait()
        except TimeoutError:
            pass
        if self.reason is not None:
            # A new one: an error that is raised again and again would keep every traceback.
            raise type(self.reason)(str(self.reason))

    @contextmanager
    def notifying(self, callback: Callable[[bool], None]) -> Generator[None]:
        """Call *callback* with whether the database is available, whenever that changes."""
        self._callbacks.append(callback)
        try:
            yield
        finally:
            self._callbacks.remove(callback)

    @contextmanager
    def listening(
        self, channel: str, *, on_message: Callable[[str], None], on_start: Callable[[], None]
    ) -> Generator[None]:
        """
        Call *on_message* with every payload notified on *channel*.

        *on_start* is called whenever listening begins, the first time and after every loss of the
        connection: what was sent before is not heard, so that is the moment to read the state.
        """
        listener = Listener(channel, on_message, on_start)
        self._listeners.append(listener)
        self._deaf.add(listener)
        self._wake.set()
        try:
            yield
        finally:
            self._listeners.remove(listener)
            self._deaf.discard(listener)

    async def run(self) -> NoReturn:
        """Hold the connection until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                connection = await self._connect()
                try:
                    pause = FIRST_PAUSE
                    await self._hold(connection)
                finally:
                    connection.terminate()
            except (*FAILURES, StorageError) as error:
                self._go_away(error)
            refused = not isinstance(self.reason, StorageUnavailable)
            await self._rest(REFUSED_PAUSE if refused else pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def try_now(self) -> None:
        """There is reason to think that the server answers: end the pause."""
        self._try.set()

    async def _rest(self, seconds: float) -> None:
        """Pause, unless somebody knows better."""
        try:
            async with asyncio.timeout(seconds):
                await self._try.wait()
        except TimeoutError:
            pass
        self._try.clear()

    async def _hold(self, connection: Any) -> None:
        """Listen and probe until the connection is lost. Always ends by raising."""
        connection.add_termination_listener(lambda _: self._wake.set())
        self._deaf = set(self._listeners)
        while not connection.is_closed():
            self._wake.clear()
            for listener in tuple(self._deaf):
                await self._listen(connection, listener)
            self._come_back()
            try:
                async with asyncio.timeout(self._probe_interval):
                    await self._wake.wait()
            except TimeoutError:
                await connection.execute("SELECT 1", timeout=PROBE_LIMIT)
        raise ConnectionResetError("the connection was lost")

    async def _listen(self, connection: Any, listener: Listener) -> None:
        await connection.add_listener(listener.channel, self._deliver)
        self._deaf.discard(listener)
        _call(listener.on_start)

    def _deliver(self, _connection: Any, _pid: int, channel: str, payload: str) -> None:
        for listener in tuple(self._listeners):
            if listener.channel == channel:
                _call(listener.on_message, payload)

    def _come_back(self) -> None:
        if not self.is_available:
            self._turn(None)
            log.info("database.available")
            self._notify(True)

    def _go_away(self, error: Exception) -> None:
        own = error if isinstance(error, StorageError) else translate(error)
        if own is None or isinstance(own, StorageTimeout):
            own = StorageUnavailable("The database does not answer. Check that it runs.")
        was = self.reason
        if was is None or was.code != own.code:
            log.warning("database.away", reason=str(own), error=type(error).__name__)
        if was is None:
            self._away_since = asyncio.get_running_loop().time()
        self._turn(own)
        if was is None:
            self._notify(False)

    def _turn(self, reason: StorageError | None) -> None:
        self.reason = reason
        self._changed.set()
        self._changed = asyncio.Event()

    def _notify(self, is_available: bool) -> None:
        for callback in tuple(self._callbacks):
            _call(callback, is_available)


def _call(callback: Callable[..., None], *arguments: Any) -> None:
    """Call somebody who is not to disturb the others, nor the connection."""
    try:
        callback(*arguments)
    except Exception:  # keeps independent listeners apart
        log.exception("database.listener_failed")

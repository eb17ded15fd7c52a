"""
Which log messages a session's server is asked to send.

A server knows one level; its clients may each want another. It is set to the lowest that anybody
wants, and every client is shown what it asked for (`wants`).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from trunkline.models import Caller, Client, Era
from trunkline.wire import LOG_LEVELS, wants_level


class Levels:
    """The levels of one session's clients."""

    def __init__(
        self, send: Callable[[str], Awaitable[None]], calling: Callable[[], Iterable[Caller]]
    ) -> None:
        """*send* sets the server's level; *calling* tells whose requests are in flight."""
        self._send, self._calling = send, calling
        self._chosen: dict[str, str] = {}
        """Client id -> what it chose for good."""

        self._current: str | None = None

    async def choose(self, client: Client, level: str) -> None:
        """A client has chosen a level, for as long as it is connected."""
        self._chosen[client.id] = level
        in_flight = (level_of(caller) for caller in self._calling())
        wanted = {level for level in (*self._chosen.values(), *in_flight) if level in LOG_LEVELS}
        await self._set(min(wanted, key=LOG_LEVELS.index))

    async def follow(self, caller: Caller) -> None:
        """See that the server sends what a caller wants to hear; others may want more."""
        if caller.log_level in LOG_LEVELS and caller.client.era is Era.HANDSHAKE:
            self._chosen[caller.client.id] = caller.log_level
        elif caller.log_level is None and self._current is None:
            return  # nobody has chosen: the server sends what it likes
        level = level_of(caller)
        if level in LOG_LEVELS and (self._current is None or not wants_level(self._current, level)):
            await self._set(level)

    def forget(self, client_id: str) -> None:
        """A client has left."""
        self._chosen.pop(client_id, None)

    async def _set(self, level: str) -> None:
        if level != self._current:
            self._current = level
            await self._send(level)


def level_of(caller: Caller) -> str | None:
    """From which level on a caller wants messages; None if it wants none."""
    if caller.log_level is None and caller.client.era is Era.HANDSHAKE:
        return "debug"  # one that never chose a level gets every message
    return caller.log_level  # 2026-07-28: without a level in the request, no messages


def wants(caller: Caller, level: Any) -> bool:
    """Whether a caller is to be shown a message of *level*."""
    wanted = level_of(caller)
    return wanted is not None and wants_level(wanted, str(level))

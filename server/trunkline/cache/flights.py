"""
Computations under way, each shared by everybody who wants the same.

A flight belongs to no caller: it has a task of its own, so whoever started it may leave. When all
have left it is cancelled. A flight is known by its key and by the stamp its callers have read
before they came: who read another stamp has seen an invalidation in between, and gets a newer one.

    watch ── read ── join ──┬── computed ── everybody has it
    watch ── read ── join ──┘       └── keep ── landed
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

log = structlog.get_logger(__name__)

Compute = Callable[[], Awaitable[Any]]
Keep = Callable[[Any], Awaitable[None]]


@dataclass(eq=False, slots=True)
class Flight:
    """One computation."""

    outcome: asyncio.Future[Any]
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    waiting: int = 0
    landed: float = math.inf
    """When it was over, by the clock of `Flights`."""


@dataclass(eq=False, slots=True)
class Board:
    """The flights of one key, for as long as somebody needs to know of them."""

    users: int = 0
    flights: dict[bytes, Flight] = field(default_factory=dict)


class Flights:
    """All computations under way."""

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._boards: dict[str, Board] = {}
        self._clock = count()

    def __len__(self) -> int:
        """How many keys somebody asks for."""
        return len(self._boards)

    @contextmanager
    def watching(self, key: str) -> Generator["Watch"]:
        """
        Watch the flights of *key*, from before the value is looked for.

        Who does not find the value is then served by a flight that landed while he looked.
        """
        with self._board(key) as board:
            yield Watch(self, key, board, next(self._clock))

    def start(self, key: str, board: Board, stamp: bytes, compute: Compute, keep: Keep) -> Flight:
        """Send a flight off."""
        flight = Flight(asyncio.get_running_loop().create_future())
        under_way = {
            other: flight for other, flight in board.flights.items() if flight.landed == math.inf
        }
        board.flights = {**under_way, stamp: flight}
        self._group.start_soon(self._fly, key, flight, compute, keep)
        return flight

    async def _fly(self, key: str, flight: Flight, compute: Compute, keep: Keep) -> None:
        with self._board(key):
            try:
                with flight.scope:
                    value = await compute()
                    flight.outcome.set_result(value)
                    await keep(value)
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                _hand_over(flight.outcome, error)
            finally:
                flight.landed = next(self._clock)
                flight.outcome.cancel()

    @contextmanager
    def _board(self, key: str) -> Generator[Board]:
        board = self._boards.setdefault(key, Board())
        board.users += 1
        try:
            yield board
        finally:
            board.users -= 1
            if not board.users:
                del self._boards[key]


class Watch:
    """One caller's view of the flights of a key."""

    def __init__(self, flights: Flights, key: str, board: Board, since: int) -> None:
        self._flights, self._key, self._board, self._since = flights, key, board, since

    async def join(self, stamp: bytes, compute: Compute, keep: Keep) -> tuple[Any, bool]:
        """
        The value of the flight of this stamp, and whether somebody else had started it.

        Raises what *compute* raised. *keep* is called once with the value, when everybody who
        waited has it already; it is not to raise.
        """
        flight = self._board.flights.get(stamp)
        shared = flight is not None and flight.landed > self._since
        if flight is None or not shared:
            flight = self._flights.start(self._key, self._board, stamp, compute, keep)
        flight.waiting += 1
        try:
            await asyncio.wait((flight.outcome,))
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.outcome.done():
                self._board.flights.pop(stamp, None)
                flight.scope.cancel()
        if flight.outcome.cancelled():
            return await compute(), False  # all flights end when the cache closes
        return flight.outcome.result(), shared


def _hand_over(outcome: "asyncio.Future[Any]", error: Exception) -> None:
    """Give an error to those who wait."""
    if outcome.done():
        log.exception("cache.keep_failed", exc_info=error)
        return
    outcome.set_exception(error)
    outcome.exception()  # asyncio complains about errors that nobody has looked at

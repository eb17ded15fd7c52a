"""Who shares which computation, step by step."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from trunkline.background import background
from trunkline.cache.flights import Flights, Watch

pytestmark = pytest.mark.anyio


@pytest.fixture
async def flights() -> AsyncIterator[Flights]:
    async with background() as group:
        yield Flights(group)


class Work:
    """Computes 1, 2, 3 …, and keeps it as soon as it may."""

    def __init__(self) -> None:
        self.computed = 0
        self.keeping, self.may_keep = asyncio.Event(), asyncio.Event()
        self.may_keep.set()

    async def compute(self) -> int:
        self.computed += 1
        return self.computed

    async def keep(self, _: Any) -> None:
        self.keeping.set()
        await self.may_keep.wait()

    async def join(self, watch: Watch, stamp: bytes = b"stamp") -> tuple[int, bool]:
        with anyio.fail_after(10):
            return await watch.join(stamp, self.compute, self.keep)


async def test_who_looked_while_a_flight_landed_is_served_by_it(flights: Flights) -> None:
    work = Work()
    with flights.watching("key") as early, flights.watching("key") as slow:
        assert await work.join(early) == (1, False)
        await anyio.wait_all_tasks_blocked()  # the flight has landed

        assert await work.join(slow) == (1, True)


async def test_who_began_to_look_after_a_flight_had_landed_is_not(flights: Flights) -> None:
    work = Work()
    with flights.watching("key") as early:
        assert await work.join(early) == (1, False)
        await anyio.wait_all_tasks_blocked()
        with flights.watching("key") as late:
            assert await work.join(late) == (2, False)


async def test_a_value_that_is_still_being_kept_serves_who_cannot_find_it_yet(
    flights: Flights,
) -> None:
    work = Work()
    work.may_keep.clear()
    with flights.watching("key") as early:
        assert await work.join(early) == (1, False)
    await work.keeping.wait()

    with flights.watching("key") as late:
        assert await work.join(late) == (1, True)
    work.may_keep.set()


async def test_who_has_seen_an_invalidation_waits_for_a_computation_of_his_own(
    flights: Flights,
) -> None:
    work = Work()
    work.may_keep.clear()
    with flights.watching("key") as one, flights.watching("key") as other:
        assert await work.join(one, b"before") == (1, False)
        assert await work.join(other, b"after") == (2, False)
        with flights.watching("key") as third:
            assert await work.join(third, b"before") == (1, True)
            assert await work.join(third, b"after") == (2, True)
    work.may_keep.set()


async def test_nothing_is_remembered_of_keys_that_nobody_asks_for(flights: Flights) -> None:
    work = Work()
    for number in range(100):
        with flights.watching(str(number)) as watch:
            await work.join(watch)
    await anyio.wait_all_tasks_blocked()

    assert len(flights) == 0


async def test_who_joins_a_computation_that_was_given_up_gets_another(flights: Flights) -> None:
    work = Work()
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await ended.wait()  # takes its time to give up

    with flights.watching("key") as one, flights.watching("key") as other:
        given_up = asyncio.create_task(one.join(b"stamp", hang, work.keep))
        await started.wait()
        given_up.cancel()
        await anyio.wait_all_tasks_blocked()

        try:
            assert await work.join(other) == (1, False)
        finally:
            ended.set()

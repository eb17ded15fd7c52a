"""Replicas that keep one limit together through a real Redis, and each by itself without one."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from tests.cache.conftest import PATIENT, opened
from tests.cache.redis_server import RedisServer, redis_server
from trunkline.cache import shares
from trunkline.cache.shares import SharedCounters
from trunkline.errors import CacheUnavailable
from trunkline.models import Principal
from trunkline.security.limits.limits import LimitReached, Limits
from trunkline.security.limits.rules import Rules
from trunkline.security.limits.shares import Shares
from trunkline.settings import CacheSettings

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
LIMIT = 60.0
ADA = Principal(subject="key:ada", org="acme", user="ada")
RATE, BURST = 60, 10
TABLE = {"key": {"calls_per_minute": RATE, "burst": BURST}}

REPLICA = """
import asyncio, sys, time
from trunkline.cache.connection import open_cache
from trunkline.cache.shares import SharedCounters
from trunkline.models import Principal
from trunkline.security.limits.rules import Rules
from trunkline.security.limits.limits import LimitReached, Limits
from trunkline.security.limits.shares import Shares
from trunkline.settings import CacheSettings

async def main(url, rate, burst, seconds):
    who = Principal(subject="key:ada", org="acme", user="ada")
    limits = Limits(Rules.of({"key": {"calls_per_minute": rate, "burst": burst}}))
    async with open_cache(url, CacheSettings(timeout=5)) as cache, asyncio.TaskGroup() as tasks:
        assert await cache.wait_available(30)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        shares = Shares(limits, SharedCounters(cache, 5), interval=0.05)
        running = tasks.create_task(shares.run())
        began, let_in = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            try:
                with limits.admit(who, "github", "search"):
                    let_in += 1
            except LimitReached:
                pass
            await asyncio.sleep(0.001)
        running.cancel()
        print(let_in, time.monotonic() - began, flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
"""


class Replica:
    """One process's limits, and how many calls they have let in."""

    def __init__(self, counters: SharedCounters | None, clock: Callable[[], float]) -> None:
        self.limits = Limits(Rules(), lambda _: TABLE, clock=clock)
        self.shares = Shares(self.limits, counters, interval=0.01, clock=clock)
        self.let_in = 0

    def call(self, most: int = 1000) -> int:
        """Call until a call is refused; how many were let in."""
        for number in range(most):
            try:
                with self.limits.admit(ADA, "github", "search"):
                    self.let_in += 1
            except LimitReached:
                return number
        return most


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def replicas(
    url: str, count: int, clock: Clock, settings: CacheSettings = PATIENT
) -> AsyncGenerator[list[Replica]]:
    async with AsyncExitStack() as stack:
        yield [
            Replica(
                SharedCounters(
                    await stack.enter_async_context(opened(url, settings)), settings.timeout
                ),
                clock,
            )
            for _ in range(count)
        ]


async def settled(*some: Replica) -> None:
    """One round of everybody's."""
    for one in some:
        await one.shares.settle()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A Redis to be mistreated."""
    with redis_server() as server:
        yield server


@pytest.fixture
async def pair(server: RedisServer, clock: Clock) -> AsyncIterator[list[Replica]]:
    async with replicas(server.url, 2, clock) as two:
        yield two


async def test_what_one_lets_in_the_other_has_less_of(pair: list[Replica], clock: Clock) -> None:
    one, other = pair
    assert one.call(1) == other.call(1) == 1
    await settled(one, other)

    assert one.call(6) == 6
    await one.shares.settle()
    assert other.call(1) == 1
    await other.shares.settle()

    # Of the calls before they met, each knows its own only.
    assert other.call() == BURST - 6 - 2


async def test_two_replicas_over_an_hour_let_in_the_rate_and_a_burst_each(
    pair: list[Replica], clock: Clock
) -> None:
    began = clock.now
    while clock.now < began + 3600:
        for one in pair:
            one.call()
        for one in pair:
            await one.shares.settle()
        clock.now += 7.3

    total = sum(one.let_in for one in pair)
    assert 3600 * RATE / 60 - 2 * BURST <= total <= 3600 * RATE / 60 + 2 * BURST


async def test_a_replica_that_seldom_calls_is_held_to_the_limit_of_both(
    pair: list[Replica], clock: Clock
) -> None:
    busy, idle = pair
    began = clock.now
    for second in range(1800):
        busy.call()
        await busy.shares.settle()
        if second % 60 == 0:
            idle.call()
            await idle.shares.settle()
        clock.now += 1

    assert busy.let_in + idle.let_in <= (clock.now - began) * RATE / 60 + 2 * BURST


async def test_what_others_took_long_ago_has_come_in_again_meanwhile(
    pair: list[Replica], clock: Clock
) -> None:
    busy, idle = pair
    idle.call(1)
    await settled(busy, idle)
    for _ in range(600):
        assert busy.call(1) == 1
        await busy.shares.settle()
        clock.now += 2

    assert idle.call(1) == 1
    await idle.shares.settle()

    assert idle.call(5) == 5


async def test_a_replica_alone_gets_what_the_limit_says(server: RedisServer, clock: Clock) -> None:
    async with replicas(server.url, 1, clock) as (one,):
        assert one.call() == BURST
        await settled(one)
        assert one.call() == 0
        clock.now += 4
        await settled(one)
        assert one.call() == 4
        await settled(one)
        clock.now += 3600
        assert one.call() == BURST


async def test_counters_that_were_lost_hold_nobody_up(
    pair: list[Replica], server: RedisServer, clock: Clock
) -> None:
    one, other = pair
    for _ in range(5):
        one.call()
        other.call()
        await settled(one, other)
        clock.now += 60
    server.client.flushall()
    for _ in range(3):
        clock.now += 60
        assert one.call(1) == other.call(1) == 1
        await settled(one, other)

    clock.now += 60
    assert one.call() == BURST


async def test_the_keys_of_one_organisation_are_together_and_name_nobody(
    pair: list[Replica], server: RedisServer
) -> None:
    pair[0].call(1)
    await pair[0].shares.settle()

    (key,) = [key.decode() for key in server.client.keys("mcp:limits:*")]
    assert key.startswith(shares.ROOT)
    assert "ada" not in key
    assert server.client.ttl(key) > 0
    tags = {
        shares.key(holder).partition("{")[2].partition("}")[0]
        for holder in (("acme",), ("acme", "key:ada"), ("acme", "github", "search"))
    }
    assert len(tags) == 1
    assert shares.key(("acme", "a", "b")) != shares.key(("acme", "a\0b"))
    assert shares.key((None, "key:ada")) != shares.key(("global", "key:ada"))


async def test_a_redis_that_is_killed_leaves_each_by_itself_and_that_is_said_once(
    own_server: RedisServer, clock: Clock
) -> None:
    async with replicas(own_server.url, 2, clock, CacheSettings(timeout=0.2)) as (one, other):
        await settled(one, other)
        own_server.kill()
        with capture_logs() as logs:
            for _ in range(5):
                assert one.call() == other.call() == BURST
                await settled(one, other)
                clock.now += 60
            own_server.start()
            with anyio.fail_after(LIMIT):
                while one.shares.is_alone or other.shares.is_alone:
                    clock.now += 60
                    one.call(1)
                    other.call(1)
                    await settled(one, other)
                    await asyncio.sleep(0.01)

        said = [line["event"] for line in logs if line["event"].startswith("limits.")]
        assert sorted(said) == ["limits.alone"] * 2 + ["limits.shared"] * 2
        clock.now += 60
        one.call(1)
        other.call(1)
        await settled(one, other)
        assert one.call(6) == 6
        await settled(one)
        assert other.call(1) == 1
        await other.shares.settle()
        assert other.call() < BURST - 2


async def test_a_redis_that_hangs_holds_up_a_round_and_no_call(
    own_server: RedisServer, clock: Clock
) -> None:
    async with replicas(own_server.url, 1, clock, CacheSettings(timeout=0.2)) as (one,):
        own_server.pause()
        try:
            with anyio.fail_after(LIMIT):
                one.call(1)
                async with asyncio.TaskGroup() as tasks:
                    round_ = tasks.create_task(one.shares.settle())
                    await asyncio.sleep(0)
                    assert one.call() == BURST - 1
                    assert not round_.done()
                assert one.shares.is_alone
        finally:
            own_server.resume()


async def test_without_redis_asking_for_it_is_an_error_of_the_cache(
    own_server: RedisServer,
) -> None:
    async with opened(own_server.url, CacheSettings(timeout=0.2)) as cache:
        own_server.kill()
        with pytest.raises(CacheUnavailable):
            await SharedCounters(cache, 0.2).add({("acme", "key:ada"): 1})


async def test_thousands_of_counters_are_added_to_at_once(server: RedisServer) -> None:
    async with opened(server.url) as cache:
        counters = SharedCounters(cache, 5)
        uses: dict[Any, int] = {("acme", f"key:{number}"): number for number in range(1, 2501)}
        await counters.add(uses)

        assert await counters.add(uses) == {holder: 2 * use for holder, use in uses.items()}


async def test_two_processes_under_load_stay_within_rate_and_a_burst_each(
    server: RedisServer,
) -> None:
    rate, burst, seconds = 6000, 50, 3.0
    words = (server.url, rate, burst, seconds)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "server")}
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", REPLICA, *map(str, words)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        for _ in range(2)
    ]
    try:
        with anyio.fail_after(LIMIT):
            for process in processes:
                assert process.stdout is not None
                assert await process.stdout.readline() == b"ready\n"
            ends = await asyncio.gather(*(one.communicate(b"\n") for one in processes))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()

    let_in, took = zip(*(map(float, out.split()) for out, _ in ends), strict=True)
    # Beside the two bursts: what both may take before either has heard of the other.
    assert sum(let_in) <= max(took) * rate / 60 + 2 * burst
    assert min(let_in) > 0

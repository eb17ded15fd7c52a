"""A Redis that dies, hangs, restarts, fills up or turns read-only while it is used."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from tests.cache.conftest import opened
from tests.cache.counting import counted
from tests.cache.redis_server import RedisServer, redis_server
from tests.cache.truth import ACME, Truth
from trunkline.cache import metrics
from trunkline.cache.cache import Cache
from trunkline.cache.connection import open_cache
from trunkline.settings import CacheSettings

pytestmark = pytest.mark.anyio

QUICK = CacheSettings(timeout=0.2, connect_timeout=2)
LIMIT = 60.0


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A Redis to be mistreated."""
    with redis_server() as server:
        yield server


async def until(holds: Callable[[], Any]) -> None:
    with anyio.fail_after(LIMIT):
        while not holds():  # noqa: ASYNC110 - what a server does sets no event of ours
            await asyncio.sleep(0.005)


async def back(cache: Cache) -> None:
    assert await cache.wait_available(LIMIT), cache.reason


async def is_hit(cache: Cache, key: str = "key") -> bool:
    """Whether a value that was just computed is found, or just being kept."""
    numbers = count()

    async def compute() -> int:
        return next(numbers)

    for _ in range(200):
        if await cache.get_or_compute("tool", ACME, key, compute) < next(numbers) - 1:
            return True
        await asyncio.sleep(0.005)
    return False


@asynccontextmanager
async def load(*caches: Cache) -> AsyncGenerator[Truth]:
    """
    While the block runs, many ask all the time and the truth changes all the time.

    Whoever gets an error, or an answer older than what was acknowledged, fails the test. So does a
    block in which nothing was asked or nothing acknowledged.
    """
    truth = Truth()
    done = asyncio.Event()
    asked = 0

    async def ask(cache: Cache) -> None:
        nonlocal asked
        while not done.is_set():
            await truth.ask(cache)
            asked += 1
            await asyncio.sleep(0)

    async def change() -> None:
        while not done.is_set():
            await truth.change(random.choice(caches))
            await asyncio.sleep(random.random() / 200)

    async with anyio.create_task_group() as group:
        for cache in caches:
            for _ in range(5):
                group.start_soon(ask, cache)
        group.start_soon(change)
        await until(lambda: truth.acknowledged > 3)
        yield truth
        before, before_asked = truth.acknowledged, asked
        await until(lambda: truth.acknowledged > before + 3 and asked > before_asked + 50)
        done.set()


# -- under load -----------------------------------------------------------------------------------


async def test_killed_and_started_again_during_load(own_server: RedisServer) -> None:
    async with opened(own_server.url, QUICK) as one, opened(own_server.url, QUICK) as other:
        async with load(one, other) as truth:
            for _ in range(3):
                own_server.kill()
                before = truth.lookups
                await until(lambda before=before: truth.lookups > before + 20)
                own_server.start()
                await back(one)
                await back(other)


async def test_paused_during_load(own_server: RedisServer) -> None:
    async with opened(own_server.url, QUICK) as one, opened(own_server.url, QUICK) as other:
        async with load(one, other) as truth:
            for _ in range(3):
                own_server.pause()
                await until(lambda: not one.is_available and not other.is_available)
                before = truth.lookups
                await until(lambda before=before: truth.lookups > before + 20)
                own_server.resume()
                await back(one)
                await back(other)


async def test_filled_up_during_load(own_server: RedisServer) -> None:
    async with opened(own_server.url, QUICK) as one, opened(own_server.url, QUICK) as other:
        async with load(one, other) as truth:
            for _ in range(3):
                own_server.client.config_set("maxmemory", 1)
                await until(lambda: not one.is_available and not other.is_available)
                assert one.reason is not None
                assert one.reason.trouble == "full"
                before = truth.acknowledged
                await until(lambda before=before: truth.acknowledged > before)
                own_server.client.config_set("maxmemory", 0)
                await back(one)
                await back(other)


async def test_turned_read_only_during_load(own_server: RedisServer) -> None:
    async with opened(own_server.url, QUICK) as one, opened(own_server.url, QUICK) as other:
        async with load(one, other):
            for _ in range(3):
                own_server.client.config_set("min-replicas-to-write", 1)
                await until(lambda: not one.is_available and not other.is_available)
                assert one.reason is not None
                assert one.reason.trouble == "read_only"
                own_server.client.config_set("min-replicas-to-write", 0)
                await back(one)
                await back(other)


async def test_made_a_replica_of_nobody_reachable_during_load(own_server: RedisServer) -> None:
    async with opened(own_server.url, QUICK) as cache, load(cache):
        own_server.client.replicaof("127.0.0.1", 1)
        await until(lambda: not cache.is_available)
        assert cache.reason is not None
        assert cache.reason.trouble == "read_only"
        own_server.client.replicaof("NO", "ONE")
        await back(cache)


async def test_emptied_and_disconnected_during_load(own_server: RedisServer) -> None:
    async with opened(own_server.url, QUICK) as one, opened(own_server.url, QUICK) as other:
        async with load(one, other) as truth:
            for _ in range(20):
                before = truth.acknowledged
                own_server.client.flushall()
                own_server.client.client_kill_filter(_type="normal", skipme=True)
                await until(lambda before=before: truth.acknowledged > before)


# -- old data -------------------------------------------------------------------------------------


async def test_a_server_that_restarts_with_old_data_is_not_believed() -> None:
    with redis_server("--dbfilename", "dump.rdb") as server:
        async with opened(server.url, QUICK) as cache:
            truth = Truth()
            await truth.ask(cache)
            await until(lambda: server.client.keys("*truth"))
            server.client.save()
            assert await truth.change(cache)
            server.restart()
            await until(lambda: server.client.keys("*truth"))
            async with opened(server.url, QUICK) as other:
                assert await truth.ask(other) == 2
            await truth.ask(cache)
            await back(cache)

            assert await truth.ask(cache) == 2


async def test_an_invalidation_that_could_not_be_told_is_made_up_for(
    own_server: RedisServer,
) -> None:
    async with opened(own_server.url, QUICK) as one, opened(own_server.url) as other:
        truth = Truth()
        await truth.ask(one)
        await until(lambda: own_server.client.keys("*truth"))
        own_server.pause()
        told = await truth.change(one)
        unheard = await truth.ask(one)
        own_server.resume()
        await back(one)

        assert not told
        assert unheard == 2
        assert await truth.ask(one) == 2
        assert await truth.ask(other) == 2


async def test_an_invalidation_given_up_half_way_is_made_up_for(own_server: RedisServer) -> None:
    async with opened(own_server.url) as cache, opened(own_server.url) as other:
        truth = Truth()
        await truth.ask(cache)
        await until(lambda: own_server.client.keys("*truth"))
        own_server.pause()
        with anyio.move_on_after(0.05):
            await truth.change(cache)
        own_server.resume()
        await back(cache)

        assert await truth.ask(cache) == 2
        assert await truth.ask(other) == 2


@asynccontextmanager
async def cutting(server: RedisServer) -> AsyncGenerator["Wire"]:
    """A way to Redis that may be cut."""
    wire = Wire(server)
    async with await asyncio.start_server(wire.lead, "127.0.0.1", 0) as listener:
        wire.url = f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield wire


class Wire:
    """Passes on what is said, and breaks off at a word."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.url = ""
        self.word: bytes | None = None
        self.cuts = 0

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(self.server.folder / "socket"))
        async with anyio.create_task_group() as group:
            group.start_soon(self._pass_on, reader, back)
            group.start_soon(self._pass_on, there, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if self.word is not None and self.word in data:
                    self.cuts += 1
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


async def test_an_invalidation_is_not_forgotten_however_often_it_fails(
    own_server: RedisServer,
) -> None:
    async with cutting(own_server) as wire:
        async with opened(wire.url) as cache, opened(own_server.url) as other:
            truth = Truth()
            await truth.ask(cache)
            await until(lambda: own_server.client.keys("*truth"))
            wire.word = b"UNLINK"
            assert not await truth.change(cache)
            await until(lambda: wire.cuts > 3)
            assert await truth.ask(cache) == 2
            wire.word = None
            await back(cache)

            assert await truth.ask(cache) == 2
            assert await truth.ask(other) == 2


async def test_an_address_that_leads_elsewhere_after_an_incident_is_followed(
    own_server: RedisServer,
) -> None:
    async def use(cache: Cache, name: str, server: RedisServer) -> None:
        """Have twenty values computed at a time, until *server* has them all."""
        with anyio.fail_after(LIMIT):
            while len(server.client.keys(f"*{name}*")) < 20:
                async with anyio.create_task_group() as group:
                    for number in range(20):
                        group.start_soon(is_hit, cache, f"{name}{number}")

    settings = CacheSettings(timeout=1)  # all of it goes through this test's own loop
    with redis_server() as successor:
        async with cutting(own_server) as wire, opened(wire.url, settings) as cache:
            await use(cache, "before", own_server)
            own_server.pause()
            await until_not_in_use(cache)
            wire.server = successor
            own_server.resume()
            own_server.client.flushall()
            await back(cache)
            await use(cache, "after", successor)

        assert own_server.client.keys("mcp:*after*") == []


async def until_not_in_use(cache: Cache) -> None:
    """Ask until somebody notices."""
    with anyio.fail_after(LIMIT):
        while cache.is_available:
            await Truth().ask(cache)


# -- without Redis --------------------------------------------------------------------------------


async def test_a_thousand_who_ask_while_redis_is_away_cost_one_computation() -> None:
    async with open_cache("redis://127.0.0.1:1", QUICK) as cache:
        truth = Truth()
        truth.gate.clear()

        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(truth.ask, cache)
            await truth.started.wait()
            truth.gate.set()

        assert truth.lookups == 1


async def test_who_asks_after_an_invalidation_while_redis_is_away_gets_a_new_computation() -> None:
    async with open_cache("redis://127.0.0.1:1", QUICK) as cache:
        truth = Truth()
        truth.gate.clear()
        early = asyncio.create_task(truth.ask(cache))
        await truth.started.wait()

        assert not await truth.change(cache)
        late = asyncio.create_task(truth.ask(cache))
        await anyio.wait_all_tasks_blocked()
        truth.gate.set()

        assert (await early, await late) == (1, 2)


async def test_a_cache_may_be_opened_before_its_redis_is_started(own_server: RedisServer) -> None:
    own_server.kill()
    async with open_cache(own_server.url, QUICK) as cache:
        assert await Truth().ask(cache) == 1
        await until(lambda: cache.reason is not None and cache.reason.trouble == "down")

        own_server.start()
        await back(cache)

        assert await is_hit(cache)


async def test_an_incident_is_one_line_and_one_count_whatever_it_touches(
    own_server: RedisServer,
) -> None:
    before = counted(metrics.INCIDENTS, "slow")
    async with opened(own_server.url, QUICK) as cache:
        with capture_logs() as lines:
            own_server.pause()
            async with anyio.create_task_group() as group:
                for _ in range(500):
                    group.start_soon(Truth().ask, cache)
            for _ in range(500):
                await Truth().ask(cache)
                await cache.invalidate("tool", None, "truth")
            own_server.resume()
            await back(cache)

    events = [line["event"] for line in lines if line["log_level"] != "debug"]
    assert events == ["cache.down"]
    assert counted(metrics.INCIDENTS, "slow") == before + 1


async def test_a_server_that_is_still_loading_is_waited_for_behind_the_scenes() -> None:
    with redis_server("--enable-debug-command", "yes") as server:
        pipeline = server.client.pipeline(transaction=False)
        for number in range(2000):
            pipeline.set(f"elsewhere:{number}", b"x")
        pipeline.execute()
        server.client.save()
        server.kill()
        server.options = (
            "--key-load-delay",
            "1000",
            "--loading-process-events-interval-bytes",
            "1024",
        )
        server.start()

        async with open_cache(server.url, QUICK) as cache:
            await until(lambda: cache.reason is None or cache.reason.trouble == "loading")
            assert cache.reason is not None
            assert await Truth().ask(cache) == 1
            await back(cache)

            assert await is_hit(cache)


async def test_who_is_refused_is_told_so(own_server: RedisServer) -> None:
    own_server.client.config_set("requirepass", "secret")
    with capture_logs() as lines:
        async with open_cache(own_server.url, QUICK) as cache:
            await until(lambda: cache.reason is not None and cache.reason.trouble == "refused")
            assert await Truth().ask(cache) == 1

    assert [line["trouble"] for line in lines if line["event"] == "cache.down"] == ["refused"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b":1\r\n",
        b"+OK\r\n",
        b"*1\r\n:1\r\n",
        b"$-1\r\n",
        b"-ERR no\r\n",
        b"",
    ],
)
async def test_something_else_at_the_address_is_no_trouble_for_callers(answer: bytes) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65536) and answer:
                writer.write(answer)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with open_cache(f"redis://127.0.0.1:{port}", QUICK) as cache:
            await until(lambda: cache.reason is None or cache.reason.trouble != "starting")
            for _ in range(3):
                assert await Truth().ask(cache) == 1
                await cache.invalidate("tool", None, "truth")
                assert await cache.invalidate_pattern("tool:*") in {0, 1}
            assert cache.reason is not None
            assert cache.reason.trouble in {"confused", "down", "slow"}

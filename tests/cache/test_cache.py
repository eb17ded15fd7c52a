"""What the cache promises, in this process and in Redis alike."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from tests.cache.conftest import opened
from tests.cache.counting import counted
from tests.cache.redis_server import RedisServer
from tests.cache.truth import ACME, GLOBEX, Truth
from trunkline.cache import metrics
from trunkline.cache.cache import Cache
from trunkline.cache.keys import PREFIX, Address

pytestmark = pytest.mark.anyio


def raw(cache: Cache) -> Any:
    """The client itself, to see and to meddle with what is stored."""
    return cache.store().client


async def seconds_left(cache: Cache, namespace: Any, org: Any, key: str) -> float:
    return await raw(cache).pttl(Address.of(namespace, org, key).value) / 1000


async def stored(cache: Cache, namespace: Any, org: Any, key: str) -> None:
    """Wait until a value that was returned has been kept as well."""
    with anyio.fail_after(10):
        while not await raw(cache).exists(Address.of(namespace, org, key).value):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def constant(value: Any) -> Any:
    return value


# -- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [{"a": [1, 1.5, True, None, "é\u0000"]}, [], "", 0, False, 2**80, None, "x" * 100_000]
)
async def test_a_value_is_found_as_it_was_computed(cache: Cache, value: Any) -> None:
    await cache.get_or_compute("tool", ACME, "key", lambda: constant(value))
    await stored(cache, "tool", ACME, "key")

    found = await cache.get_or_compute("tool", ACME, "key", lambda: constant("computed again"))

    assert found == value
    assert type(found) is type(value)


async def test_orgs_and_namespaces_do_not_see_each_others_values(cache: Cache) -> None:
    await cache.get_or_compute("tool", ACME, "key", lambda: constant("acme's"))
    await stored(cache, "tool", ACME, "key")

    assert await cache.get_or_compute("tool", GLOBEX, "key", lambda: constant("its own")) == (
        "its own"
    )
    assert await cache.get_or_compute("tool", None, "key", lambda: constant("all's")) == "all's"
    assert await cache.get_or_compute("skill", ACME, "key", lambda: constant("skill")) == "skill"


async def test_keys_of_any_length_and_letters_are_kept_apart(cache: Cache) -> None:
    keys = ["", "a:b", "{global}", "*", "x" * 5000, "x" * 5001, "\n", "\ud800", "é"]
    for key in keys:
        assert await cache.get_or_compute("tool", ACME, key, lambda key=key: constant(ascii(key)))

    for key in keys:
        await stored(cache, "tool", ACME, key)
        assert await cache.get_or_compute("tool", ACME, key, lambda: constant("?")) == ascii(key)


async def test_a_value_lasts_as_long_as_its_namespace_says_or_a_little_less(cache: Cache) -> None:
    expected = {"tool": 300, "tool_list": 60, "search": 30, "skill": 600}
    for namespace, seconds in expected.items():
        left: set[float] = set()
        for number in range(20):
            await cache.get_or_compute(namespace, ACME, str(number), lambda: constant(1))  # type: ignore[arg-type]
            await stored(cache, namespace, ACME, str(number))
            left.add(await seconds_left(cache, namespace, ACME, str(number)))
        assert max(left) <= seconds
        assert min(left) > 0.8 * seconds
        assert max(left) - min(left) > 0.01 * seconds


async def test_that_there_is_no_answer_is_remembered_briefly(cache: Cache) -> None:
    await cache.get_or_compute("tool", ACME, "none", lambda: constant(None))
    await stored(cache, "tool", ACME, "none")

    assert await cache.get_or_compute("tool", ACME, "none", lambda: constant("some")) is None
    assert 0 < await seconds_left(cache, "tool", ACME, "none") <= 5


async def test_how_long_may_depend_on_the_value(cache: Cache) -> None:
    def ttl(value: int) -> float:
        return 20 if value == 1 else 0

    await cache.get_or_compute("tool", ACME, "kept", lambda: constant(1), ttl=ttl)
    await cache.get_or_compute("tool", ACME, "not kept", lambda: constant(2), ttl=ttl)
    await stored(cache, "tool", ACME, "kept")

    assert 15 < await seconds_left(cache, "tool", ACME, "kept") <= 20
    assert await cache.get_or_compute("tool", ACME, "not kept", lambda: constant(3)) == 3


@pytest.mark.parametrize("value", ["x" * 2_000_000, object(), {"a": object()}])
async def test_what_is_too_large_or_no_json_is_returned_and_not_kept(
    cache: Cache, value: Any
) -> None:
    if isinstance(value, str):
        value = "".join(map(chr, range(0x100, 0x5000))) * 100  # does not compress to nothing
    assert await cache.get_or_compute("tool", ACME, "key", lambda: constant(value)) is value

    assert await cache.get_or_compute("tool", ACME, "key", lambda: constant("next")) == "next"
    assert cache.is_available


# -- one computation ------------------------------------------------------------------------------


async def test_a_thousand_who_miss_at_once_cost_one_computation(cache: Cache) -> None:
    truth = Truth()
    truth.gate.clear()

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(truth.ask, cache)
        await truth.started.wait()
        truth.gate.set()

    assert truth.lookups == 1


async def test_a_thousand_who_come_while_it_is_computed_and_kept_cost_one_computation(
    cache: Cache,
) -> None:
    for round_ in range(20):
        truth = Truth()

        async def late(key: str, turns: int, truth: Truth = truth) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await cache.get_or_compute("tool", ACME, key, truth.look_up)

        async with anyio.create_task_group() as group:
            for turns in range(100):
                group.start_soon(late, f"round {round_}", turns)

        assert truth.lookups == 1


async def test_who_started_a_computation_may_leave_and_the_others_get_it(cache: Cache) -> None:
    truth = Truth()
    truth.gate.clear()
    answers: list[int] = []

    async def wait() -> None:
        answers.append(await truth.ask(cache))

    leader = asyncio.create_task(truth.ask(cache))
    await truth.started.wait()
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        truth.gate.set()

    assert answers == [1] * 10
    assert truth.lookups == 1


async def test_a_computation_that_nobody_waits_for_any_more_is_cancelled(cache: Cache) -> None:
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def compute() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    only = asyncio.create_task(cache.get_or_compute("tool", ACME, "key", compute))
    await started.wait()
    only.cancel()

    with anyio.fail_after(10):
        await cancelled.wait()
    assert await cache.get_or_compute("tool", ACME, "key", lambda: constant("next")) == "next"


async def test_an_error_reaches_everybody_who_waits_and_is_not_kept(cache: Cache) -> None:
    attempts = 0
    gate, started = asyncio.Event(), asyncio.Event()
    caught: list[Exception] = []

    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        started.set()
        await gate.wait()
        raise LookupError("no such thing")

    async def ask() -> None:
        try:
            await cache.get_or_compute("tool", ACME, "key", fail)
        except LookupError as error:
            caught.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask)
        await started.wait()
        gate.set()

    assert len(caught) == 50
    assert attempts == 1
    assert await cache.get_or_compute("tool", ACME, "key", lambda: constant("now")) == "now"


# -- invalidation ---------------------------------------------------------------------------------

Invalidate = Callable[[Cache], Awaitable[Any]]

EVERYTHING: Invalidate = lambda cache: cache.invalidate_pattern(f"{PREFIX}*")  # noqa: E731
WAYS: list[Invalidate] = [
    lambda cache: cache.invalidate("tool", ACME, "key"),
    lambda cache: cache.invalidate("tool", ACME),
    lambda cache: cache.invalidate("tool", None, "key"),
    lambda cache: cache.invalidate("tool", None),
    lambda cache: cache.invalidate_pattern("tool:*"),
    EVERYTHING,
    lambda cache: cache.invalidate_pattern(f"tool:{{{ACME}}}:k*"),
]
NAMES = ["key", "org", "global key", "global", "namespace", "everything", "beginning"]


@pytest.mark.parametrize("invalidate", WAYS, ids=NAMES)
async def test_what_was_invalidated_is_computed_again(cache: Cache, invalidate: Invalidate) -> None:
    await cache.get_or_compute("tool", ACME, "key", lambda: constant("old"))
    await stored(cache, "tool", ACME, "key")

    await invalidate(cache)

    assert await cache.get_or_compute("tool", ACME, "key", lambda: constant("new")) == "new"


@pytest.mark.parametrize("invalidate", WAYS, ids=NAMES)
async def test_a_computation_that_began_before_an_invalidation_is_not_kept_nor_joined(
    cache: Cache, invalidate: Invalidate
) -> None:
    truth = Truth()
    truth.gate.clear()
    early = asyncio.create_task(cache.get_or_compute("tool", ACME, "key", truth.look_up))
    await truth.started.wait()

    await invalidate(cache)
    late = await cache.get_or_compute("tool", ACME, "key", lambda: constant("new"))
    await stored(cache, "tool", ACME, "key")
    new = await raw(cache).get(Address.of("tool", ACME, "key").value)
    truth.gate.set()
    await early
    with anyio.fail_after(10):  # until the early one has been written over the late one
        while await raw(cache).get(Address.of("tool", ACME, "key").value) == new:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    assert late == "new"
    assert await cache.get_or_compute("tool", ACME, "key", lambda: constant("newer")) != 1


@pytest.mark.parametrize("invalidate", [way for way in WAYS if way is not EVERYTHING])
async def test_an_invalidation_leaves_other_namespaces_and_their_orgs_alone(
    cache: Cache, invalidate: Invalidate
) -> None:
    await cache.get_or_compute("skill", ACME, "key", lambda: constant("kept"))
    await stored(cache, "skill", ACME, "key")

    await invalidate(cache)

    assert await cache.get_or_compute("skill", ACME, "key", lambda: constant("new")) == "kept"


async def test_an_org_invalidates_its_own_values_only(cache: Cache) -> None:
    for org in (GLOBEX, None):
        await cache.get_or_compute("tool", org, "key", lambda: constant("kept"))
        await stored(cache, "tool", org, "key")

    await cache.invalidate("tool", ACME)
    await cache.invalidate("tool", ACME, "key")
    await cache.invalidate_pattern(f"tool:{{{ACME}}}:*")

    for org in (GLOBEX, None):
        assert await cache.get_or_compute("tool", org, "key", lambda: constant("new")) == "kept"


async def test_a_pattern_removes_every_key_there_was_also_while_others_are_written(
    cache: Cache,
) -> None:
    pipeline = raw(cache).pipeline(transaction=False)
    for number in range(25_000):
        pipeline.set(f"mcp:cache:v1:tool:id:{number}", b"old", px=600_000)
    pipeline.set("mcp:cache:v1:prompt:id:1", b"another's", px=600_000)
    pipeline.set("elsewhere:tool:1", b"another's", px=600_000)
    await pipeline.execute()
    done = anyio.Event()
    written = removed = 0

    async def write() -> None:
        nonlocal written
        while not done.is_set():
            written += 1
            await raw(cache).set(f"mcp:cache:v1:tool:new:{written}", b"new", px=600_000)

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        removed = await cache.invalidate_pattern("mcp:cache:v1:tool:*")
        done.set()

    left = [key async for key in raw(cache).scan_iter("*tool:id:*", count=5000)]
    assert left == []
    assert 25_000 <= removed <= 25_000 + written
    assert await raw(cache).exists("mcp:cache:v1:prompt:id:1", "elsewhere:tool:1") == 2


async def test_the_log_has_the_line_that_was_promised(cache: Cache) -> None:
    pipeline = raw(cache).pipeline(transaction=False)
    for number in range(25_000):
        pipeline.set(f"mcp:cache:v1:tool:id:{number}", b"old", px=600_000)
    await pipeline.execute()

    with capture_logs() as lines:
        assert await cache.invalidate_pattern("mcp:cache:v1:tool:*") == 25_000

    assert lines[0]["event"] == "Cache INVALIDATE: mcp:cache:v1:tool:* (25000 keys)"
    assert lines[0]["log_level"] == "debug"


@pytest.mark.parametrize("pattern", ["*", "mcp:*", "**", "[a-z]*", "elsewhere*"])
async def test_no_pattern_reaches_keys_of_others(cache: Cache, pattern: str) -> None:
    await raw(cache).set("elsewhere", b"another's")
    await raw(cache).set("mcp:other", b"another's")

    await cache.invalidate_pattern(pattern)

    assert await raw(cache).exists("elsewhere", "mcp:other") == 2


async def test_two_caches_on_one_redis_see_each_others_values_and_invalidations(
    server: RedisServer,
) -> None:
    async with opened(server.url) as one, opened(server.url) as other:
        truth = Truth()
        for cache in (one, other, one, other):
            assert await truth.ask(cache) == 1
            await stored(cache, "tool", None, "truth")
        assert truth.lookups == 1

        assert await truth.change(one)

        assert await truth.ask(other) == 2
        assert await truth.ask(one) == 2


# -- what is found --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00", b"not ours", b"\x03" * 40, b"\x80\x04K\x01.", b"\xff" * 1000]
)
async def test_what_cannot_be_read_is_a_miss_and_is_removed_and_counted(
    cache: Cache, garbage: bytes
) -> None:
    key = Address.of("tool", ACME, "key").value
    await raw(cache).set(key, garbage)
    before = counted(metrics.POISONED, "tool")

    answer = await cache.get_or_compute(
        "tool", ACME, "key", lambda: constant("computed"), ttl=lambda _: 0
    )

    assert answer == "computed"
    assert counted(metrics.POISONED, "tool") == before + 1
    assert not await raw(cache).exists(key)
    assert cache.is_available


async def test_a_value_whose_body_was_tampered_with_is_a_miss(cache: Cache) -> None:
    key = Address.of("tool", ACME, "key").value
    for value in ("short", "long" * 10_000):
        await cache.invalidate("tool", ACME)
        await cache.get_or_compute("tool", ACME, "key", lambda value=value: constant(value))
        await stored(cache, "tool", ACME, "key")
        good = await raw(cache).get(key)
        for bad in (good[:-3], good[:17], good[:17] + b"\xff" * 9, b"\x02" + good[1:-1]):
            await raw(cache).set(key, bad)

            answer = await cache.get_or_compute(
                "tool", ACME, "key", lambda: constant("again"), ttl=lambda _: 0
            )

            assert answer == "again"


async def test_keys_of_another_type_are_a_miss(cache: Cache) -> None:
    address = Address.of("tool", ACME, "key")
    for key in (address.value, *address.generations):
        await raw(cache).delete(key)
        await raw(cache).lpush(key, b"a list")

    assert await cache.get_or_compute("tool", ACME, "key", lambda: constant("it")) == "it"
    await stored(cache, "tool", ACME, "key")
    assert await cache.get_or_compute("tool", ACME, "key", lambda: constant("new")) == "it"


async def test_losing_any_key_is_a_miss_and_never_an_older_value(cache: Cache) -> None:
    address = Address.of("tool", ACME, "key")
    for key in (address.value, *address.generations):
        await cache.get_or_compute("tool", ACME, "key", lambda: constant("old"))
        await stored(cache, "tool", ACME, "key")

        await raw(cache).delete(key)

        new = await cache.get_or_compute("tool", ACME, "key", lambda: constant("new"))
        assert new == "new"
        await cache.invalidate("tool", ACME)


async def test_everything_of_ours_expires(cache: Cache) -> None:
    await cache.get_or_compute("tool", ACME, "key", lambda: constant("it"))
    await stored(cache, "tool", ACME, "key")
    await cache.invalidate("tool", None, "key")

    keys = [key async for key in raw(cache).scan_iter("*")]

    assert keys
    assert [key for key in keys if await raw(cache).pttl(key) <= 0 and b"probe" not in key] == []


async def test_hits_misses_and_stale_values_are_counted_by_namespace(cache: Cache) -> None:
    def counts() -> list[float]:
        return [
            counted(counter, "prompt") for counter in (metrics.HITS, metrics.MISSES, metrics.STALE)
        ]

    before = counts()

    await cache.get_or_compute("prompt", ACME, "key", lambda: constant("it"))
    await stored(cache, "prompt", ACME, "key")
    await cache.get_or_compute("prompt", ACME, "key", lambda: constant("it"))
    await cache.invalidate("prompt", None)
    await cache.get_or_compute("prompt", ACME, "key", lambda: constant("it"))

    assert [after - was for after, was in zip(counts(), before, strict=True)] == [1, 2, 1]


async def test_what_is_asked_when_the_cache_closes_is_still_answered(server: RedisServer) -> None:
    truth = Truth()
    truth.gate.clear()
    async with opened(server.url) as cache:
        asked = asyncio.create_task(truth.ask(cache))
        await truth.started.wait()
    truth.gate.set()

    with anyio.fail_after(10):
        assert await asked == 1

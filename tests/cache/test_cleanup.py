"""What `trunkline cache` counts and removes."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.cache.counting import counted
from trunkline.cache import cleanup, metrics
from trunkline.cache.cache import Cache
from trunkline.cache.connection import open_cache
from trunkline.errors import CacheUnavailable

pytestmark = pytest.mark.anyio


async def fill(cache: Cache, **values: Any) -> None:
    for key, count in values.items():
        for number in range(count):
            await cache.store().client.set(f"mcp:cache:{key.replace('_', ':')}:{number}", b"12345")


async def test_stats_count_keys_and_bytes_by_version_and_namespace(cache: Cache) -> None:
    await fill(cache, v0_tool=3, v1_tool=5, v1_search=2, v12_tool=1)
    await cache.store().client.set("mcp:cache:settings", b"another's")
    await cache.store().client.set("elsewhere", b"another's")

    stats = await cleanup.stats(cache)

    found = {
        (holding.version, holding.namespace): (holding.keys, holding.bytes)
        for holding in stats.holdings
        if holding.namespace not in {"probe", "generation"}
    }
    assert found == {
        (0, "tool"): (3, 3 * len("mcp:cache:v0:tool:012345")),
        (1, "search"): (2, 2 * len("mcp:cache:v1:search:012345")),
        (1, "tool"): (5, 5 * len("mcp:cache:v1:tool:012345")),
        (12, "tool"): (1, len("mcp:cache:v12:tool:012345")),
    }
    assert [holding.version for holding in stats.old] == [0]
    assert counted(metrics.OLD_KEYS) == 3
    assert counted(metrics.OLD_BYTES) == 3 * len("mcp:cache:v0:tool:012345")


async def test_keys_that_are_no_strings_or_no_text_are_counted_and_cleaned(cache: Cache) -> None:
    await cache.store().client.lpush("mcp:cache:v0:tool:list", b"a", b"b")
    await cache.store().client.set(b"mcp:cache:v0:tool:\xff\xfe", b"x")

    stats = await cleanup.stats(cache)

    assert sum(holding.keys for holding in stats.old) == 2
    assert await cleanup.clean(cache) == {0: 2}


async def test_clean_removes_older_versions_only_and_says_how_many(cache: Cache) -> None:
    await fill(cache, v0_tool=2500, v1_tool=5, v12_tool=1)
    await cache.store().client.set("mcp:cache:vx:tool", b"another's")

    with capture_logs() as lines:
        removed = await cleanup.clean(cache)

    assert removed == {0: 2500}
    assert [line["event"] for line in lines] == ["Deleted 2500 keys from cache v0"]
    assert lines[0]["log_level"] == "info"
    left = {key async for key in cache.store().client.scan_iter("mcp:cache:v*:tool*", count=5000)}
    assert len(left) == 7
    assert await cleanup.clean(cache) == {}


async def test_flush_removes_this_version_and_nothing_of_others(cache: Cache) -> None:
    await fill(cache, v0_tool=2, v1_tool=5, v1_search=3)
    await cache.store().client.set("elsewhere", b"another's")

    removed = await cleanup.flush(cache)

    assert removed >= 8
    assert not await cache.store().client.keys("mcp:cache:v1:[ts]*")
    assert await cache.store().client.exists("elsewhere", "mcp:cache:v0:tool:0") == 2


async def test_who_asks_for_the_cache_itself_is_told_when_it_is_away() -> None:
    async with open_cache("redis://127.0.0.1:1") as cache:
        for ask in (cleanup.stats, cleanup.clean, cleanup.flush):
            with pytest.raises(CacheUnavailable):
                await ask(cache)

"""
What the cache costs and saves: a hit, a miss, and a Redis that is not there, in one run.

    python -m bench.cache [--calls 2000] [--tools 10] [--catalog 5000]

Starts a Redis of its own and ends it. At first what is cached is the answer to a search, of about
the size that real ones have, and the computation costs nothing, so a miss is the price of the cache
alone. Then come real searches of a catalog, and calls through the dispatch to a server that answers
at once. Each line is the time of one call, one after the other, and of one among fifty at a time.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any
from uuid import uuid4

from bench.remembering import Ask, searches
from bench.remembering import calls as tool_calls
from tests.cache.redis_server import RedisServer, redis_server

from trunkline import logs
from trunkline.cache.cache import Cache
from trunkline.cache.connection import open_cache

AT_A_TIME = 50

Call = Callable[[Any, str], Awaitable[Any]]


def make_answer(tools: int) -> dict[str, Any]:
    hit = {"server": "github", "title": None, "score": 0.512, "also_on": []}
    description = "Searches the issues of a repository and returns those that match best. " * 5
    return {
        "hits": [
            hit | {"name": f"github__search_{number}", "description": description}
            for number in range(tools)
        ],
        "strategy": "fused",
        "degraded": False,
        "skills": [],
    }


async def measure(
    cache: Cache | None, call: Call, names: Callable[[], str], calls: int
) -> list[float]:
    """Microseconds: the median and the 99th percentile alone, and the mean among fifty."""
    alone: list[float] = []
    for _ in range(calls):
        started = time.perf_counter()
        await call(cache, names())
        alone.append((time.perf_counter() - started) * 1e6)
    started = time.perf_counter()
    for _ in range(calls // AT_A_TIME):
        await asyncio.gather(*(call(cache, names()) for _ in range(AT_A_TIME)))
    among = (time.perf_counter() - started) * 1e6 / (calls // AT_A_TIME * AT_A_TIME)
    return [statistics.median(alone), statistics.quantiles(alone, n=100)[98], among]


async def measure_parts(ask: Ask, calls: int) -> list[float]:
    """`measure`, for what knows its cache and its names itself."""

    async def call(_: Any, __: str) -> Any:
        return await ask()

    return await measure(None, call, str, calls)


async def run(calls: int, tools: int, catalog: int) -> None:
    searching = await searches(catalog)
    answer, org, numbers = make_answer(tools), uuid4(), count()

    async def compute() -> dict[str, Any]:
        return answer

    async def search(cache: Cache, name: str) -> Any:
        return await cache.get_or_compute("search", org, name, compute)

    async def nothing(_: Cache, __: str) -> Any:
        return await compute()

    async def invalidate(cache: Cache, _: str) -> Any:
        return await cache.invalidate("search", org)

    def same() -> str:
        return "the same"

    def other() -> str:
        return f"another {next(numbers)}"

    rows: list[tuple[str, list[float]]] = []

    async def rows_of(cache: Cache, where: str) -> None:
        assert await cache.wait_available(30), cache.reason
        rows.append((f"hit, {where}", await measure(cache, search, same, calls)))
        rows.append((f"miss, {where}", await measure(cache, search, other, calls)))
        rows.append((f"invalidation, {where}", await measure(cache, invalidate, same, calls)))

    async def rows_of_parts(cache: Cache | None, where: str) -> None:
        for what, asks in (("search", searching(cache)), ("tool call", tool_calls(cache))):
            for how, ask in asks.items():
                figures = await measure_parts(ask, calls)
                rows.append((f"{what}, {how}, {where}", figures))

    await rows_of_parts(None, "no cache")
    with redis_server() as server:
        async with open_cache(server.url) as cache:
            rows.append(("no cache", await measure(cache, nothing, same, calls)))
            await rows_of(cache, "Redis")
            await rows_of_parts(cache, "Redis")
            first = await stop(server, cache, search)
            rows.append(("dead Redis", await measure(cache, search, other, calls)))
            await rows_of_parts(cache, "dead Redis")
    async with open_cache(None) as cache:
        await rows_of(cache, "in process")
        await rows_of_parts(cache, "in process")
    size = len(json.dumps(answer))
    print(f"an answer of {size} bytes, {calls} calls, {catalog} tools")  # noqa: T201 - this is what it is for
    print(f"{'microseconds':34}{'p50':>10}{'p99':>10}{'of 50':>10}")  # noqa: T201 - see above
    for what, figures in rows:
        line = "".join(f"{figure:10.1f}" for figure in figures)
        print(f"{what:34}{line}")  # noqa: T201 - see above
    print(f"the first call to find Redis hanging waits {first * 1000:.0f} ms")  # noqa: T201


async def stop(server: RedisServer, cache: Cache, call: Call) -> float:
    """Have Redis hang, then die; how long the first call to notice takes."""
    server.pause()
    started = time.perf_counter()
    await call(cache, "the same")
    seconds = time.perf_counter() - started
    server.kill()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the cache.")
    parser.add_argument("--calls", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--tools", type=int, default=10, help="in an answer (default: 10)")
    parser.add_argument("--catalog", type=int, default=5000, help="tools (default: 5000)")
    options = parser.parse_args()
    logs.configure("error")
    asyncio.run(run(options.calls, options.tools, options.catalog))


if __name__ == "__main__":
    main()

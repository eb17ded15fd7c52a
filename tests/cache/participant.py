"""
A process with a cache of its own, which does what it reads from stdin.

    python -m tests.cache.participant URL [CACHE_VERSION]

`ask KEY VALUE` answers what the cache has, or VALUE computed anew; `invalidate KEY` whether
everybody knows; `hold KEY VALUE` begins a computation that ends with `release`; `clean` removes old
versions. One JSON line each.
"""

import asyncio
import json
import sys

from trunkline import logs
from trunkline.cache import version

if len(sys.argv) > 2:
    version.CACHE_VERSION = int(sys.argv[2])  # type: ignore[misc] - as a later program would have it

from trunkline.cache import cleanup  # keys are made of the version
from trunkline.cache.cache import Cache
from trunkline.cache.connection import open_cache
from trunkline.settings import CacheSettings


class Participant:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._gate = asyncio.Event()

    async def ask(self, key: str, value: str) -> str:
        async def compute() -> str:
            return value

        return await self._cache.get_or_compute("tool", None, key, compute)

    async def invalidate(self, key: str) -> bool:
        return await self._cache.invalidate("tool", None, key)

    async def hold(self, key: str, value: str) -> None:
        started = asyncio.Event()

        async def compute() -> str:
            started.set()
            await self._gate.wait()
            return value

        self._held = asyncio.create_task(self._cache.get_or_compute("tool", None, key, compute))
        await started.wait()

    async def clean(self) -> dict[int, int]:
        return await cleanup.clean(self._cache)

    async def release(self) -> str:
        self._gate.set()
        return await self._held


async def main(url: str) -> None:
    logs.configure("error")
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with open_cache(url, CacheSettings(timeout=5)) as cache:
        assert await cache.wait_available(30)
        participant = Participant(cache)
        answer("ready")
        while line := await lines.readline():
            verb, *words = line.decode().split()
            answer(await getattr(participant, verb)(*words))


def answer(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))

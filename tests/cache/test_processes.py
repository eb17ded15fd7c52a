"""Processes with a cache each, on one Redis."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.cache.redis_server import RedisServer
from trunkline.cache.keys import Address

pytestmark = pytest.mark.anyio

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 90.0


class Other:
    """A process, by its standard streams."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def __call__(self, *words: str) -> Any:
        """Have it do something, and say what came of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{' '.join(words)}\n".encode())
        return await self.answer()

    async def answer(self) -> Any:
        assert self._process.stdout is not None
        with anyio.fail_after(LIMIT):
            line = await self._process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)


@asynccontextmanager
async def other(url: str, *version: str) -> AsyncGenerator[Other]:
    """A process with a cache, of this program's version or another one."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.cache.participant", url, *version),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "server"), str(ROOT)])},
    )
    try:
        one = Other(process)
        assert await one.answer() == "ready"
        yield one
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def two(server: RedisServer) -> AsyncIterator[tuple[Other, Other]]:
    async with other(server.url) as one, other(server.url) as two:
        yield one, two


async def kept(server: RedisServer, key: str) -> None:
    """Wait until the value is in Redis: who computes it does not wait for that."""
    with anyio.fail_after(LIMIT):
        while not server.client.exists(Address.of("tool", None, key).value):  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_nothing_heavy_is_imported_before_the_cache_is_opened() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import sys, trunkline.cache.connection; print(*sys.modules)"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "server")},
    )
    with anyio.fail_after(LIMIT):
        said, _ = await process.communicate()

    assert not {b"redis", b"fakeredis"} & set(said.split())


async def test_what_one_computes_the_other_finds_until_one_of_them_invalidates_it(
    server: RedisServer, two: tuple[Other, Other]
) -> None:
    one, another = two
    assert await one("ask", "key", "first") == "first"
    await kept(server, "key")
    assert await another("ask", "key", "unused") == "first"

    assert await another("invalidate", "key") is True

    assert await one("ask", "key", "second") == "second"


async def test_a_computation_of_one_that_another_has_overtaken_is_never_found(
    server: RedisServer, two: tuple[Other, Other]
) -> None:
    one, another = two
    await one("hold", "key", "old")

    assert await another("invalidate", "key") is True
    assert await another("ask", "key", "new") == "new"
    await kept(server, "key")
    name = Address.of("tool", None, "key").value
    new = server.client.get(name)
    assert await one("release") == "old"
    with anyio.fail_after(LIMIT):
        while server.client.get(name) == new:  # noqa: ASYNC110 - the other process writes
            await asyncio.sleep(0.002)

    assert await one("ask", "key", "newer") != "old"
    assert await another("ask", "key", "newer") != "old"

"""A Redis for the session, and caches on it or in this process for each test."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.cache.redis_server import RedisServer, redis_server
from trunkline.cache.cache import Cache
from trunkline.cache.connection import open_cache
from trunkline.settings import CacheSettings

PATIENT = CacheSettings(timeout=5)
"""For tests in which Redis has no excuse to be slow, but the machine has."""


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RedisServer]:
    with redis_server("--maxmemory", "0") as server:
        yield server


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    """An empty Redis that is to be left running and as it is set up."""
    shared_server.client.flushall()
    return shared_server


@pytest.fixture(params=["in process", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    """A cache in use: what is asked of it has to hold in this process and in Redis alike."""
    url = None
    if request.param == "redis":
        url = request.getfixturevalue("server").url
    async with opened(url) as cache:
        yield cache


@asynccontextmanager
async def opened(url: str | None, settings: CacheSettings = PATIENT) -> AsyncGenerator[Cache]:
    """A cache that is in use."""
    async with open_cache(url, settings) as cache:
        assert await cache.wait_available(20), cache.reason
        yield cache

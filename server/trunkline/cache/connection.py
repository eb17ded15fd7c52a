"""
The cache opened: Redis when there is an address, a Redis in this process when not.

Entered at once, whatever Redis does. The library is imported in a thread, and the connection made
behind the scenes; until then answers are computed, as they are whenever Redis is away.
"""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import anyio

from trunkline.background import background
from trunkline.cache.address import RedisAddress
from trunkline.cache.cache import Cache
from trunkline.cache.failures import CacheFailure
from trunkline.settings import CacheSettings

if TYPE_CHECKING:
    from trunkline.cache.store import Store


@asynccontextmanager
async def open_cache(
    url: str | None, settings: CacheSettings | None = None
) -> AsyncGenerator[Cache]:
    """
    The cache in the Redis at *url*, for the life of the block; None keeps it in this process.

    Raises `ConfigError` for an address that cannot be understood, and nothing else ever.
    """
    settings = settings or CacheSettings()
    address = RedisAddress.of(url) if url else None

    async def connect() -> "Store":
        try:
            clients = await anyio.to_thread.run_sync(import_module, "trunkline.cache.clients")
            return clients.open_store(address, settings)
        except Exception as error:  # a broken library is Redis being away
            raise CacheFailure("confused") from error

    async with AsyncExitStack() as stack, background() as group:
        cache = Cache(connect, settings, group)
        stack.push_async_callback(cache.close)
        group.start_soon(cache.run)
        yield cache

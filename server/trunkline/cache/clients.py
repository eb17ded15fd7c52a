"""
A client of redis-py for each form of address. Imported with the library, when first needed.

None of them tries anything again: the call goes on without the cache, and the breaker knows when
to come back. Waits are bounded by whoever has the conversation, except for making a connection.
"""

from typing import Any, Final, cast

from redis.asyncio import BlockingConnectionPool, Redis, Sentinel
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from trunkline.cache.address import RedisAddress
from trunkline.cache.store import CONNECTIONS, Servers, Store
from trunkline.settings import CacheSettings

LARGEST: Final = 64 * 1024 * 1024
"""Bytes that are written in this process before all is forgotten."""


def open_store(address: RedisAddress | None, settings: CacheSettings) -> Store:
    """The store at *address*, or one in this process. Nothing is connected yet."""
    if address is None:
        return InProcess(timeout=settings.timeout, patience=settings.connect_timeout)
    servers = Servers()
    # Long enough for one of the hosts to answer when the others hang.
    patience = settings.connect_timeout * (1 + len(address.hosts))
    waits: dict[str, Any] = {"timeout": settings.timeout, "patience": patience}
    if address.form == "sentinel":
        return Store(*_sentinel(address, settings, servers), **waits)
    if address.form == "cluster":
        return Store(_cluster(address, settings, servers), servers, **waits)
    return Store(_single(address, settings, servers), servers, **waits)


class InProcess(Store):
    """
    A store in this process, where nobody else keeps it small: what has expired lies on.

    So everything is forgotten from time to time, which is always allowed.
    """

    def __init__(self, *, timeout: float, patience: float, largest: int = LARGEST) -> None:
        """*largest* is how many bytes are written before everything is forgotten."""
        from fakeredis import FakeAsyncRedis, FakeServer  # half a second, and not always needed

        client = FakeAsyncRedis(server=FakeServer())
        super().__init__(client, Servers(), timeout=timeout, patience=patience)
        self._largest, self._written = largest, 0

    async def write(self, key: str, value: bytes, seconds: float) -> None:
        await super().write(key, value, seconds)
        self._written += len(value)
        if self._written > self._largest:
            self._written = 0
            await self.forget()


def _waits(settings: CacheSettings) -> dict[str, Any]:
    return {
        "socket_timeout": None,
        "socket_connect_timeout": settings.connect_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
    }


def _single(address: RedisAddress, settings: CacheSettings, servers: Servers) -> Any:
    pool = BlockingConnectionPool.from_url(
        address.url,
        max_connections=CONNECTIONS,
        timeout=None,
        redis_connect_func=servers.greet,
        **_waits(settings),
    )
    return Redis.from_pool(pool)


def _sentinel(address: RedisAddress, settings: CacheSettings, servers: Servers) -> tuple[Any, ...]:
    waits = _waits(settings)
    identity = {"username": address.username, "password": address.password}
    sentinel = Sentinel(
        address.hosts,
        sentinel_kwargs=waits | {"socket_timeout": settings.timeout, "ssl": address.tls},
        ssl=address.tls,
    )
    primary = sentinel.master_for(
        address.service, db=address.db, redis_connect_func=servers.greet, **identity, **waits
    )
    return primary, servers, sentinel


def _cluster(address: RedisAddress, settings: CacheSettings, servers: Servers) -> Any:
    # The client itself has to notice a node that hangs, to ask another for its successor.
    waits: dict[str, Any] = _waits(settings) | {"socket_timeout": settings.timeout}
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
        username=address.username,
        password=address.password,
        ssl=address.tls,
        **waits,
    )
    # The constructor takes no hook for new connections; its nodes do.
    hook = {"redis_connect_func": servers.greet}
    cluster.nodes_manager.connection_kwargs.update(hook)
    for node in cast("Any", cluster.nodes_manager).startup_nodes.values():
        node.connection_kwargs.update(hook)
    return cluster

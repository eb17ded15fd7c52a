"""
A client of redis-py for each form of address. Imported with the library, when first needed.

None of them tries anything again: the call goes on without the cache, and the breaker knows when
to come back. Waits are bounded by whoever has the conversation, except for making a connection.
"""

from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis, Sentinel
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from trunkline.cache.address import RedisAddress
from trunkline.cache.settings import CacheSettings
from trunkline.cache.store import CONNECTIONS, Servers, Store


def open_store(address: RedisAddress | None, settings: CacheSettings) -> Store:
    """The store at *address*, or one in this process. Nothing is connected yet."""
    servers = Servers()
    if address is None:
        clients = [_in_process()]
    elif address.form == "sentinel":
        clients = _sentinel(address, settings, servers)
    elif address.form == "cluster":
        clients = [_cluster(address, settings, servers)]
    else:
        clients = [_single(address, settings, servers)]
    client, *others = clients
    return Store(
        client, servers, *others, timeout=settings.timeout, patience=settings.connect_timeout
    )


def _waits(settings: CacheSettings) -> dict[str, Any]:
    return {
        "socket_timeout": None,
        "socket_connect_timeout": settings.connect_timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
    }


def _in_process() -> Any:
    from fakeredis import FakeAsyncRedis, FakeServer  # half a second, and not always needed

    return FakeAsyncRedis(server=FakeServer())


def _single(address: RedisAddress, settings: CacheSettings, servers: Servers) -> Any:
    pool = BlockingConnectionPool.from_url(
        address.url,
        max_connections=CONNECTIONS,
        timeout=None,
        redis_connect_func=servers.greet,
        **_waits(settings),
    )
    return Redis.from_pool(pool)


def _sentinel(address: RedisAddress, settings: CacheSettings, servers: Servers) -> list[Any]:
    """The client of the primary, and what it finds the primary by."""
    waits = _waits(settings)
    identity = {"username": address.username, "password": address.password}
    sentinel = Sentinel(
        address.hosts,
        sentinel_kwargs={**waits, "socket_timeout": settings.connect_timeout},
        ssl=address.tls,
    )
    primary = sentinel.master_for(
        address.service, db=address.db, redis_connect_func=servers.greet, **identity, **waits
    )
    return [primary, sentinel]


def _cluster(address: RedisAddress, settings: CacheSettings, servers: Servers) -> Any:
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
        username=address.username,
        password=address.password,
        ssl=address.tls,
        **_waits(settings),
    )
    # The constructor takes no hook for new connections; its nodes do.
    hook = {"redis_connect_func": servers.greet}
    cluster.nodes_manager.connection_kwargs.update(hook)
    for node in cast("Any", cluster.nodes_manager).startup_nodes.values():
        node.connection_kwargs.update(hook)
    return cluster

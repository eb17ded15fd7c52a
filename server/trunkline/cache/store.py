"""
Redis, as the cache needs it: a few commands with deadlines, and one kind of failure.

Imported when it is first needed, because the library takes half a second to import. A server that
restarts may come back with what it had on disk, generations that were removed included, and a
replica that takes over may lack the last of them. So a value is bound to the server process that
answered: every new connection asks for its `run_id` before anything else is read from it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from redis import exceptions
from redis.asyncio.cluster import RedisCluster

from trunkline.cache.failures import CacheFailure, Trouble
from trunkline.cache.keys import PROBE

TURNS: Final = 8
"""Changes under way at a time. More would not be faster, as Redis does one after the other."""

CONNECTIONS: Final = TURNS + 4
"""Connections to one server: changes, and the one question and the one probe beside them."""

BATCH: Final = 1000
"""Keys looked at or removed in one step."""

BULK_LIMIT: Final = 10.0
"""Seconds one step over many keys may take."""

_TROUBLES: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], Trouble], ...]] = (
    ((TimeoutError, exceptions.TimeoutError), "slow"),
    (exceptions.BusyLoadingError, "loading"),
    (
        (
            exceptions.AuthenticationError,
            exceptions.AuthorizationError,
            exceptions.AuthenticationWrongNumberOfArgsError,
            exceptions.NoPermissionError,
        ),
        "refused",
    ),
    (exceptions.ReadOnlyError, "read_only"),
    (exceptions.OutOfMemoryError, "full"),
    (
        (
            exceptions.ConnectionError,
            exceptions.ClusterDownError,
            exceptions.RedisClusterException,
            OSError,
        ),
        "down",
    ),
)

_SAYINGS: Final[dict[str, Trouble]] = {
    "MISCONF": "read_only",
    "NOREPLICAS": "read_only",
    "The previous master is now a slave": "read_only",
}
"""What errors without a class of their own say, somewhere."""


class Servers:
    """Which process answers at each address, by its `run_id`."""

    def __init__(self) -> None:
        self._known: dict[object, bytes] = {}
        self._latest = b""

    async def greet(self, connection: Any) -> None:
        """Set up a new connection, and see who is at its other end."""
        try:
            await connection.on_connect()
            run_id = await self._ask_who(connection)
        except BaseException:
            await connection.disconnect(nowait=True)  # nobody may use it as if it had been greeted
            raise
        host, port = getattr(connection, "host", None), getattr(connection, "port", None)
        self._known[f"{host}:{port}"] = self._latest = run_id

    def at(self, address: str | None) -> bytes:
        """Who answers at *address* of a cluster; None where there is but one."""
        return self._latest if address is None else self._known.get(address, b"")

    async def _ask_who(self, connection: Any) -> bytes:
        await connection.send_command("INFO", "server", check_health=False)
        try:
            said: bytes = await connection.read_response()
        except exceptions.ResponseError:
            return b""  # a user without the right to ask, or a proxy: see docs/cache.md
        return said.partition(b"run_id:")[2].partition(b"\r\n")[0]


class Found(NamedTuple):
    """What is at a key."""

    value: bytes | None
    server: bytes
    """The process that answered."""


class Store:
    """One Redis, Sentinel or Cluster. Every method raises `CacheFailure` and nothing else."""

    def __init__(
        self, client: Any, servers: Servers, *others: Any, timeout: float, patience: float
    ) -> None:
        """
        *timeout* bounds what callers wait for, *patience* what happens behind the scenes; *others*
        are closed with the client.
        """
        self.client = client
        """The library's own client. It waits for ever and raises what it likes."""

        self._servers, self._others = servers, others
        self._timeout, self._patience = timeout, patience
        self._slots = asyncio.Semaphore(TURNS)

    async def read(self, keys: Sequence[str]) -> dict[str, Found]:
        """What is at *keys*."""
        async with _conversation(self._timeout):
            if isinstance(self.client, RedisCluster):
                values = await self.client.mget_nonatomic(keys)
                nodes = [self.client.get_node_from_key(key) for key in keys]
                servers = [self._servers.at(node.name if node else "") for node in nodes]
            else:
                values = await self.client.mget(keys)
                servers = [self._servers.at(None)] * len(keys)
            if not all(value is None or isinstance(value, bytes) for value in values):
                raise TypeError("MGET is answered with strings")
            return dict(zip(keys, map(Found, values, servers), strict=True))

    async def create(self, values: Mapping[str, bytes], seconds: float) -> None:
        """Write those that are not there yet."""
        async with self._turn(self._timeout):
            pipeline = self.client.pipeline(transaction=False)
            for key, value in values.items():
                pipeline.set(key, value, nx=True, px=round(seconds * 1000))
            await pipeline.execute()

    async def write(self, key: str, value: bytes, seconds: float) -> None:
        """Keep *value* for so long."""
        async with self._turn(self._timeout):
            await self.client.set(key, value, px=max(1, round(seconds * 1000)))

    async def unlink(self, keys: Sequence[str] | Sequence[bytes]) -> int:
        """Remove keys; how many there were."""
        async with self._turn(self._timeout if len(keys) < BATCH else BULK_LIMIT):
            return await self.client.unlink(*keys)

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """All keys that match, in batches. One that comes or goes meanwhile may be missing."""
        for node in self._nodes():
            cursor = 0
            while True:
                async with self._turn(BULK_LIMIT):
                    cursor, keys = await self._step(node, cursor, pattern)
                if keys:
                    yield keys
                if not cursor:
                    break

    async def measure(self, keys: Sequence[bytes]) -> list[int]:
        """How many bytes the keys and their values have. What is no string counts as its key."""
        async with self._turn(BULK_LIMIT):
            pipeline = self.client.pipeline(transaction=False)
            for key in keys:
                pipeline.strlen(key)
            lengths = await pipeline.execute(raise_on_error=False)
        return [
            len(key) + (size if isinstance(size, int) else 0)
            for key, size in zip(keys, lengths, strict=True)
        ]

    async def forget(self) -> None:
        """Remove everything, whoever's it is: for a store that is ours alone."""
        async with self._turn(self._timeout):
            await self.client.flushdb()

    async def begin(self) -> None:
        """
        See who is there now, and whether they take changes.

        Old connections are let go first. One of them may lead to a primary that was replaced while
        it hung, and that does not know yet.
        """
        async with _conversation(self._patience):
            if isinstance(self.client, RedisCluster):
                await self.client.aclose()  # it asks for the nodes again at its next command
            else:
                await self.client.connection_pool.disconnect(inuse_connections=False)
            await self.client.set(PROBE, b"", px=1000)

    async def close(self) -> None:
        """Let go of all connections."""
        async with _conversation(self._patience):
            for client in (self.client, *self._others):
                await client.aclose()

    def _nodes(self) -> list[Any]:
        return self.client.get_primaries() if isinstance(self.client, RedisCluster) else [None]

    async def _step(self, node: Any, cursor: int, pattern: str) -> tuple[int, list[bytes]]:
        if node is None:
            return await self.client.scan(cursor, match=pattern, count=BATCH)
        cursors, keys = await self.client.scan(
            cursor, match=pattern, count=BATCH, target_nodes=node
        )
        return cursors[node.name], keys

    @asynccontextmanager
    async def _turn(self, seconds: float) -> AsyncGenerator[None]:
        """A conversation, when it is our turn. A crowd of ours is no trouble of Redis'."""
        try:
            async with asyncio.timeout(seconds):
                await self._slots.acquire()
        except TimeoutError as error:
            raise CacheFailure("crowded") from error
        try:
            async with _conversation(seconds):
                yield
        finally:
            self._slots.release()


@asynccontextmanager
async def _conversation(seconds: float) -> AsyncGenerator[None]:
    """Bound the wait for Redis, and translate what the library raises."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except Exception as error:  # nothing of the cache's may reach a caller
        raise CacheFailure(diagnose(error)) from error


def diagnose(error: Exception) -> Trouble:
    """What an error of the library says about Redis."""
    for saying, trouble in _SAYINGS.items():
        if saying in str(error):
            return trouble
    for kinds, trouble in _TROUBLES:
        if isinstance(error, kinds):
            return trouble
    return "confused"

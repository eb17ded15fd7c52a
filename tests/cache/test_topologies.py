"""Redis Sentinel and Redis Cluster, with the primary lost while it is used."""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from tests.cache.conftest import opened
from tests.cache.redis_server import RedisServer, free_port, redis_server
from tests.cache.test_trouble import back, load
from tests.cache.truth import ACME, GLOBEX, Truth
from trunkline.cache import cleanup
from trunkline.cache.cache import Cache
from trunkline.cache.keys import Address
from trunkline.settings import CacheSettings

pytestmark = pytest.mark.anyio

QUICK = CacheSettings(timeout=0.5, connect_timeout=3)
LIMIT = 60.0


async def until(holds: Callable[[], Any]) -> None:
    with anyio.fail_after(LIMIT):
        while not holds():  # noqa: ASYNC110 - what servers agree on sets no event of ours
            await asyncio.sleep(0.05)


def is_primary(server: RedisServer) -> bool:
    try:
        return server.client.role()[0] == b"master"
    except redis.ConnectionError:  # everybody is thrown out when it becomes one
        return False


async def constant(value: Any) -> Any:
    return value


async def found(cache: Cache, org: Any, key: str) -> None:
    """Compute a value, and wait until it is found."""
    with anyio.fail_after(LIMIT):
        await cache.get_or_compute("tool", org, key, lambda: constant("kept"))
        while await cache.get_or_compute("tool", org, key, lambda: constant("no")) != "kept":
            await cache.invalidate("tool", org, key)
            await cache.get_or_compute("tool", org, key, lambda: constant("kept"))
            await asyncio.sleep(0.02)


# -- Sentinel -------------------------------------------------------------------------------------


@pytest.fixture
def sentinel() -> Iterator[tuple[str, RedisServer, RedisServer]]:
    """An address, a primary and its replica, with one Sentinel that decides alone."""
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server(port=free_port()))
        replica = stack.enter_context(redis_server(port=free_port()))
        replica.client.replicaof("127.0.0.1", primary.port)
        folder = Path(tempfile.mkdtemp(prefix="trunkline-sentinel-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor main 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        watch = RedisServer(folder, port=free_port(), sentinel=True)
        stack.callback(watch.kill)
        watch.start()
        yield f"redis+sentinel://127.0.0.1:{watch.port}/main/0", primary, replica


@pytest.mark.parametrize("loss", ["killed", "paused"])
async def test_a_primary_is_found_through_sentinel_and_its_successor_too(
    sentinel: tuple[str, RedisServer, RedisServer], loss: str
) -> None:
    url, primary, replica = sentinel
    watch: Any = redis.Redis.from_url(f"redis://{url.split('//')[1].split('/')[0]}")
    await until(lambda: len(watch.execute_command("SENTINEL REPLICAS", "main")) == 1)
    await until(lambda: replica.client.info("replication")["master_link_status"] == "up")
    async with opened(url, QUICK) as one, opened(url, QUICK) as other:
        async with load(one, other) as truth:
            if loss == "killed":
                primary.kill()
            else:
                primary.pause()
            before = truth.lookups
            await until(lambda: truth.lookups > before + 20)
            await until(lambda: is_primary(replica))
            await back(one)
            await back(other)
            if loss == "paused":
                primary.resume()  # and it still takes itself for the primary


# -- Cluster --------------------------------------------------------------------------------------


@contextmanager
def cluster_of(primaries: int, *, others: int = 1) -> Generator[tuple[list[RedisServer], str]]:
    """Primaries that share the slots, and others that have none yet; and the address."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        nodes = [
            stack.enter_context(redis_server(*options, port=free_port(), bus=True))
            for _ in range(primaries + others)
        ]
        for number, node in enumerate(nodes):
            first, last = 16384 * number // primaries, 16384 * (number + 1) // primaries - 1
            if number < primaries:
                node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
        yield nodes, f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"


async def agreed(nodes: list[RedisServer]) -> None:
    """Wait until every node knows of all."""

    def holds() -> bool:
        said = [node.client.execute_command("CLUSTER INFO") for node in nodes]
        return all(
            (info["cluster_state"], info["cluster_known_nodes"]) == ("ok", str(len(nodes)))
            for info in said
        )

    await until(holds)


def owner(primaries: list[RedisServer], key: str) -> RedisServer:
    """Who has *key*."""
    slot = primaries[0].client.execute_command("CLUSTER KEYSLOT", key)
    last = [16384 * (number + 1) // len(primaries) - 1 for number in range(len(primaries))]
    return next(node for node, end in zip(primaries, last, strict=True) if slot <= end)


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[tuple[list[RedisServer], str]]:
    with cluster_of(3, others=0) as shared:
        yield shared


@pytest.fixture
def nodes(shared_cluster: tuple[list[RedisServer], str]) -> list[RedisServer]:
    return shared_cluster[0]


@pytest.fixture
async def cluster(shared_cluster: tuple[list[RedisServer], str]) -> str:
    """The address of three nodes that are empty and agree."""
    nodes, url = shared_cluster
    await agreed(nodes)
    for node in nodes:
        node.client.flushall()
    return url


async def test_a_cluster_keeps_the_keys_of_an_org_together_and_those_of_two_apart(
    cluster: str, nodes: list[RedisServer]
) -> None:
    async with opened(cluster, QUICK) as cache:
        for org in (None, ACME, GLOBEX):
            for number in range(5):
                await found(cache, org, str(number))

    places = {
        org: {
            node.port
            for node in nodes
            for key in node.client.scan_iter(f"*{{{org or 'global'}}}*", count=5000)
            if b"probe" not in key
        }
        for org in (None, ACME, GLOBEX)
    }
    assert all(len(ports) == 1 for ports in places.values()), places


async def test_invalidation_works_across_the_nodes_of_a_cluster(cluster: str) -> None:
    async with opened(cluster, QUICK) as one, opened(cluster, QUICK) as other:
        for org in (None, ACME, GLOBEX):
            await found(one, org, "key")

        assert await one.invalidate("tool", None)

        for org in (None, ACME, GLOBEX):
            assert await other.get_or_compute("tool", org, "key", lambda: constant("new")) == "new"


async def test_patterns_and_cleanup_reach_every_node_of_a_cluster(
    cluster: str, nodes: list[RedisServer]
) -> None:
    plain = redis.RedisCluster.from_url(f"redis://127.0.0.1:{nodes[0].port}")
    for number in range(3000):
        plain.set(f"mcp:cache:v1:tool:id:{number}", b"old", px=600_000)
        if number % 10 == 0:
            plain.set(f"mcp:cache:v0:tool:id:{number}", b"older", px=600_000)
    plain.close()
    async with opened(cluster, CacheSettings(timeout=5)) as cache:
        old = (await cleanup.stats(cache)).old

        assert await cache.invalidate_pattern("mcp:cache:v1:tool:*") == 3000
        assert await cleanup.clean(cache) == {0: 300}

    assert [(holding.version, holding.keys) for holding in old] == [(0, 300)]


async def test_a_cluster_whose_node_restarts_during_load_is_used_again(
    cluster: str, nodes: list[RedisServer]
) -> None:
    node = owner(nodes, Address.of("tool", None, "truth").value)
    async with opened(cluster, QUICK) as cache, load(cache) as truth:
        node.kill()
        before = truth.lookups
        await until(lambda: truth.lookups > before + 20)
        node.start()
        await back(cache)


async def test_a_node_of_a_cluster_that_restarts_with_old_data_is_not_believed(
    cluster: str, nodes: list[RedisServer]
) -> None:
    async with opened(cluster, QUICK) as cache, opened(cluster, QUICK) as other:
        truth = Truth()
        await truth.ask(cache)
        await until(lambda: any(node.client.keys("*truth") for node in nodes))
        node = next(node for node in nodes if node.client.keys("*truth"))
        node.client.save()
        assert await truth.change(cache)
        node.restart()
        await until(lambda: node.client.keys("*truth"))
        await until(lambda: node.client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

        for one in (cache, other, cache, other):
            assert await truth.ask(one) == 2
            await back(one)


async def test_the_replica_of_a_node_that_hangs_takes_over_and_is_used() -> None:
    with cluster_of(3) as (nodes, url):
        await agreed(nodes)
        replica = nodes[-1]
        async with opened(url, QUICK) as cache, load(cache) as truth:
            primary = owner(nodes[:3], Address.of("tool", None, "truth").value)
            name = primary.client.execute_command("CLUSTER MYID")
            replica.client.execute_command("CLUSTER REPLICATE", name)
            await until(lambda: replica.client.info("replication")["master_link_status"] == "up")
            primary.pause()
            before = truth.lookups
            await until(lambda: truth.lookups > before + 20)
            await until(lambda: is_primary(replica))
            await back(cache)

"""What is remembered between calls: results and searches, by several gateways on one Redis."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.cache.redis_server import RedisServer, redis_server
from tests.gateway_under_test import Gateway, gateway, until
from tests.index.qdrant_stand_in import stand_in
from tests.journeys.raw_client import Json, RawClient, raw_client
from tests.servers.processes import running
from trunkline.models import LOCAL
from trunkline.search.search import Request
from trunkline.settings import CacheSettings

pytestmark = pytest.mark.anyio

SERVER = "tests.journeys.keeping_server"
KEEPING = CacheSettings(results=True, timeout=5)
"""Patient, for tests in which Redis has no excuse to be slow, but the machine has."""

ERAS = ("handshake", "modern")
PAIRS = list(itertools.product(ERAS, ERAS))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@asynccontextmanager
async def kept(
    folder: Path,
    era: str = "modern",
    server_era: Any = "both",
    *,
    cache: CacheSettings = KEEPING,
    **entry: Any,
) -> AsyncGenerator[tuple[Gateway, RawClient]]:
    """A gateway in front of the server, and a client."""
    async with (
        running(SERVER, era=server_era) as server,
        gateway({"k": {**server.entry(), **entry}}, folder, cache=cache) as trunkline,
        raw_client(trunkline.mcp, era, answer=answer) as client,
    ):
        assert await trunkline.app.cache.wait_available(20)
        yield trunkline, client


async def answer(method: str, params: Json) -> Json:
    """What the person at the client says."""
    return {"action": "accept", "content": {"name": "Ada"}}


async def number(client: RawClient, tool: str = "k__read", **arguments: Any) -> int:
    """Which call of the server it was that this answer is from."""
    return (await client.structured(tool, arguments))["calls"]


async def calls(client: RawClient) -> int:
    """How many calls have reached the server."""
    return (await client.structured("k__calls"))["calls"]


# -- results --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("era", "server_era"), PAIRS)
async def test_the_same_call_of_a_tool_that_reads_costs_the_server_nothing(
    tmp_path: Path, era: str, server_era: str
) -> None:
    async with kept(tmp_path, era, server_era) as (_, client):
        first = await client.call("k__read", {"a": 1, "b": [2]})
        again = await client.call("k__read", {"b": [2], "a": 1})
        others = [await number(client, a=value) for value in (1, 1.5, True, "1")]

        assert again == first
        assert others == [2, 3, 4, 5]
        assert await calls(client) == 5


async def test_nothing_is_kept_unless_it_is_asked_for(tmp_path: Path) -> None:
    async with kept(tmp_path, cache=CacheSettings()) as (_, client):
        assert [await number(client), await number(client)] == [1, 2]


async def test_mcp_json_says_what_is_kept_whatever_a_tool_says_of_itself(tmp_path: Path) -> None:
    rules = {"cache": {"read": 0, "w*": 60, "write": 0}}
    async with kept(tmp_path, tools=rules) as (_, client):
        assert [await number(client), await number(client)] == [1, 2]
        assert [await number(client, "k__write"), await number(client, "k__write")] == [3, 3]


async def test_a_rule_in_mcp_json_needs_no_setting_and_holds_from_when_it_is_saved(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path, cache=CacheSettings(timeout=5)) as (trunkline, client):
        before = [await number(client, "k__write"), await number(client, "k__write")]
        provider = trunkline.app.servers.roster.providers[0]
        entry = {"transport": "streamable-http", "url": provider.config.url}
        trunkline.configure({"k": {**entry, "tools": {"cache": {"write": 60}}}})
        await until(
            lambda: trunkline.app.catalog.snapshot.view(None).tool("k__write").result_ttl == 60
        )

        after = [await number(client, "k__write"), await number(client, "k__write")]

    assert before == [1, 2]
    assert after == [3, 3]


@pytest.mark.parametrize(
    "say",
    [
        {"isError": True},
        {"ttlMs": 0},
        {"cacheScope": "private", "ttlMs": 60_000},
    ],
    ids=["an error", "no time to live", "private"],
)
@pytest.mark.parametrize(("era", "server_era"), PAIRS)
async def test_what_a_server_does_not_want_kept_is_not(
    tmp_path: Path, era: str, server_era: str, say: Json
) -> None:
    async with kept(tmp_path, era, server_era) as (_, client):
        assert [await number(client, say=say), await number(client, say=say)] == [1, 2]


@pytest.mark.parametrize(("era", "server_era"), PAIRS)
async def test_a_result_that_took_a_question_is_not_kept(
    tmp_path: Path, era: str, server_era: str
) -> None:
    async with kept(tmp_path, era, server_era) as (_, client):
        answers = [await client.structured("k__read", {"ask": 1}) for _ in range(2)]

    assert [one["calls"] for one in answers] == [1, 2]
    assert all(one["answer"] for one in answers)
    assert len(client.asked) == 2


async def test_what_is_left_of_a_time_to_live_is_passed_on_and_not_all_of_it(
    tmp_path: Path,
) -> None:
    async with kept(tmp_path, "modern", "modern") as (_, client):
        say = {"ttlMs": 60_000, "cacheScope": "public"}
        first = await client.call("k__read", {"say": say})
        again = await client.call("k__read", {"say": say})

    assert again["structuredContent"] == first["structuredContent"]
    assert first["ttlMs"] == 60_000
    assert 0 < again["ttlMs"] < 60_000


async def test_where_each_client_has_a_session_of_its_own_nothing_is_kept(tmp_path: Path) -> None:
    async with kept(tmp_path, sharing="client") as (_, client):
        assert [await number(client), await number(client)] == [1, 2]


async def test_where_users_are_kept_apart_the_user_of_this_machine_is_one(tmp_path: Path) -> None:
    async with kept(tmp_path, sharing="user") as (_, client):
        assert [await number(client), await number(client)] == [1, 1]


async def test_a_server_that_left_and_came_back_is_asked_anew(tmp_path: Path) -> None:
    async with kept(tmp_path) as (trunkline, client):
        url = trunkline.app.servers.roster.providers[0].config.url
        before = await number(client)
        trunkline.configure({})
        await until(lambda: not trunkline.app.catalog.snapshot.view(None).has("k__read"))
        trunkline.configure({"k": {"url": url}})
        await until(lambda: trunkline.app.catalog.snapshot.view(None).has("k__read"))

        assert (before, await number(client)) == (1, 2)


# -- several processes ----------------------------------------------------------------------------


async def test_gateways_on_one_redis_share_what_servers_elsewhere_said(
    tmp_path: Path, redis: RedisServer
) -> None:
    async with (
        running(SERVER) as server,
        two(tmp_path, redis, {"k": server.entry()}) as (one, other),
    ):
        first = await number(one)
        shared = await number(other)
        unlike = await number(other, a=2)

    assert (first, shared, unlike) == (1, 1, 2)


async def test_another_configuration_of_a_server_is_another_server(
    tmp_path: Path, redis: RedisServer
) -> None:
    async with running(SERVER) as server:
        entry = server.entry()
        others = {**entry, "headers": {"Authorization": "Bearer other"}}
        async with two(tmp_path, redis, {"k": entry}, {"k": others}) as (one, other):
            assert [await number(one), await number(other), await number(one)] == [1, 2, 1]


async def test_a_server_that_left_one_gateway_is_asked_anew_by_the_other(
    tmp_path: Path, redis: RedisServer
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    async with running(SERVER) as server:
        options: Json = {"redis_url": redis.url, "cache": KEEPING}
        servers = {"k": server.entry()}
        async with (
            gateway(servers, tmp_path / "here", **options) as here,
            gateway(servers, tmp_path / "there", **options) as there,
            raw_client(there.mcp, "modern") as client,
        ):
            assert await there.app.cache.wait_available(20)
            assert await here.app.cache.wait_available(20)
            before = [await number(client), await number(client)]
            here.configure({})
            await until(lambda: not here.app.catalog.snapshot.view(None).has("k__read"))
            await until_other(client, 1)

    assert before == [1, 1]


async def test_a_tool_that_came_to_one_gateway_is_found_in_the_other_and_gone_when_it_left(
    tmp_path: Path, redis: RedisServer
) -> None:
    options: Json = {"redis_url": redis.url, "cache": KEEPING, "admin_tools": True}
    async with (
        running(SERVER) as server,
        gateway({}, tmp_path, **options) as here,
        gateway({}, tmp_path, **options) as there,
        raw_client(here.mcp, "modern") as client,
    ):
        for one in (here, there):
            assert await found(one, "read") == []
        await client.structured("add_server", {"name": "k", "url": server.entry()["url"]})
        await until_found(here, "read", there=True)
        await until_found(there, "read", there=True)
        await client.structured("remove_server", {"name": "k"})
        await until_found(here, "read", there=False)
        await until_found(there, "read", there=False)


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect")  # in local mode
async def test_what_qdrant_said_is_shared_and_forgotten_by_all_once_it_has_changed(
    tmp_path: Path, redis: RedisServer
) -> None:
    forever = CacheSettings(search_ttl=3600, timeout=5)
    async with stand_in() as qdrant, running(SERVER) as server:
        options: Json = {"redis_url": redis.url, "cache": forever, "qdrant_url": qdrant.url}
        async with (
            gateway({}, tmp_path, admin_tools=True, **options) as here,
            gateway({}, tmp_path, admin_tools=True, **options) as there,
            raw_client(here.mcp, "modern") as client,
        ):
            for one in (here, there):
                assert await one.app.cache.wait_available(20)
                assert str(await one.app.finding.drift(20)) == "none"
                assert await found(one, "read") == []
            kept = redis.client.keys("mcp:cache:*:search:*")
            await client.structured("add_server", {"name": "k", "url": server.entry()["url"]})
            await until_found(there, "read", there=True)
            await until_found(here, "read", there=True)

    assert len([key for key in kept if b":generation:" not in key]) == 1


# -- Redis in trouble -----------------------------------------------------------------------------


async def test_nothing_fails_while_redis_is_killed_paused_and_started_again(
    tmp_path: Path, redis: RedisServer
) -> None:
    options: Json = {"redis_url": redis.url, "cache": CacheSettings(results=True)}
    async with (
        running(SERVER) as server,
        gateway({"k": server.entry()}, tmp_path, **options) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        assert await trunkline.app.cache.wait_available(20)
        stop, done = asyncio.Event(), itertools.count()

        async def use(name: int) -> None:
            while not stop.is_set():
                assert await number(client, who=name) > 0
                assert len((await client.request("tools/list"))["tools"]) == 3
                assert (await found(trunkline, f"read {next(done)}"))[0] == "k__read"

        async with asyncio.TaskGroup() as users:
            for name in range(3):
                users.create_task(use(name))
            redis.kill()
            await until(lambda: not trunkline.app.cache.is_available)
            troubles = await ready(trunkline)
            redis.start()
            assert await trunkline.app.cache.wait_available(30)
            redis.pause()
            await until(lambda: not trunkline.app.cache.is_available)
            redis.resume()
            assert await trunkline.app.cache.wait_available(30)
            stop.set()
        recovered = await ready(trunkline)

    assert [(one["what"], one["code"]) for one in troubles] == [("cache", "cache_unavailable")]
    assert recovered == []


async def test_without_redis_from_the_start_everything_goes_on(tmp_path: Path) -> None:
    options: Json = {"redis_url": f"unix://{tmp_path}/nowhere", "cache": KEEPING}
    async with (
        running(SERVER) as server,
        gateway({"k": server.entry()}, tmp_path, **options) as trunkline,
        raw_client(trunkline.mcp, "handshake") as client,
    ):
        assert [await number(client), await number(client)] == [1, 2]
        assert (await found(trunkline, "read"))[0] == "k__read"


async def test_a_redis_that_is_still_being_connected_to_is_no_trouble_yet(
    tmp_path: Path, redis: RedisServer
) -> None:
    redis.pause()
    patient = CacheSettings(timeout=60, connect_timeout=60)
    async with gateway({}, tmp_path, redis_url=redis.url, cache=patient) as trunkline:
        reason = trunkline.app.cache.reason
        troubles = await ready(trunkline)
        redis.resume()
        assert await trunkline.app.cache.wait_available(20)

    assert reason is not None
    assert reason.trouble == "starting"
    assert troubles == []


@asynccontextmanager
async def two(
    folder: Path, redis: RedisServer, *servers: Any
) -> AsyncGenerator[tuple[RawClient, RawClient]]:
    """Clients of two gateways on one Redis, which serve the same or one each of *servers*."""
    options: Json = {"redis_url": redis.url, "cache": KEEPING}
    (folder / "one").mkdir()
    (folder / "other").mkdir()
    async with (
        gateway(servers[0], folder / "one", **options) as one,
        gateway(servers[-1], folder / "other", **options) as other,
        raw_client(one.mcp, "modern") as first,
        raw_client(other.mcp, "modern") as second,
    ):
        assert await one.app.cache.wait_available(20)
        assert await other.app.cache.wait_available(20)
        yield first, second


async def found(trunkline: Gateway, words: str) -> list[str]:
    assert await trunkline.app.finding.current(20)
    search = await trunkline.app.finding.search()
    return [hit.entry.name for hit in (await search.find(Request(words=words), LOCAL)).hits]


async def until_found(trunkline: Gateway, words: str, *, there: bool) -> None:
    async with asyncio.timeout(60):
        while bool(await found(trunkline, words)) is not there:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)


async def until_other(client: RawClient, before: int) -> None:
    """Until the server was asked anew."""
    async with asyncio.timeout(60):
        while await number(client) == before:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)


async def ready(trunkline: Gateway) -> list[Json]:
    async with httpx.AsyncClient() as http:
        return (await http.get(f"{trunkline.url}/ready")).json()["degraded"]

"""`trunkline cache` and what `check` says of the cache, run as programs beside a real Redis."""

import json
from collections.abc import Iterator

import pytest
from tests.cache.redis_server import RedisServer, redis_server
from tests.cli.conftest import Workplace


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis with two values of an older version, one of this and one of a newer one."""
    with redis_server() as server:
        for key in ("v0:tool:{global}:a", "v0:tool:{global}:b", "v1:search:{global}:c"):
            server.client.set(f"mcp:cache:{key}", "12345")
        server.client.set("mcp:cache:v9:tool:{global}:d", "12345")
        server.client.set("somebody:else", "12345")
        yield server


def keys(server: RedisServer) -> list[str]:
    """All but the one that Trunkline writes to see whether it can."""
    there = sorted(key.decode() for key in server.client.keys("*"))
    return [key for key in there if ":probe:" not in key]


@pytest.mark.parametrize("command", ["stats", "clean", "flush"])
def test_without_redis_there_is_nothing_to_look_at_and_that_is_said(
    workplace: Workplace, command: str
) -> None:
    shown, told = workplace.run("cache", command), workplace.run("cache", command, "--json")

    assert (shown.returncode, told.returncode) == (0, 0)
    assert "without REDIS_URL" in shown.stdout
    assert None in json.loads(told.stdout).values()


@pytest.mark.parametrize("command", ["stats", "clean", "flush"])
def test_a_redis_that_is_away_is_a_sentence(workplace: Workplace, command: str) -> None:
    url = "redis://ada:s3cret@127.0.0.1:1/0"

    done = workplace.run("cache", command, REDIS_URL=url, TRUNKLINE_CACHE__CONNECT_TIMEOUT="0.1")

    assert done.returncode == 1
    assert "Redis does not answer" in done.stderr
    assert "[cache_unavailable]" in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


def test_an_address_that_cannot_be_understood_is_the_operators_to_correct(
    workplace: Workplace,
) -> None:
    done = workplace.run("cache", "stats", REDIS_URL="http://ada:s3cret@localhost")

    assert done.returncode == 2
    assert "[config_" in done.stderr
    assert "s3cret" not in done.stderr


def test_stats_count_by_version_and_namespace(workplace: Workplace, redis: RedisServer) -> None:
    shown = workplace.run("cache", "stats", REDIS_URL=redis.url)
    told = json.loads(workplace.run("cache", "stats", "--json", REDIS_URL=redis.url).stdout)

    assert shown.returncode == 0
    assert "v0" in shown.stdout
    counted = {(one["version"], one["namespace"], one["keys"]) for one in told["holdings"]}
    assert counted - {(1, "probe", 1)} == {(0, "tool", 2), (1, "search", 1), (9, "tool", 1)}
    assert told["version"] == 1


def test_clean_removes_older_versions_only_and_says_how_many(
    workplace: Workplace, redis: RedisServer
) -> None:
    done, again = (workplace.run("cache", "clean", REDIS_URL=redis.url) for _ in range(2))

    assert done.stdout == "Deleted 2 keys from cache v0.\n"
    assert again.stdout == "There is nothing older than v1.\n"
    assert keys(redis) == [
        "mcp:cache:v1:search:{global}:c",
        "mcp:cache:v9:tool:{global}:d",
        "somebody:else",
    ]


def test_flush_forgets_this_version_only(workplace: Workplace, redis: RedisServer) -> None:
    done = workplace.run("cache", "flush", "--json", REDIS_URL=redis.url)

    assert done.returncode == 0
    assert json.loads(done.stdout)["removed"] >= 1
    assert not [key for key in keys(redis) if key.startswith("mcp:cache:v1:")]
    assert len(keys(redis)) == 4  # two older ones, a newer one, and somebody's


def test_check_says_where_answers_are_kept(workplace: Workplace, redis: RedisServer) -> None:
    workplace.configure({})

    alone, shared = workplace.run("check"), workplace.run("check", REDIS_URL=redis.url)

    assert (alone.returncode, shared.returncode) == (0, 0)
    assert "Cache (in process): ok" in alone.stdout
    assert "Cache (Redis): ok" in shared.stdout


def test_check_says_that_redis_is_away(workplace: Workplace) -> None:
    workplace.configure({})
    url = f"unix://{workplace.folder}/nowhere"

    shown = workplace.run("check", REDIS_URL=url, TRUNKLINE_CACHE__CONNECT_TIMEOUT="0.5")
    told = json.loads(workplace.run("check", "--json", REDIS_URL=url).stdout)

    assert shown.returncode == 1
    assert "Cache (Redis): Redis does not answer." in shown.stdout
    assert (told["verdict"], told["cache"]) == ("degraded", "Redis")
    assert told["cache_trouble"].endswith("[cache_unavailable]")

"""REDIS_URL, understood."""

import pytest

from trunkline.cache.address import RedisAddress
from trunkline.cache.connection import open_cache
from trunkline.errors import ConfigError


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://user:p%40ss@localhost:6380/3",
        "rediss://:secret@redis.example.com:6380/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
        "redis://[::1]:6379/0",
    ],
)
def test_addresses_of_one_server_are_the_librarys_own(url: str) -> None:
    address = RedisAddress.of(url)

    assert (address.form, address.url) == ("server", url)


def test_a_sentinel_address_names_the_sentinels_and_the_service() -> None:
    address = RedisAddress.of("rediss+sentinel://u:p%2F@one:1,two,[::1]:3/main/4")

    assert address.form == "sentinel"
    assert address.hosts == (("one", 1), ("two", 26379), ("::1", 3))
    assert (address.service, address.db, address.tls) == ("main", 4, True)
    assert (address.username, address.password) == ("u", "p/")


def test_a_cluster_address_names_some_of_its_nodes() -> None:
    address = RedisAddress.of("redis+cluster://:secret@one:7000,two:7001")

    assert address.form == "cluster"
    assert address.hosts == (("one", 7000), ("two", 7001))
    assert (address.username, address.password, address.tls) == (None, "secret", False)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost",
        "redis",
        "redis://localhost:port",
        "redis://localhost:99999",
        "redis://localhost/db",
        "redis+sentinel://:hunter2@localhost",
        "redis+sentinel://:hunter2@localhost/main/x",
        "redis+sentinel://one,,two/main",
        "redis+cluster://:hunter2@localhost/3",
    ],
)
async def test_an_address_that_cannot_be_used_is_refused_in_words_without_the_password(
    url: str,
) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL") as refusal:
        async with open_cache(url):
            pass

    assert "hunter2" not in str(refusal.value)

"""The one way in for commands: the database answers, or an error says why not."""

from pathlib import Path

import pytest

from tests.storage.participants import servers
from trunkline.errors import StorageRefused, StorageUnavailable
from trunkline.settings import DatabaseSettings
from trunkline.storage.opening import open_database

pytestmark = pytest.mark.anyio

SETTINGS = DatabaseSettings(connect_timeout=20)


async def test_the_database_named_is_the_one_that_is_opened(empty_dsn: str, tmp_path: Path) -> None:
    async with open_database(SETTINGS, empty_dsn, tmp_path / "home") as database:
        assert database.is_available
        name = await database.fetchval("SELECT current_database()")

    assert f"/{name}?" in empty_dsn
    assert not (tmp_path / "home").exists()


async def test_without_a_name_it_is_our_own_for_the_life_of_the_block(tmp_path: Path) -> None:
    async with open_database(SETTINGS, None, tmp_path) as database:
        assert await database.fetchval("SELECT 1") == 1
        assert servers(tmp_path / "postgres")

    assert not servers(tmp_path / "postgres")


async def test_what_the_block_raises_comes_out_as_it_is(empty_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_database(SETTINGS, empty_dsn, tmp_path):
            raise ZeroDivisionError


async def test_a_block_whose_database_does_not_answer_is_not_entered(tmp_path: Path) -> None:
    quick = DatabaseSettings(connect_timeout=0.2)

    with pytest.raises(StorageUnavailable):
        async with open_database(quick, f"postgresql://u@/db?host={tmp_path}", tmp_path):
            pytest.fail("entered")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:ge/heim@h/db",
        "postgresql://u:ge#heim@h/db",
        "postgresql://u:ge?heim@h/db",
        "postgresql://u:ge[heim@h/db",
        "postgresql://u:geheim@h:99999/db",
        "mysql://u:geheim@h/db",
        "geheim",
    ],
)
async def test_an_address_that_falls_apart_is_refused_without_being_repeated(
    address: str, tmp_path: Path
) -> None:
    with pytest.raises(StorageRefused, match="special characters percent-encoded") as caught:
        async with open_database(SETTINGS, address, tmp_path):
            pytest.fail("entered")

    assert "heim" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None

"""
Whatever a database or a downstream does wrong: a sentence with a code, and nothing else notices.

The refusals of single statements are in test_pool; here a whole listing comes along.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.storage.filling import contents, item
from tests.storage.postgres import Cluster
from trunkline.errors import (
    MigrationError,
    NotStorable,
    OrgNotFound,
    StorageError,
    StorageFull,
    StorageReadOnly,
    StorageRefused,
    StorageUnavailable,
)
from trunkline.models import KINDS, Json, Kind
from trunkline.settings import DatabaseSettings
from trunkline.storage import migrations
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.listings import Listed, ListingRepository, Stored
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.repositories.skills import SkillRepository
from trunkline.storage.rows import Item, Org

pytestmark = pytest.mark.anyio

SETTINGS = DatabaseSettings(connect_timeout=20, statement_timeout=60, max_connections=4)
IMPATIENT = DatabaseSettings(connect_timeout=0.2)


@pytest.fixture
async def dsn(postgres: Cluster, template: str) -> AsyncIterator[str]:
    """The address of a migrated database of this test's own."""
    async with postgres.database(template) as dsn:
        yield dsn


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with open_pool(dsn, SETTINGS) as database:
        yield database


async def sync(
    database: Database,
    items: Sequence[Item] = (),
    *,
    name: str = "mail",
    org: Org = None,
    kind: Kind = "tools",
    about: Json | None = None,
    config: Json | None = None,
) -> Stored:
    """Store what a server lists."""
    listed = Listed(
        name=name,
        origin="file",
        config=config or {},
        position=0,
        about=about or {},
        items={kind: items},
    )
    return await ListingRepository(database).sync(org, listed)


@dataclass(frozen=True)
class Disk:
    """A file system in memory, and the address of a database on it."""

    folder: Path
    dsn: str

    async def grow(self, size: str) -> None:
        mount("-o", f"remount,size={size}", str(self.folder))


@contextmanager
def mounted(folder: Path, size: str) -> Generator[Disk]:
    """A small file system for the server's own user. Skips the test where none can be mounted."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk, on Linux")
    folder.mkdir()
    owner = folder.parent.stat()
    options = f"size={size},mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    try:
        mount("-t", "tmpfs", "-o", options, "tmpfs", str(folder))
    except subprocess.CalledProcessError:
        pytest.skip("no disk can be mounted here")
    try:
        yield Disk(folder, "")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=10)


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True, timeout=10)


async def everything(database: Database) -> Mapping[str, list[str]]:
    async with database.acquire() as connection:
        return await contents(connection)


def assert_readable(error: StorageError | OrgNotFound, code: str) -> None:
    """Whether an error has its code, and is a sentence without the database's own words."""
    text = str(error)
    assert error.code == code
    assert text[0].isupper()
    assert text.endswith(".")
    assert not any(
        word in text for word in ("mcp.", "asyncpg", "SQLSTATE", "Traceback", "relation")
    )


# -- the database ---------------------------------------------------------------------------------


async def test_a_listing_for_a_database_that_is_not_there_fails_with_a_sentence(
    tmp_path: Path,
) -> None:
    async with open_pool(f"postgresql://u@/db?host={tmp_path}", IMPATIENT) as database:
        with pytest.raises(StorageUnavailable) as caught:
            await sync(database, [item("send")])

    assert_readable(caught.value, "storage_unavailable")


@pytest.fixture
async def guest(dsn: str, postgres: Cluster) -> AsyncIterator[str]:
    """The name of a user whose password is `right`, and who may read the catalog."""
    name, rules = f"guest_{uuid4().hex}", postgres.socket / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all {name} scram-sha-256\n{before}")
    owner = await asyncpg.connect(dsn)
    await owner.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'right'; GRANT USAGE ON SCHEMA mcp TO {name};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA mcp TO {name};"
    )
    await reload(owner, dsn)
    yield name
    rules.write_text(before)
    await owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    await reload(owner, dsn)
    await owner.close()


async def reload(owner: asyncpg.Connection, dsn: str) -> None:
    """Have the server read its rules again: what connects afterwards is let in by them."""
    before = after = await owner.fetchval("SELECT pg_conf_load_time()")
    await owner.execute("SELECT pg_reload_conf()")
    async with asyncio.timeout(60):
        while after == before:
            newcomer = await asyncpg.connect(dsn)
            after = await newcomer.fetchval("SELECT pg_conf_load_time()")
            await newcomer.close()


async def test_a_listing_is_refused_to_who_has_a_wrong_password_or_no_right_to_change(
    dsn: str, database: Database, guest: str
) -> None:
    await sync(database, [item("send")])
    before = await everything(database)

    errors: list[StorageError] = []
    for password in ("wrong", "right"):
        address = dsn.replace("trunkline@", f"{guest}:{password}@")
        async with open_pool(address, SETTINGS) as theirs, asyncio.timeout(60):
            with pytest.raises(StorageRefused) as caught:
                await sync(theirs, [item("read")])
            errors.append(caught.value)
            if password == "right":
                assert await ItemRepository(theirs, "tools").count_visible(None) == 1

    for error in errors:
        assert_readable(error, "storage_refused")
        assert "wrong" not in str(error)
    assert "password" in str(errors[0])
    assert "right" in str(errors[1])  # "Grant it the right"
    assert await everything(database) == before


async def test_a_read_only_database_keeps_serving_and_takes_lists_again_when_it_may(
    dsn: str, database: Database
) -> None:
    await sync(database, [item("send")])
    before, name = await everything(database), await database.fetchval("SELECT current_database()")
    await database.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    async with open_pool(dsn, SETTINGS) as reading:
        for items in ([item("send")], [item("read")]):
            with pytest.raises(StorageReadOnly) as caught:
                await sync(reading, items)
            assert_readable(caught.value, "storage_read_only")
        assert await everything(reading) == before
        with pytest.raises(StorageReadOnly):
            await OutboxRepository(reading).claim(1, seconds=60)

    async with database.acquire() as connection:
        await connection.execute("SET transaction_read_only = off")
        await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    async with open_pool(dsn, SETTINGS) as writing:
        assert (await sync(writing, [item("read")])).changed


@pytest.fixture
async def small_disk(postgres: Cluster, template: str) -> AsyncIterator[Disk]:
    """A database on a disk of its own, on which there is hardly any room."""
    with mounted(postgres.socket / f"disk-{uuid4().hex}", "24m") as disk:
        admin = await asyncpg.connect(postgres.dsn("postgres"))
        name = f"small_{uuid4().hex}"
        await admin.execute(f"CREATE TABLESPACE {name} LOCATION '{disk.folder}'")
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} TABLESPACE {name}")
        try:
            yield Disk(disk.folder, postgres.dsn(name))
        finally:
            await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await admin.execute(f"DROP TABLESPACE {name}")
            await admin.close()


async def test_a_full_disk_loses_nothing_and_is_used_again_when_there_is_room(
    small_disk: Disk, database: Database
) -> None:
    big = [item(f"tool{number}", description=os.urandom(500_000).hex()) for number in range(40)]
    async with open_pool(small_disk.dsn, SETTINGS) as full:
        await sync(full, [item("send")])
        before = await everything(full)

        with pytest.raises(StorageFull) as caught:
            await sync(full, big)
        assert_readable(caught.value, "storage_full")
        assert await everything(full) == before
        assert (await sync(database, [item("send")])).changed, "another database notices"

        await small_disk.grow("128m")
        assert (await sync(full, big)).synced["tools"].inserted == len(big)


# -- the schema -----------------------------------------------------------------------------------


async def test_tables_that_were_made_by_hand_before_are_taken_up(
    empty_dsn: str, database: Database
) -> None:
    first, second, *_ = migrations.load()
    connection = await asyncpg.connect(empty_dsn)
    try:
        await connection.execute(f"CREATE SCHEMA mcp; {first.up}")
        await connection.execute(second.up.partition(";")[0])

        await migrations.up(connection)

        async with open_pool(empty_dsn, SETTINGS) as made:
            assert await columns(made) == await columns(database)
            assert (await sync(made, [item("send")])).changed
    finally:
        await connection.close()


async def columns(database: Database) -> list[Any]:
    rows = await database.fetch(
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'mcp' ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


FORGOTTEN = "DELETE FROM mcp.schema_migrations WHERE version = 3"
IN_THE_WAY = """
DELETE FROM mcp.schema_migrations WHERE version = 6;
ALTER TABLE mcp.skill_categories DROP COLUMN keywords;
CREATE VIEW mcp.skill_categories_backup_0006 AS SELECT 1 AS id;
"""


@pytest.mark.parametrize("damage", [FORGOTTEN, IN_THE_WAY], ids=["forgotten", "in the way"])
async def test_a_schema_that_is_half_of_one_is_refused_and_left_as_it_is(
    database: Database, damage: str
) -> None:
    await sync(database, [item("send")])
    await database.execute(damage)
    before = await everything(database), await columns(database)

    async with database.acquire() as connection:
        with pytest.raises(MigrationError) as caught:
            await migrations.up(connection)

    assert_readable(caught.value, "migration_failed")
    assert (await everything(database), await columns(database)) == before


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "x" * 256, "\0" * 52])
async def test_a_name_that_is_none_or_over_the_limit_is_refused_with_a_sentence(
    database: Database, name: str
) -> None:
    await sync(database, [item("send")], name="x" * 255)
    before = await everything(database)

    for storing in (
        sync(database, [item("read")], name=name),
        ServerRepository(database).put(None, name, origin="api", config={}),
        OrgRepository(database).put(name),
        SkillRepository(database).put(None, name, ""),
    ):
        with pytest.raises(NotStorable, match="1 to 255") as caught:
            await storing
        assert_readable(caught.value, "not_storable")

    assert await everything(database) == before


async def test_a_listing_of_an_organisation_that_does_not_exist_leaves_nothing(
    database: Database,
) -> None:
    before = await everything(database)

    with pytest.raises(OrgNotFound) as caught:
        await sync(database, [item("send")], org=uuid4())

    assert_readable(caught.value, "org_not_found")
    assert await everything(database) == before


async def test_a_name_that_two_servers_of_a_scope_want_is_the_first_ones(
    database: Database,
) -> None:
    acme = await OrgRepository(database).put("acme")
    await sync(database, [item("send")], name="one")
    await sync(database, [item("send")], name="three", org=acme)

    stored = await sync(database, [item("send"), item("read"), item("x" * 65)], name="two")

    assert stored.left_out == {
        "send": "Another server has the name 'send'.",
        "x" * 65: "Its name is longer than 64 characters.",
    }
    rows = await ItemRepository(database, "tools").list_visible(None)
    assert [row.name for row in rows] == ["send", "read"]


# -- what downstreams say -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd", ["nul\0nul", "half\ud800", "\udc00\ud800", "\ue0000000", "\uffff🧀"]
)
@pytest.mark.parametrize("kind", KINDS)
async def test_odd_characters_come_back_as_they_were_from_everywhere(
    database: Database, kind: Kind, odd: str
) -> None:
    said = {odd: [odd, {"in": odd}]}
    listed = [Item(odd, odd, said), item("next")]

    stored = await sync(database, listed, name=odd, kind=kind, about=said, config=said)
    again = await sync(database, listed, name=odd, kind=kind, about=said, config=said)

    (server,) = await ServerRepository(database).list_scope(None)
    rows = await ItemRepository(database, kind).of_server(None, server.id)
    assert (server.name, server.about, server.config) == (odd, said, said)
    assert [(row.own_name, row.name) for row in rows] == [(odd, odd), ("next", "next")]
    assert rows[0].definition == said
    assert stored.server == again.server == server
    assert not again.changed


def deep(levels: int) -> Json:
    value: Json = {}
    for _ in range(levels):
        value = {"in": value}
    return value


UNSAYABLE: list[Any] = [
    float("nan"),
    float("inf"),  # what 1e400 is read as
    [{"half\ud800": -float("inf")}],
    b"\xff",
    object(),
    deep(5_000),
]


@pytest.mark.parametrize("value", UNSAYABLE, ids=lambda value: type(value).__name__)
async def test_what_json_cannot_say_is_left_out_of_the_items_and_refused_of_the_server(
    database: Database, value: Any
) -> None:
    await sync(database, [item("send")], name="other")

    stored = await sync(database, [item("a"), Item("bad", "bad", {"x": value}), item("b")])
    before = await everything(database)
    for storing in (
        sync(database, [item("c")], about={"x": value}),
        sync(database, [item("c")], config={"x": value}),
    ):
        with pytest.raises(NotStorable, match="cannot be written as JSON") as caught:
            await storing
        assert_readable(caught.value, "not_storable")

    assert list(stored.left_out) == ["bad"]
    assert "cannot be written as JSON" in stored.left_out["bad"]
    rows = await ItemRepository(database, "tools").list_visible(None)
    assert [row.name for row in rows] == ["send", "a", "b"]
    assert await everything(database) == before


async def test_words_about_numbers_that_are_none_are_words(database: Database) -> None:
    stored = await sync(database, [item("send", description="NaN, Infinity or 1e400")])

    assert stored.left_out == {}


async def test_descriptions_of_ten_megabytes_are_kept_beside_their_neighbours(
    database: Database,
) -> None:
    big = [item(f"big{number}", description=str(number) * 10_000_000) for number in range(5)]

    await sync(database, [item("first"), *big, item("last")], about={"instructions": "x" * 10**7})
    again = await sync(
        database, [item("first"), *big, item("last")], about={"instructions": "x" * 10**7}
    )

    rows = await ItemRepository(database, "tools").list_visible(None)
    assert [len(row.definition["description"]) for row in rows] == [0, *[10_000_000] * 5, 0]
    assert not again.changed


async def test_a_list_of_a_hundred_thousand_items_is_stored_whole(database: Database) -> None:
    await sync(database, [item("send")], name="other")
    items = [item(f"tool{number}") for number in range(100_000)]

    stored = await sync(database, items)
    again = await sync(database, items)
    emptied = await sync(database, [])

    assert stored.synced["tools"].inserted == emptied.synced["tools"].hidden == len(items)
    assert not again.changed
    rows = await ItemRepository(database, "tools").list_visible(None)
    assert [row.name for row in rows] == ["send"]
    assert await database.fetchval("SELECT count(*) FROM mcp.outbox") == len(items) + 1

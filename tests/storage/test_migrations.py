"""Up, down, up again; whole or not at all; once, whoever starts."""

import asyncio
import dataclasses
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from tests.storage.filling import contents, fill
from trunkline.errors import MigrationEdited, MigrationError, SchemaTooNew, SchemaTooOld
from trunkline.storage import migrations
from trunkline.storage.migrations import Migration

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
ALL = migrations.load()
UP_IN_A_PROCESS = """
import asyncio, sys, asyncpg
from trunkline.storage import migrations

async def main():
    connection = await asyncpg.connect(sys.argv[1])
    sys.stdin.readline()
    print(len(await migrations.up(connection)))
    await connection.close()

asyncio.run(main())
"""


async def schema(connection: Any) -> list[str]:
    """Everything that a migration can make, as text."""
    rows = await connection.fetch("""
        SELECT format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable,
            column_default) FROM information_schema.columns WHERE table_schema = 'mcp'
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'mcp'
        UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid)
            FROM pg_constraint WHERE connamespace = to_regnamespace('mcp')
        UNION ALL SELECT format('%s %s', sequencename, max_value)
            FROM pg_sequences WHERE schemaname = 'mcp'
        ORDER BY 1
    """)
    return [row[0] for row in rows]


def statements(text: str) -> list[str]:
    """The statements of a migration, each with its semicolon."""
    return re.findall(r"[^;]+;", re.sub(r"--.*", "", text))


def broken(text: str, at: int) -> str:
    """A migration that fails after so many of its statements."""
    parts = statements(text)
    return "".join([*parts[:at], "\nSELECT 1 / 0;", *parts[at:]])


def with_one(migration: Migration, **changes: Any) -> list[Migration]:
    """All migrations, one of them changed."""
    other = dataclasses.replace(migration, **changes)
    return [other if one.version == migration.version else one for one in ALL]


async def test_up_applies_everything_once(connection: asyncpg.Connection) -> None:
    assert await migrations.up(connection) == list(ALL)
    assert await migrations.up(connection) == []

    await migrations.check(connection)
    lines = await migrations.status(connection)
    assert [line.name for line in lines] == [one.name for one in ALL]
    assert all(line.applied_at is not None and not line.note for line in lines)


async def test_check_and_status_change_nothing(connection: asyncpg.Connection) -> None:
    with pytest.raises(SchemaTooOld, match=r"0001_catalog.*migrate up"):
        await migrations.check(connection)

    assert [line.applied_at for line in await migrations.status(connection)] == [None] * len(ALL)
    assert await connection.fetchval("SELECT to_regnamespace('mcp')") is None


async def test_a_current_schema_is_only_read(connection: asyncpg.Connection) -> None:
    await migrations.up(connection)
    await connection.execute("SET default_transaction_read_only = on")

    assert await migrations.up(connection) == []
    await migrations.check(connection)


async def test_a_read_only_database_is_told_of_in_a_sentence(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("SET default_transaction_read_only = on")

    with pytest.raises(MigrationError, match="read-only"):
        await migrations.up(connection)


async def test_a_user_without_rights_is_told_of_in_a_sentence(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("CREATE ROLE nobody_in_particular; SET ROLE nobody_in_particular")

    try:
        with pytest.raises(MigrationError, match="may not change the schema"):
            await migrations.up(connection)
    finally:
        await connection.execute("RESET ROLE; DROP ROLE nobody_in_particular")


async def test_ten_processes_that_start_at_once_migrate_once(empty_dsn: str) -> None:
    async def start() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            UP_IN_A_PROCESS,
            empty_dsn,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT / "server",
        )

    processes = [await start() for _ in range(10)]
    try:
        with anyio.fail_after(60):
            ends = await asyncio.gather(*(one.communicate(b"\n") for one in processes))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()

    assert [process.returncode for process in processes] == [0] * 10, ends
    assert sum(int(out.split()[-1]) for out, _ in ends) == len(ALL)


async def test_down_and_up_keep_every_row_and_every_id(
    empty_dsn: str, connection: asyncpg.Connection
) -> None:
    await migrations.up(connection)
    async with asyncpg.create_pool(empty_dsn, min_size=1, max_size=2) as pool:
        await fill(pool)
    full, shape = await contents(connection), await schema(connection)
    assert all(full.values())

    for target in range(len(ALL) - 1, -1, -1):
        await migrations.down(connection, to=target)
        await migrations.up(connection)

        now = await contents(connection)
        assert {table: len(rows) for table, rows in now.items()} == {
            table: len(rows) for table, rows in full.items()
        }
        # The errands say that the index has to have everything back; all else is as it was.
        assert now | {"outbox": []} == full | {"outbox": []}
        assert await schema(connection) == shape


async def test_an_older_release_does_not_see_what_belongs_to_an_organisation(
    empty_dsn: str, connection: asyncpg.Connection
) -> None:
    await migrations.up(connection)
    async with asyncpg.create_pool(empty_dsn, min_size=1, max_size=2) as pool:
        await fill(pool)
    before = await connection.fetch("SELECT id FROM mcp.tools WHERE is_global ORDER BY id")
    tools = [row["id"] for row in await connection.fetch("SELECT id FROM mcp.tools")]

    await migrations.down(connection, to=4)

    assert await connection.fetch("SELECT id FROM mcp.tools ORDER BY id") == before
    gone = await connection.fetch(
        "SELECT item_id FROM mcp.outbox WHERE kind = 'tools' AND operation = 'delete'"
    )
    assert {row["item_id"] for row in gone} == set(tools) - {row["id"] for row in before}


async def test_rows_of_a_release_without_tenants_become_global(
    connection: asyncpg.Connection,
) -> None:
    await migrations.up(connection, to=4)
    await connection.execute("""
        INSERT INTO mcp.servers (name, origin) VALUES ('mail', 'file');
        INSERT INTO mcp.tools (source_server_id, own_name, own_hash, name, name_hash, definition,
            content_hash, position)
        SELECT 1, name, sha256(name::bytea), name, sha256(name::bytea), '{}', sha256(''), 0
        FROM unnest(ARRAY['send', 'read']) AS name;
        INSERT INTO mcp.call_statistics (tool_id, calls) SELECT id, 7 FROM mcp.tools;
    """)

    assert 5 in [one.version for one in await migrations.up(connection)]

    rows = await connection.fetch("SELECT name, org_id, is_global FROM mcp.tools ORDER BY id")
    assert [tuple(row) for row in rows] == [("send", None, True), ("read", None, True)]
    assert await connection.fetchval("SELECT sum(calls) FROM mcp.call_statistics") == 14


async def test_everybody_is_dealt_24_skill_cards_in_six_groups(
    connection: asyncpg.Connection,
) -> None:
    await migrations.up(connection)

    cards = await connection.fetch("SELECT * FROM mcp.skill_categories ORDER BY id")
    groups = Counter(row["group_name"] for row in cards)
    assert list(groups) == [
        "Productivity",
        "Communication",
        "Data",
        "File",
        "Integration",
        "System",
    ]
    assert set(groups.values()) == {4}
    assert [row["id"] for row in cards] == list(range(1, 25))
    assert all(row["is_global"] and row["description"] and row["keywords"] for row in cards)


async def test_a_skill_of_an_older_release_keeps_its_id_and_its_words(
    connection: asyncpg.Connection,
) -> None:
    await migrations.up(connection, to=5)
    await connection.execute("""
        INSERT INTO mcp.orgs (name) VALUES ('acme');
        INSERT INTO mcp.skill_categories (name, description, org_id, is_global)
        SELECT 'notes', 'Ours.', id, FALSE FROM mcp.orgs;
        INSERT INTO mcp.skill_categories (name, description)
        VALUES ('email', 'Letters.'), ('media', ''), ('chess', 'Games.');
    """)

    await migrations.up(connection)

    rows = await connection.fetch(
        "SELECT id, name, description, group_name FROM mcp.skill_categories ORDER BY id"
    )
    told = {row["id"]: (row["name"], row["description"], row["group_name"]) for row in rows}
    assert told[1] == ("notes", "Ours.", "")
    assert told[2] == ("email", "Letters.", "Communication")
    assert told[3][0::2] == ("media", "File")
    assert told[3][1].startswith("Media: ")
    assert told[4] == ("chess", "Games.", "")
    assert list(told) == list(range(1, 4 + 22 + 1))


async def test_a_card_that_was_edited_or_deleted_stays_so_on_the_way_down_and_up(
    connection: asyncpg.Connection,
) -> None:
    await migrations.up(connection)
    await connection.execute("""
        UPDATE mcp.skill_categories SET group_name = 'Letters', keywords = '{stamp}',
            description = 'By post.' WHERE name = 'email';
        DELETE FROM mcp.skill_categories WHERE name = 'calendar';
    """)
    before = await connection.fetch("SELECT * FROM mcp.skill_categories ORDER BY id")

    for target in (5, 0):
        await migrations.down(connection, to=target)
        await migrations.up(connection)

        assert await connection.fetch("SELECT * FROM mcp.skill_categories ORDER BY id") == before


@pytest.mark.parametrize("migration", ALL, ids=lambda one: one.name)
async def test_a_migration_that_fails_leaves_nothing_behind(
    migration: Migration, connection: asyncpg.Connection
) -> None:
    await migrations.up(connection, to=migration.version - 1)
    before, count = await schema(connection), len(statements(migration.up))

    for at in {1, count // 2, count}:
        with pytest.raises(MigrationError, match=f"{migration.name} failed"):
            await migrations.up(
                connection, migrations=with_one(migration, up=broken(migration.up, at))
            )
        assert await schema(connection) == before

    assert migration in await migrations.up(connection)


@pytest.mark.parametrize("migration", ALL, ids=lambda one: one.name)
async def test_a_way_back_that_fails_leaves_everything_there(
    migration: Migration, empty_dsn: str, connection: asyncpg.Connection
) -> None:
    await migrations.up(connection)
    async with asyncpg.create_pool(empty_dsn, min_size=1, max_size=2) as pool:
        await fill(pool)
    full = await contents(connection)
    await migrations.down(connection, to=migration.version)
    before, count = await schema(connection), len(statements(migration.down))

    for at in {1, count // 2, count}:
        other = with_one(migration, down=broken(migration.down, at))
        with pytest.raises(MigrationError, match=f"{migration.name} failed"):
            await migrations.down(connection, to=0, migrations=other)
        assert await schema(connection) == before

    await migrations.up(connection)
    assert await contents(connection) | {"outbox": []} == full | {"outbox": []}


async def test_an_edited_migration_is_refused_by_its_name(connection: asyncpg.Connection) -> None:
    await migrations.up(connection)
    edited = with_one(ALL[1], up=ALL[1].up + "\n-- another thought")

    with pytest.raises(MigrationEdited, match=r"0002_skills\.sql was changed"):
        await migrations.up(connection, migrations=edited)
    with pytest.raises(MigrationEdited):
        await migrations.check(connection, migrations=edited)
    assert [bool(one.note) for one in await migrations.status(connection, migrations=edited)] == [
        one.version == 2 for one in ALL
    ]


async def test_a_schema_of_a_newer_program_is_refused_with_the_version_it_needs(
    connection: asyncpg.Connection,
) -> None:
    wishes = Migration(ALL[-1].version + 1, "wishes", "SELECT 1;", "SELECT 1;")
    await migrations.up(connection, migrations=[*ALL, wishes])
    await connection.execute(
        "UPDATE mcp.schema_migrations SET program = '9.1.0' WHERE version = $1", wishes.version
    )

    for attempt in (migrations.up(connection), migrations.check(connection)):
        with pytest.raises(SchemaTooNew, match=rf"{wishes.name}.*Start Trunkline 9\.1\.0 or newer"):
            await attempt
    with pytest.raises(SchemaTooNew):
        await migrations.down(connection, to=0)
    assert (await migrations.status(connection))[-1].note


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"0001_a.sql": "SELECT 1;"}, "no way back"),
        ({"first.sql": "SELECT 1;"}, "not named like a migration"),
        ({"0001_a.sql": "SELECT 1;\nCOMMIT;", "0001_a.down.sql": ""}, "ends a transaction"),
        (
            {"0001_a.sql": "", "0001_a.down.sql": "", "0001_b.sql": "", "0001_b.down.sql": ""},
            "one number",
        ),
    ],
)
async def test_a_folder_that_cannot_be_trusted_is_refused(
    files: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(MigrationError, match=sentence):
        migrations.load(tmp_path)

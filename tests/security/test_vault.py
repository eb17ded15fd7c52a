"""The vault against a real database: what comes back, what does not open, and new keys."""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from pydantic import SecretStr

from tests.databases import database_of
from trunkline.errors import OrgNotFound, StorageError
from trunkline.security.masking.masking import MASK, Secrets
from trunkline.security.vault.keys import Key, KeyRing, VaultKeyInvalid, VaultLocked
from trunkline.security.vault.rotation import Rotation, Rotator
from trunkline.security.vault.secret import VaultDamaged
from trunkline.security.vault.vault import Secret, Vault
from trunkline.settings import DatabaseSettings, VaultSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.vault import VaultKeys

pytestmark = pytest.mark.anyio

LIMIT = 20.0
TOKEN = Secret(access_token="ghp_0123456789abcdef")
FULL = Secret(
    access_token="access-of-ada",
    refresh_token="refresh-of-ada",
    expires_at=datetime.now(UTC) + timedelta(hours=1),
    scopes=("repo", "user"),
    extra={"client": {"id": "abc"}, "issuer": "https://example.com"},
)


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return database_of(tmp_path)


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with connected(dsn) as database:
        yield database


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator[Database]:
    settings = DatabaseSettings(max_connections=4, connect_timeout=5.0)
    async with open_pool(dsn, settings) as database:
        await database.wait_available(LIMIT)
        await OrgRepository(database).put("acme")
        yield database


def keys(home: Path, key: str | None = None, *old: str) -> KeyRing:
    given = None if key is None else SecretStr(key)
    return KeyRing(VaultSettings(key=given, old_keys=tuple(map(SecretStr, old))), home)


@asynccontextmanager
async def running(vault: Vault) -> AsyncGenerator[Vault]:
    """A vault that follows what others change."""
    task = asyncio.create_task(vault.run())
    try:
        with anyio.fail_after(LIMIT):
            # It keeps nothing in memory until it hears of changes.
            while vault.kept(None, "probe", "probe") is None:
                await vault.get(None, "probe", "probe")
                await asyncio.sleep(0.01)
        yield vault
    finally:
        task.cancel()
        await asyncio.wait({task})


async def counts(database: Database) -> dict[str, int]:
    return await VaultKeys(database).count_by_key()


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 - what it looks at tells nobody
            await asyncio.sleep(0.01)


async def test_a_secret_comes_back_as_it_was_put(database: Database, tmp_path: Path) -> None:
    vault = Vault(database, keys(tmp_path))

    await vault.put("acme", "ada", "github", FULL)

    assert await vault.get("acme", "ada", "github") == FULL
    assert await Vault(database, keys(tmp_path)).get("acme", "ada", "github") == FULL


async def test_a_secret_is_its_owners_alone(database: Database, tmp_path: Path) -> None:
    vault = Vault(database, keys(tmp_path))
    await vault.put("acme", "ada", "github", TOKEN)

    assert await vault.get(None, "ada", "github") is None
    assert await vault.get("globex", "ada", "github") is None
    assert await vault.get("acme", "bob", "github") is None
    assert await vault.get("acme", "ada", "gitlab") is None


async def test_a_name_with_any_character_keeps_its_secret(
    database: Database, tmp_path: Path
) -> None:
    vault = Vault(database, keys(tmp_path))
    await vault.put(None, "a\0da\ud800", "github\ue000", TOKEN)

    assert await vault.get(None, "a\0da\ud800", "github\ue000") == TOKEN
    assert (await Rotator(database, vault.keys).rotate()).rewrapped == 1
    assert await vault.get(None, "a\0da\ud800", "github\ue000") == TOKEN


async def test_nothing_of_a_secret_can_be_read_in_the_database(
    database: Database, tmp_path: Path
) -> None:
    await Vault(database, keys(tmp_path)).put(None, "ada", "github", FULL)

    row = await database.fetchrow("SELECT vault::text, sealed, wrapped_key FROM mcp.vault")

    assert row is not None
    stored = row[0].encode() + row["sealed"] + row["wrapped_key"]
    assert b"access-of-ada" not in stored
    assert b"refresh-of-ada" not in stored
    assert b"access-of-ada".hex().encode() not in stored


def test_a_secret_does_not_show_itself() -> None:
    assert "access-of-ada" not in repr(FULL)
    assert "refresh-of-ada" not in repr(FULL)
    assert "abc" not in repr(FULL)
    key = Key.new()
    assert key.text not in repr(key)
    assert repr(key.raw) not in repr(key)


async def test_a_row_that_was_moved_to_another_owner_does_not_open(
    database: Database, tmp_path: Path
) -> None:
    vault = Vault(database, keys(tmp_path))
    await vault.put("acme", "ada", "github", TOKEN)
    await vault.put("acme", "eve", "github", Secret(access_token="token-of-eve"))
    moves: list[tuple[str, str, tuple[str | None, str, str]]] = [
        ("org_id", "NULL", (None, "ada", "github")),
        ("user_name", "'bob'", ("acme", "bob", "github")),
        ("name", "'gitlab'", ("acme", "ada", "gitlab")),
    ]

    for column, value, owner in moves:
        await database.execute(f"UPDATE mcp.vault SET {column} = {value} WHERE user_name = 'ada'")
        with pytest.raises(VaultDamaged, match="changed or moved"):
            await vault.get(*owner)
        await database.execute(
            "UPDATE mcp.vault SET org_id = (SELECT id FROM mcp.orgs WHERE name = 'acme'), "
            "user_name = 'ada', name = 'github' WHERE user_name <> 'eve'"
        )
        assert await vault.get("acme", "ada", "github") == TOKEN


async def test_what_two_rows_have_exchanged_does_not_open(
    database: Database, tmp_path: Path
) -> None:
    vault = Vault(database, keys(tmp_path))
    await vault.put(None, "ada", "github", TOKEN)
    await vault.put(None, "eve", "github", Secret(access_token="token-of-eve"))

    await database.execute(
        "UPDATE mcp.vault AS one SET sealed = other.sealed, wrapped_key = other.wrapped_key "
        "FROM mcp.vault AS other WHERE one.user_name <> other.user_name"
    )

    for user in ("ada", "eve"):
        with pytest.raises(VaultDamaged):
            await vault.get(None, user, "github")


async def test_a_wrong_key_is_said_and_opens_nothing(database: Database, tmp_path: Path) -> None:
    first, second = Key.new(), Key.new()
    await Vault(database, keys(tmp_path, first.text)).put(None, "ada", "github", TOKEN)
    other = Vault(database, keys(tmp_path, second.text))

    with pytest.raises(VaultLocked, match=first.id) as refused:
        await other.get(None, "ada", "github")

    assert first.text not in str(refused.value)
    assert second.text not in str(refused.value)


async def test_a_process_without_the_key_makes_no_second_one(
    database: Database, tmp_path: Path
) -> None:
    await Vault(database, keys(tmp_path)).put(None, "ada", "github", TOKEN)
    elsewhere = tmp_path / "replica"

    with pytest.raises(VaultLocked, match=r"copy the vault\.key"):
        await Vault(database, keys(elsewhere)).put(None, "bob", "github", TOKEN)

    assert not (elsewhere / "vault.key").exists()


async def test_processes_that_need_a_first_key_at_once_agree_on_one(
    database: Database, tmp_path: Path
) -> None:
    vaults = [Vault(database, keys(tmp_path)) for _ in range(8)]

    await asyncio.gather(
        *(vault.put(None, f"user{rank}", "github", TOKEN) for rank, vault in enumerate(vaults))
    )

    assert len(await counts(database)) == 1
    assert (tmp_path / "vault.key").stat().st_mode & 0o777 == 0o600
    assert [name for name in os.listdir(tmp_path) if "vault" in name] == ["vault.key"]  # noqa: PTH208


@pytest.mark.parametrize("text", ["", "short", "x" * 44, "zz" * 32, "a" * 63])
def test_what_is_no_key_is_refused_without_being_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(VaultKeyInvalid, match="TRUNKLINE_VAULT__KEY is no key") as refused:
        _ = keys(tmp_path, text).sealing

    assert not text or text not in str(refused.value)


def test_a_key_is_understood_in_hex_and_in_both_kinds_of_base64(tmp_path: Path) -> None:
    key = Key.of(b"\xfb\xff" * 16)
    urlsafe = key.text.replace("+", "-").replace("/", "_").rstrip("=")

    found = [keys(tmp_path, text).sealing for text in (key.text, key.raw.hex(), urlsafe)]

    assert [one and one.id for one in found] == [key.id] * 3


# -- memory -----------------------------------------------------------------------------------


async def test_a_secret_in_memory_needs_no_database(dsn: str, tmp_path: Path) -> None:
    async with connected(dsn) as database, running(Vault(database, keys(tmp_path))) as vault:
        await vault.put(None, "ada", "github", TOKEN)
        await vault.get(None, "ada", "github")
        await database.execute("DELETE FROM mcp.vault")

        kept = vault.kept(None, "ada", "github")

        assert kept is not None
        assert kept.secret == TOKEN


async def test_what_another_process_changes_counts_at_once(dsn: str, tmp_path: Path) -> None:
    async with connected(dsn) as one, connected(dsn) as two:
        async with running(Vault(one, keys(tmp_path))) as here:
            there, heard = Vault(two, keys(tmp_path)), list[object]()
            here.listen(lambda *owner: heard.append(owner))
            assert await here.get("acme", "ada", "github") is None

            await there.put("acme", "ada", "github", TOKEN)
            await until(lambda: heard)
            assert await here.get("acme", "ada", "github") == TOKEN
            await there.forget("acme", "ada", "github")
            await until(lambda: len(heard) == 2)
            assert await here.get("acme", "ada", "github") is None

    assert heard == [("acme", "ada", "github")] * 2


async def test_a_vault_that_hears_of_no_changes_keeps_nothing(
    database: Database, tmp_path: Path
) -> None:
    vault = Vault(database, keys(tmp_path))
    await vault.put(None, "ada", "github", TOKEN)

    await vault.get(None, "ada", "github")

    assert vault.kept(None, "ada", "github") is None


async def test_what_was_changed_while_nobody_listened_is_read_anew(
    dsn: str, tmp_path: Path
) -> None:
    async with connected(dsn) as one, connected(dsn) as two:
        async with running(Vault(one, keys(tmp_path))) as vault:
            await vault.put(None, "ada", "github", TOKEN)
            await vault.get(None, "ada", "github")
            heard = list[object]()
            vault.listen(lambda *owner: heard.append(owner))
            # Cut the connection that listens, and change the row in the same moment.
            await two.execute(
                "WITH cut AS (SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                f"WHERE application_name = '{one.name}') "
                "DELETE FROM mcp.vault WHERE (SELECT count(*) FROM cut) > 0"
            )

            await until(lambda: (None, "ada", "github") in heard)

            assert await vault.get(None, "ada", "github") is None


async def test_many_that_ask_at_once_ask_the_database_once(dsn: str, tmp_path: Path) -> None:
    async with connected(dsn) as database, running(Vault(database, keys(tmp_path))) as vault:
        await vault.put(None, "ada", "github", TOKEN)
        before = await reads_of(database)

        found = await asyncio.gather(*(vault.get(None, "ada", "github") for _ in range(50)))

        assert found == [TOKEN] * 50
        await until_async(database, before + 1)
        assert await reads_of(database) == before + 1


async def reads_of(database: Database) -> int:
    """How often rows of the vault have been looked up by their owner."""
    await database.execute("SELECT pg_stat_force_next_flush()")
    return await database.fetchval(
        "SELECT coalesce(idx_scan, 0) FROM pg_stat_user_indexes "
        "WHERE indexrelname = 'idx_vault_owner'"
    )


async def until_async(database: Database, number: int) -> None:
    with anyio.fail_after(LIMIT):
        while await reads_of(database) < number:  # noqa: ASYNC110 - the counters lag behind
            await asyncio.sleep(0.05)


async def test_a_database_that_is_away_is_said_and_lets_nobody_in(tmp_path: Path) -> None:
    settings = DatabaseSettings(connect_timeout=0.2)
    async with open_pool("postgresql://nobody@127.0.0.1:1/nothing", settings) as database:
        vault = Vault(database, keys(tmp_path))

        with anyio.fail_after(LIMIT):
            with pytest.raises(StorageError):
                await vault.get(None, "ada", "github")
            with pytest.raises(StorageError):
                await vault.put(None, "ada", "github", TOKEN)


async def test_an_organisation_there_is_none_of_keeps_no_secret(
    database: Database, tmp_path: Path
) -> None:
    vault = Vault(database, keys(tmp_path))

    with pytest.raises(OrgNotFound):
        await vault.put("nowhere", "ada", "github", TOKEN)

    assert await database.fetchval("SELECT count(*) FROM mcp.vault") == 0


async def test_a_secret_that_comes_out_is_masked_from_then_on(
    database: Database, tmp_path: Path
) -> None:
    await Vault(database, keys(tmp_path)).put(None, "ada", "github", FULL)
    masked = Secrets()

    await Vault(database, keys(tmp_path), masked=masked).get(None, "ada", "github")

    assert masked.mask("access-of-ada and refresh-of-ada") == f"{MASK} and {MASK}"


# -- new keys ---------------------------------------------------------------------------------


async def test_rotation_brings_every_secret_under_a_new_key(
    database: Database, tmp_path: Path
) -> None:
    vault = Vault(database, keys(tmp_path))
    for rank in range(450):
        await vault.put(None, f"user{rank}", "github", Secret(access_token=f"token-{rank}"))
    old = vault.keys.sealing
    assert old is not None
    sealed = await database.fetch("SELECT sealed FROM mcp.vault ORDER BY user_name")

    rotation = await Rotator(database, vault.keys).rotate()

    new = vault.keys.sealing
    assert new is not None
    assert rotation == Rotation(new.id, 450, {})
    assert new.id != old.id
    assert await counts(database) == {new.id: 450}
    assert old.text not in (tmp_path / "vault.key").read_text()
    assert sealed == await database.fetch("SELECT sealed FROM mcp.vault ORDER BY user_name")
    for rank in (0, 200, 449):
        assert await vault.get(None, f"user{rank}", "github") == Secret(
            access_token=f"token-{rank}"
        )


async def test_a_process_that_runs_meanwhile_reads_and_writes_on(dsn: str, tmp_path: Path) -> None:
    async with connected(dsn) as one, connected(dsn) as two:
        async with running(Vault(one, keys(tmp_path))) as serving:
            other, done = Rotator(two, keys(tmp_path)), asyncio.Event()
            for rank in range(100):
                await serving.put(None, f"user{rank}", "github", TOKEN)

            async def use() -> int:
                used = 0
                while not done.is_set():
                    await serving.put(None, f"new{used}", "github", TOKEN)
                    assert await serving.get(None, f"user{used % 100}", "github") == TOKEN
                    used += 1
                return used

            using = asyncio.create_task(use())
            with anyio.fail_after(60):
                for _ in range(5):
                    await other.rotate()
                done.set()
                used = await using

            last = await other.rotate()
            assert last.left == {}
            for rank in range(used):
                assert await Vault(two, keys(tmp_path)).get(None, f"new{rank}", "github") == TOKEN


async def test_nothing_is_sealed_while_the_keys_are_being_changed(dsn: str, tmp_path: Path) -> None:
    async with connected(dsn) as one, connected(dsn) as two:
        vault, ring, rows = Vault(one, keys(tmp_path)), keys(tmp_path), VaultKeys(two)
        await vault.put(None, "ada", "github", TOKEN)
        old, new = ring.sealing, Key.new()
        assert old is not None

        async with two.transaction() as connection:
            await rows.hold_keys(connection, to_change_them=True)
            putting = asyncio.create_task(vault.put(None, "bob", "github", TOKEN))
            with anyio.fail_after(LIMIT):
                while not await waiting_for_keys(two):  # noqa: ASYNC110 - it waits in the database
                    await asyncio.sleep(0.01)
            ring.write([new, old])
        await putting

        assert await counts(two) == {old.id: 1, new.id: 1}


async def waiting_for_keys(database: Database) -> int:
    return await database.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    )


@pytest.mark.parametrize("lots", [0, 1, 2])
async def test_a_rotation_that_was_interrupted_is_finished_by_the_next(
    database: Database, tmp_path: Path, lots: int
) -> None:
    vault = Vault(database, keys(tmp_path))
    for rank in range(450):
        await vault.put(None, f"user{rank}", "github", TOKEN)
    old = vault.keys.sealing
    assert old is not None

    await interrupted_rotation(Rotator(database, vault.keys), lots)
    halfway = await counts(database)
    begun = vault.keys.sealing
    assert begun is not None
    assert begun.id != old.id
    assert halfway.get(begun.id, 0) == min(200 * lots, 450)
    assert await Vault(database, keys(tmp_path)).get(None, "user449", "github") == TOKEN
    assert await Vault(database, keys(tmp_path)).get(None, "user0", "github") == TOKEN
    rotation = await Rotator(database, keys(tmp_path)).rotate()

    assert rotation == Rotation(begun.id, 450 - min(200 * lots, 450), {})
    assert old.text not in (tmp_path / "vault.key").read_text()


async def interrupted_rotation(rotator: Rotator, lots: int) -> None:
    """Rotate as a process does that is killed after so many transactions."""
    sealing = await rotator.begin()
    assert sealing is not None
    last = None
    for _ in range(lots):
        last = (await rotator.rewrap_lot(sealing, last))[-1][0]


async def test_given_keys_are_rotated_with_the_older_one_at_hand(
    database: Database, tmp_path: Path
) -> None:
    first, second = Key.new(), Key.new()
    await Vault(database, keys(tmp_path, first.text)).put(None, "ada", "github", TOKEN)
    both = Vault(database, keys(tmp_path, second.text, first.text))
    assert await both.get(None, "ada", "github") == TOKEN

    rotation = await Rotator(database, both.keys).rotate()

    assert rotation == Rotation(second.id, 1, {})
    assert await Vault(database, keys(tmp_path, second.text)).get(None, "ada", "github") == TOKEN
    assert not (tmp_path / "vault.key").exists()


async def test_what_no_key_opens_is_told_and_left(database: Database, tmp_path: Path) -> None:
    first, second = Key.new(), Key.new()
    await Vault(database, keys(tmp_path, first.text)).put(None, "ada", "github", TOKEN)
    await Vault(database, keys(tmp_path, second.text, first.text)).put(None, "bob", "x", TOKEN)

    rotation = await Rotator(database, keys(tmp_path, second.text)).rotate()

    assert rotation == Rotation(second.id, 0, {first.id: 1})
    assert await Vault(database, keys(tmp_path, first.text)).get(None, "ada", "github") == TOKEN


async def test_a_damaged_row_does_not_keep_the_others_from_a_new_key(
    database: Database, tmp_path: Path
) -> None:
    vault = Vault(database, keys(tmp_path))
    for user in ("ada", "bob", "eve"):
        await vault.put(None, user, "github", TOKEN)
    old = vault.keys.sealing
    assert old is not None
    await database.execute("UPDATE mcp.vault SET name = 'moved' WHERE user_name = 'bob'")

    rotation = await Rotator(database, vault.keys).rotate()

    assert rotation.rewrapped == 2
    assert rotation.left == {old.id: 1}
    assert await vault.get(None, "eve", "github") == TOKEN
    assert old.text in (tmp_path / "vault.key").read_text()


def test_a_key_file_that_was_named_has_to_be_there(tmp_path: Path) -> None:
    ring = KeyRing(VaultSettings(key_file=tmp_path / "missing.key"), tmp_path)

    with pytest.raises(VaultKeyInvalid, match=re.escape("missing.key")):
        _ = ring.sealing

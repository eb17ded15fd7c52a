"""API keys: how they look, whom they let in, and for how long."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.databases import database_of, server
from trunkline.errors import NotStorable, OrgNotFound
from trunkline.models import Role, Scope
from trunkline.security.identity.credentials import (
    Credential,
    CredentialExpired,
    CredentialInvalid,
    OrgRefused,
    Refused,
)
from trunkline.security.identity.keys import FORM, USE, Keys, Secret, make_secret
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.keys import (
    AllKeys,
    KeyNameTaken,
    KeyNotFound,
    KeyRepository,
    KeyRow,
    NewKey,
)
from trunkline.storage.repositories.orgs import OrgRepository

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    async with open_pool(database_of(tmp_path), DatabaseSettings(max_connections=3)) as opened:
        yield opened


async def at_once(_: float) -> None:
    """The schema is there."""


@asynccontextmanager
async def following(database: Database) -> AsyncGenerator[Keys]:
    """The keys of a database, as they are read and followed."""
    keys = Keys(database, at_once)
    running = asyncio.ensure_future(keys.run())
    try:
        async with asyncio.timeout(10):
            await keys.known.wait()
        yield keys
    finally:
        running.cancel()
        await asyncio.wait([running])


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - another connection brings it about
            await asyncio.sleep(0.01)


async def add(database: Database, name: str = "laptop", **described: Any) -> tuple[Secret, KeyRow]:
    org = described.pop("org", None)
    org_id = None if org is None else await OrgRepository(database).put(org)
    secret, new = make_secret(), NewKey(name=name, **described)
    return secret, await KeyRepository(database).add(org_id, secret.id, secret.hash, new)


def refusal(keys: Keys, key: str) -> type[Refused] | None:
    try:
        keys.credential(key)
    except Refused as error:
        return type(error)
    return None


# -- what they look like --------------------------------------------------------------------------


def test_a_key_falls_into_its_parts_in_one_way() -> None:
    for _ in range(200):
        secret = make_secret()
        prefix, key_id, rest = secret.key.split("_")

        assert (prefix, key_id, len(rest)) == ("tk", secret.id, 52)
        assert FORM.fullmatch(secret.key)


def test_no_two_keys_are_alike_and_none_shows_itself() -> None:
    secrets = [make_secret() for _ in range(1000)]

    assert len({secret.key for secret in secrets}) == len({secret.id for secret in secrets}) == 1000
    assert secrets[0].key not in repr(secrets[0]) + str(secrets[0])


async def test_what_is_stored_is_neither_the_key_nor_shown(database: Database) -> None:
    secret, row = await add(database)

    everything = str(await database.fetch("SELECT key::text FROM mcp.keys AS key"))
    assert secret.key not in everything
    assert secret.key.rpartition("_")[2] not in everything
    assert "hash" not in repr(row)


# -- whom they let in -----------------------------------------------------------------------------


async def test_a_key_lets_in_whom_it_was_made_for(database: Database) -> None:
    secret, row = await add(
        database,
        org="acme",
        user="ann",
        role=Role.OPERATOR,
        allow=("github",),
        deny=("github/delete_*",),
        orgs=("globex",),
    )

    async with following(database) as keys:
        credential = keys.credential(secret.key)
        again = keys.credential(secret.key)

    who = credential.principal
    assert (who.subject, who.org, who.user) == (f"key:{row.id}", "acme", "ann")
    assert (who.role, who.scope) == (Role.OPERATOR, Scope(("github",), ("github/delete_*",)))
    assert who.authorization is None
    assert again is credential
    assert keys.exist


@pytest.mark.parametrize(
    "forge",
    [
        lambda key, _: key[:-1] + ("a" if key[-1] != "a" else "b"),
        lambda key, _: key + "a",
        lambda key, _: key[:-1],
        lambda key, _: key.upper(),
        lambda key, _: key.replace("tk_", "TK_"),
        lambda key, other: other[:16] + key[16:],
        lambda key, other: key[:16] + other[16:],
        lambda key, _: key[:16],
        lambda key, _: f" {key}",
        lambda key, _: f"{key}\n",
        lambda key, _: key.replace("_", "\uff3f"),
        lambda key, _: key[:-1] + "\u0661",
        lambda key, _: "tk_" + "\u00e9" * 12 + key[15:],
        lambda key, _: "tk_" * 10_000,
        lambda key, _: "",
    ],
)
async def test_what_is_nearly_a_key_is_none(
    database: Database, forge: Callable[[str, str], str]
) -> None:
    secret, _ = await add(database)
    other, _ = await add(database, "phone")

    async with following(database) as keys:
        assert refusal(keys, secret.key) is None
        assert refusal(keys, forge(secret.key, other.key)) is CredentialInvalid


async def test_a_refusal_repeats_nothing_of_what_was_shown(database: Database) -> None:
    secret, _ = await add(database)
    forged = secret.key[:-2] + "aa"

    async with following(database) as keys:
        with pytest.raises(CredentialInvalid) as refused:
            keys.credential(forged)

    assert forged not in str(refused.value)
    assert secret.id not in str(refused.value)


async def test_a_key_switches_to_its_own_organisations_only(database: Database) -> None:
    secret, _ = await add(database, org="acme", orgs=("globex",))

    async with following(database) as keys:
        credential = keys.credential(secret.key)

    switched = credential.acting("globex")
    assert (switched.org, switched.subject) == ("globex", credential.principal.subject)
    assert credential.acting("globex") is switched
    assert credential.acting("acme") is credential.principal
    assert credential.acting(None) is credential.principal
    for org in ("initech", "Globex", "globex ", "", "*"):
        with pytest.raises(OrgRefused):
            credential.acting(org)


def test_what_is_remembered_of_one_credential_is_bounded() -> None:
    from trunkline.models import LOCAL
    from trunkline.security.identity.credentials import MOST_VARIANTS

    credential = Credential(LOCAL)
    for number in range(10 * MOST_VARIANTS):
        credential.acting(None, f"Bearer {number}")

    assert len(credential._variants) == MOST_VARIANTS  # pyright: ignore[reportPrivateUsage]


# -- for how long ---------------------------------------------------------------------------------


async def test_a_key_that_is_made_or_revoked_elsewhere_is_followed_at_once(
    database: Database,
) -> None:
    async with following(database) as keys:
        assert not keys.exist
        secret, row = await add(database)
        await until(lambda: refusal(keys, secret.key) is None)
        credential, told = keys.credential(secret.key), asyncio.Event()

        with credential.watching(lambda: told.set() if credential.is_over else None):
            await KeyRepository(database).revoke(row.org_id, row.id)
            async with asyncio.timeout(10):
                await told.wait()

        assert refusal(keys, secret.key) is CredentialInvalid
        assert keys.exist, "who has revoked the last key has not opened the door"


async def test_that_there_was_a_key_once_is_known_from_the_start(database: Database) -> None:
    _, row = await add(database)
    await KeyRepository(database).revoke(row.org_id, row.id)

    async with following(database) as keys:
        assert keys.exist


async def test_a_key_ends_when_it_expires(database: Database) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    secret, _ = await add(database, expires_at=soon)
    past, _ = await add(database, "old", expires_at=datetime.now(UTC) - timedelta(days=1))

    async with following(database) as keys:
        assert keys.credential(secret.key).expires_at == pytest.approx(soon.timestamp())
        await until(lambda: refusal(keys, secret.key) is CredentialExpired)
        assert refusal(keys, past.key) is CredentialInvalid


async def test_after_a_rotation_both_secrets_are_good_for_a_while(database: Database) -> None:
    old, row = await add(database)

    async with following(database) as keys:
        before = keys.credential(old.key)
        new = make_secret(row.id)
        await KeyRepository(database).rotate(None, row.id, new.hash, grace=timedelta(hours=1))
        await until(lambda: refusal(keys, new.key) is None)

        assert keys.credential(old.key) is before, "its streams need not be closed"
        assert not before.is_over
        assert before.expires_at == pytest.approx(time.time() + 3600, abs=60)
        assert keys.credential(new.key).principal is before.principal


async def test_without_grace_the_secret_before_ends_at_once(database: Database) -> None:
    old, row = await add(database)

    async with following(database) as keys:
        before = keys.credential(old.key)
        new = make_secret(row.id)
        await KeyRepository(database).rotate(None, row.id, new.hash, grace=timedelta())
        await until(lambda: refusal(keys, new.key) is None)

        assert refusal(keys, old.key) is CredentialInvalid
        assert before.is_over


async def test_the_second_rotation_ends_the_first_secret(database: Database) -> None:
    first, row = await add(database)
    second, third = make_secret(row.id), make_secret(row.id)
    for secret in (second, third):
        await KeyRepository(database).rotate(None, row.id, secret.hash, grace=timedelta(hours=1))

    async with following(database) as keys:
        found = [refusal(keys, secret.key) for secret in (first, second, third)]

    assert found == [CredentialInvalid, None, None]


async def test_a_key_that_is_as_it_was_keeps_its_credential_and_a_changed_one_does_not(
    database: Database,
) -> None:
    kept, _ = await add(database, "kept")
    changed, row = await add(database, "changed")

    async with following(database) as keys:
        before = keys.credential(kept.key), keys.credential(changed.key)
        await database.execute(
            "WITH key AS (UPDATE mcp.keys SET role = 'admin' WHERE id = $1) "
            "SELECT pg_notify('mcp_keys', '')",
            row.id,
        )
        await until(lambda: keys.credential(changed.key) is not before[1])

        assert keys.credential(changed.key).principal.role is Role.ADMIN
        assert before[1].is_over
        assert keys.credential(kept.key) is before[0]
        assert not before[0].is_over


async def test_keys_that_were_read_hold_while_the_database_is_away(tmp_path: Path) -> None:
    dsn = database_of(tmp_path)
    name = dsn.split("@/")[1].split("?")[0]
    async with (
        open_pool(dsn, DatabaseSettings(connect_timeout=0.2)) as database,
        open_pool(server().dsn("postgres"), DatabaseSettings()) as admin,
    ):
        secret, _ = await add(database)
        async with following(database) as keys:
            await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            try:
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1",
                    name,
                )
                await until(lambda: not database.is_available)
                assert refusal(keys, secret.key) is None
            finally:
                await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            await until(lambda: database.is_available)
            phone, _ = await add(database, "phone")
            await until(lambda: refusal(keys, phone.key) is None)


# -- what is noted --------------------------------------------------------------------------------


async def test_a_use_is_written_behind_and_once_a_minute(database: Database) -> None:
    secret, row = await add(database)

    async with following(database) as keys:
        for _ in range(100):
            keys.credential(secret.key)
        noted = dict(keys._used)  # pyright: ignore[reportPrivateUsage]
        await keys._write_used()  # pyright: ignore[reportPrivateUsage]
        keys.credential(secret.key)
        again = dict(keys._used)  # pyright: ignore[reportPrivateUsage]
    (after,) = await AllKeys(database).list_all()

    assert (list(noted), again) == ([row.id], {})
    assert after.last_used_at is not None
    assert abs(after.last_used_at.timestamp() - time.time()) < USE
    assert after == row, "its use does not make it another key"


async def test_what_was_used_last_is_written_before_the_end(database: Database) -> None:
    secret, _ = await add(database)

    async with following(database) as keys:
        keys.credential(secret.key)
    (after,) = await AllKeys(database).list_all()

    assert after.last_used_at is not None


# -- in the database ------------------------------------------------------------------------------


async def test_an_organisation_has_nothing_to_do_with_the_keys_of_another(
    database: Database,
) -> None:
    keys, orgs = KeyRepository(database), OrgRepository(database)
    _, row = await add(database, org="acme")
    globex = await orgs.put("globex")
    work: list[Coroutine[Any, Any, KeyRow]] = [
        keys.revoke(globex, row.id),
        keys.revoke(None, row.id),
        keys.rotate(globex, row.id, bytes(32), grace=timedelta()),
        keys.rotate(None, row.id, bytes(32), grace=timedelta()),
    ]

    for one in work:
        with pytest.raises(KeyNotFound):
            await one

    assert await keys.list_scope(globex) == await keys.list_scope(None) == []
    assert await keys.list_scope(row.org_id) == await AllKeys(database).list_live() == [row]


async def test_a_name_is_taken_within_its_organisation_until_it_is_revoked(
    database: Database,
) -> None:
    keys = KeyRepository(database)
    _, row = await add(database, org="acme")
    await add(database, org="globex")
    await add(database)

    with pytest.raises(KeyNameTaken):
        await add(database, org="acme")
    with pytest.raises(KeyNameTaken):
        await add(database)
    await keys.revoke(row.org_id, row.id)
    await add(database, org="acme")
    with pytest.raises(KeyNotFound):
        await keys.revoke(row.org_id, row.id)
    with pytest.raises(KeyNotFound):
        await keys.rotate(row.org_id, row.id, bytes(32), grace=timedelta())


async def test_what_cannot_be_stored_is_said(database: Database) -> None:
    from uuid import uuid4

    with pytest.raises(NotStorable):
        await add(database, "")
    with pytest.raises(NotStorable):
        await add(database, "x" * 256)
    with pytest.raises(OrgNotFound):
        await KeyRepository(database).add(uuid4(), "a" * 12, bytes(32), NewKey(name="laptop"))
    secret, row = await add(database, "null\0", user="half \ud800", deny=("x\0",))

    assert (row.name, row.user, row.deny) == ("null\0", "half \ud800", ("x\0",))
    assert secret.id == row.id


async def test_keys_that_were_read_hold_when_their_table_is_gone(database: Database) -> None:
    secret, _ = await add(database)

    async with following(database) as keys:
        await database.execute("ALTER TABLE mcp.keys RENAME TO keys_elsewhere")
        keys.credential(secret.key)
        assert not await keys._follow()  # pyright: ignore[reportPrivateUsage]
        await keys._write_used()  # pyright: ignore[reportPrivateUsage]
        assert refusal(keys, secret.key) is None
        await database.execute("ALTER TABLE mcp.keys_elsewhere RENAME TO keys")
        phone, _ = await add(database, "phone")
        await until(lambda: refusal(keys, phone.key) is None)

"""Credentials on their whole way: from the vault, through the gateway, to a server behind it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.databases import database_of
from tests.gateway_under_test import Gateway, gateway, until
from tests.journeys.raw_client import RawClient, raw_client
from tests.servers.processes import running, stdio_entry
from trunkline.models import State
from trunkline.security.identity.keys import make_secret
from trunkline.security.vault.keys import KeyRing
from trunkline.security.vault.vault import Secret, Vault
from trunkline.settings import DatabaseSettings, VaultSettings
from trunkline.storage.pool import open_pool
from trunkline.storage.repositories.keys import KeyRepository, NewKey
from trunkline.storage.repositories.orgs import OrgRepository

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

MAPPED: Json = {"Authorization": "Bearer ${user.token:github}", "X-User": "${user.name}"}


class Office:
    """Whoever gives out keys and tokens, beside the gateway and on the same database."""

    def __init__(self, keys: KeyRepository, orgs: OrgRepository, vault: Vault) -> None:
        self.vault = vault
        self._keys, self._orgs = keys, orgs

    async def key(self, user: str | None, org: str | None = None) -> str:
        """A key for a person."""
        org_id = None if org is None else await self._orgs.put(org)
        secret = make_secret()
        await self._keys.add(org_id, secret.id, secret.hash, NewKey(name=f"of {user}", user=user))
        return secret.key


@asynccontextmanager
async def office_of(folder: Path) -> AsyncGenerator[Office]:
    home = folder / "home"
    async with open_pool(database_of(home), DatabaseSettings(max_connections=2)) as database:
        await database.wait_available(30)
        vault = Vault(database, KeyRing(VaultSettings(), home))
        yield Office(KeyRepository(database), OrgRepository(database), vault)


class Desk:
    """One person at a modern client."""

    def __init__(self, client: RawClient, key: str, authorization: str | None) -> None:
        self._client, self._headers = client, {"X-API-Key": key}
        if authorization is not None:
            self._headers["Authorization"] = authorization

    async def ask(self, method: str, params: Json | None = None) -> Json:
        return await self._client.request(method, params, headers=self._headers)

    async def call(self, tool: str) -> Json:
        return await self.ask("tools/call", {"name": tool, "arguments": {}})

    async def headers(self) -> Json:
        """The headers with which this person's calls come to the server."""
        return (await self.call("github__whoami"))["structuredContent"]["headers"]

    async def tools(self) -> set[str]:
        return {tool["name"] for tool in (await self.ask("tools/list"))["tools"]}

    async def is_known(self) -> None:
        """Wait until the gateway has heard of the key."""
        async with asyncio.timeout(30):
            while self._client.status != 200:
                try:
                    await self.ask("tools/list")
                except Exception:  # noqa: BLE001 - whatever comes instead of a list
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def desk(served: Gateway, key: str, authorization: str | None = None) -> AsyncGenerator[Desk]:
    async with raw_client(served.mcp, "modern", opened=False) as client:
        made = Desk(client, key, authorization)
        await made.is_known()
        yield made


async def test_people_call_one_server_each_with_their_own_token(tmp_path: Path) -> None:
    async with running("everything") as server, office_of(tmp_path) as office:
        entry = {**server.entry(), "headers": MAPPED}
        ada, bob, eve = [await office.key(user) for user in ("ada", "bob", "eve")]
        for user in ("ada", "bob"):
            await office.vault.put(None, user, "github", Secret(access_token=f"token-of-{user}"))
        async with gateway({"github": entry}, tmp_path, identified=True) as served:
            assert served.report("github").state is State.DISCONNECTED
            async with (
                desk(served, ada) as adas,
                desk(served, bob) as bobs,
                desk(served, eve) as eves,
            ):
                await until(lambda: served.report("github").tools)
                seen = await asyncio.gather(*(one.headers() for one in [adas, bobs] * 20))
                refused = await eves.call("github__whoami")

    for rank, headers in enumerate(seen):
        user = ("ada", "bob")[rank % 2]
        assert headers["authorization"] == f"Bearer token-of-{user}"
        assert headers["x-user"] == user
        assert ada not in str(headers)
        assert bob not in str(headers)
    assert refused["isError"]
    assert refused["_meta"]["trunkline/error"] == {"code": "credential_missing", "server": "github"}
    assert "your own token 'github'" in refused["content"][0]["text"]


async def test_a_token_that_is_given_changed_and_taken_away_counts_at_once(tmp_path: Path) -> None:
    async with running("everything") as server, office_of(tmp_path) as office:
        entry = {**server.entry(), "headers": MAPPED}
        key = await office.key("ada", "acme")
        await office.vault.put(None, "eve", "github", Secret(access_token="token-of-eve"))
        eve = await office.key("eve")
        async with gateway({"github": entry}, tmp_path, identified=True) as served:
            async with desk(served, key) as adas, desk(served, eve):
                await until(lambda: served.report("github").tools)
                await until_async(adas, None)

                await office.vault.put("acme", "ada", "github", Secret(access_token="first-token"))
                await until_async(adas, "Bearer first-token")
                await office.vault.put("acme", "ada", "github", Secret(access_token="second-token"))
                await until_async(adas, "Bearer second-token")
                await office.vault.forget("acme", "ada", "github")
                await until_async(adas, None)


async def until_async(person: Desk, authorization: str | None) -> None:
    """Wait until calls of that person come with this header; None if they do not come at all."""
    async with asyncio.timeout(30):
        while True:
            result = await person.call("github__whoami")
            seen = None
            if not result.get("isError"):
                seen = result["structuredContent"]["headers"]["authorization"]
            if seen == authorization:
                return
            await asyncio.sleep(0.02)


async def test_its_tools_are_offered_before_anybody_has_come_and_its_resources_to_nobody(
    tmp_path: Path,
) -> None:
    async with running("everything") as server, office_of(tmp_path) as office:
        entry = {**server.entry(), "headers": MAPPED}
        ada, eve = await office.key("ada"), await office.key("eve")
        await office.vault.put(None, "ada", "github", Secret(access_token="token-of-ada"))
        async with gateway({"github": entry}, tmp_path, identified=True) as served:
            async with desk(served, ada) as adas:
                await until(lambda: served.report("github").state is State.CONNECTED)
                await until(lambda: served.report("github").tools)
                assert "github__whoami" in await adas.tools()
                assert (await adas.ask("resources/list"))["resources"] == []
                assert served.app.registry.is_usable()
        async with gateway({"github": entry}, tmp_path, identified=True) as served:
            async with desk(served, eve) as eves:
                assert "github__whoami" in await eves.tools()
                assert served.report("github").state is State.DISCONNECTED
                assert "a token 'github' of their own" in served.report("github").reason


async def test_the_authorization_of_clients_goes_to_no_server_that_is_not_told_it(
    tmp_path: Path,
) -> None:
    async with running("everything") as server, office_of(tmp_path) as office:
        mapped = {**server.entry(), "headers": {"X-Passed": "${client.authorization}"}}
        programs = stdio_entry("everything")
        key = await office.key("ada")
        served_by = {"plain": server.entry(), "mapped": mapped, "program": programs}
        async with gateway(served_by, tmp_path, identified=True) as served:
            async with desk(served, key, "Bearer of-ada") as adas, desk(served, key) as keyed:
                await until(lambda: served.report("mapped").tools)
                plain = await adas.call("plain__whoami")
                passed = await adas.call("mapped__whoami")
                program = await adas.call("program__whoami")
                refused = await keyed.call("mapped__whoami")

    assert passed["structuredContent"]["headers"]["x-passed"] == "Bearer of-ada"
    assert "authorization" not in passed["structuredContent"]["headers"]
    assert "of-ada" not in str(plain)
    assert "of-ada" not in str(program)
    assert refused["_meta"]["trunkline/error"]["code"] == "credential_missing"
    for answer in (plain, passed, program, refused):
        assert key not in str(answer)

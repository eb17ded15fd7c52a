"""What lasts: the catalog over restarts, servers that were added, and several processes at once."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2 as httpx
import pytest

from tests.databases import database_of
from tests.gateway_under_test import Gateway, gateway, until
from tests.journeys.raw_client import Json, RawClient, Refused, raw_client
from tests.servers.processes import running, stdio_entry
from trunkline.errors import SchemaTooNew
from trunkline.storage.migrations import load

pytestmark = pytest.mark.anyio

QUICK = 60.0
"""Seconds something may take that takes a fraction of one on an idle machine."""


def behind_a_gate(gate: Path) -> Json:
    """A server that hangs at its start for as long as there is a file."""
    entry = stdio_entry("everything", era="handshake")
    wait = f'while [ -e "{gate}" ]; do sleep 0.05; done; exec "$0" "$@"'
    return {**entry, "command": "/bin/sh", "args": ["-c", wait, entry["command"], *entry["args"]]}


async def names(client: RawClient) -> list[str]:
    return [tool["name"] for tool in (await client.request("tools/list"))["tools"]]


async def until_listed(client: RawClient, name: str, *, there: bool = True) -> None:
    async with asyncio.timeout(QUICK):
        while (name in await names(client)) is not there:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)


@asynccontextmanager
async def administered(
    folder: Path, servers: Any = None
) -> AsyncGenerator[tuple[Gateway, RawClient]]:
    """A gateway whose client may administer."""
    async with (
        gateway(servers or {}, folder, admin_tools=True) as trunkline,
        raw_client(trunkline.mcp, "handshake") as client,
    ):
        yield trunkline, client


@asynccontextmanager
async def database(folder: Path) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_of(folder / "home"))
    try:
        yield connection
    finally:
        await connection.close()


# -- restarts -------------------------------------------------------------------------------------


async def test_the_second_start_shows_the_catalog_before_any_server_has_answered(
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    servers = {"one": behind_a_gate(gate)}
    async with gateway(servers, tmp_path) as trunkline:
        async with raw_client(trunkline.mcp, "handshake") as client:
            first = {kind: await client.request(f"{kind}/list") for kind in ("tools", "prompts")}

    gate.touch()
    async with gateway(servers, tmp_path, settled=False) as trunkline:
        async with raw_client(trunkline.mcp, "handshake") as client:
            again = {kind: await client.request(f"{kind}/list") for kind in ("tools", "prompts")}
            state = trunkline.report("one").state
            gate.unlink()
            answered = await client.structured("one__echo", {"text": "later"})

    assert state == "CONNECTING"
    assert again == first
    assert len(first["tools"]["tools"]) > 10
    assert answered["arguments"] == {"text": "later"}


async def test_a_second_start_with_the_same_lists_writes_no_row_and_draws_no_id(
    tmp_path: Path,
) -> None:
    servers = {"one": stdio_entry("everything", era="handshake")}

    async def state() -> list[Any]:
        async with database(tmp_path) as connection:
            rows = await connection.fetch(
                "SELECT id, xmin::text, name FROM mcp.tools UNION ALL "
                "SELECT id, xmin::text, name FROM mcp.servers ORDER BY 1, 3"
            )
            return [
                *map(tuple, rows),
                await connection.fetchval("SELECT last_value FROM mcp.tools_id_seq"),
            ]

    async with gateway(servers, tmp_path) as trunkline:
        await until(lambda: not trunkline.app.catalog.has_draft)
    before = await state()
    async with gateway(servers, tmp_path):
        pass

    assert len(before) > 10
    assert await state() == before


async def test_a_server_that_is_no_longer_in_the_file_is_gone_at_the_next_start(
    tmp_path: Path,
) -> None:
    entry = stdio_entry("everything", era="handshake")
    async with gateway({"one": entry, "two": entry}, tmp_path):
        pass
    async with gateway({"one": entry}, tmp_path):
        pass

    async with database(tmp_path) as connection:
        kept = await connection.fetch(
            "SELECT DISTINCT split_part(name, '__', 1) FROM mcp.tools WHERE hidden_at IS NULL"
        )
    assert [row[0] for row in kept] == ["one"]


async def test_what_is_deleted_is_hidden_first_and_its_rows_go_when_the_outbox_is_through(
    tmp_path: Path,
) -> None:
    entry = stdio_entry("everything", era="handshake")
    async with gateway({"one": entry, "two": entry}, tmp_path) as trunkline:
        trunkline.configure({"one": entry})
        async with database(tmp_path) as connection, asyncio.timeout(QUICK):
            while await connection.fetchval(  # noqa: ASYNC110 - no event tells
                "SELECT (SELECT count(*) FROM mcp.tools WHERE name LIKE 'two\\_\\_%')"
                " + (SELECT count(*) FROM mcp.outbox)"
            ):
                await asyncio.sleep(0.05)
            left = await connection.fetchval("SELECT count(*) FROM mcp.tools")

    assert (left or 0) > 10


async def test_calls_are_counted_and_the_counts_last(tmp_path: Path) -> None:
    servers = {"one": stdio_entry("everything", era="handshake")}
    async with gateway(servers, tmp_path) as trunkline:
        async with raw_client(trunkline.mcp, "handshake") as client:
            for _ in range(3):
                await client.call("one__echo", {"text": "x"})
            await client.call("one__fail", {"message": "No."})

    async with database(tmp_path) as connection:
        rows = await connection.fetch(
            "SELECT own_name, calls, errors, seconds > 0 AS timed FROM mcp.call_statistics "
            "JOIN mcp.tools ON tools.id = tool_id ORDER BY own_name"
        )
    assert [tuple(row) for row in rows] == [("echo", 3, 0, True), ("fail", 1, 1, True)]


# -- servers that are added -----------------------------------------------------------------------


async def test_a_server_that_was_added_is_there_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async with running("everything", transport="http", era="handshake") as server:
        async with administered(tmp_path) as (_, client):
            added = await client.structured(
                "add_server", {"name": "new", "url": server.entry()["url"]}
            )
            echoed = await client.structured("new__echo", {"text": "hello"})

        async with administered(tmp_path) as (_, client):
            again = await client.structured("new__echo", {"text": "again"})
            listed = await client.structured("list_servers")

    assert (added["state"], added["origin"]) == ("CONNECTED", "api")
    assert added["tools"] > 10
    assert echoed["arguments"] == {"text": "hello"}
    assert again["arguments"] == {"text": "again"}
    assert [one["name"] for one in listed["servers"]] == ["new"]


async def test_other_processes_follow_what_is_added_disconnected_and_removed(
    tmp_path: Path,
) -> None:
    async with running("everything", transport="http", era="handshake") as server:
        async with (
            administered(tmp_path) as (_, here),
            gateway({}, tmp_path) as other,
            raw_client(other.mcp, "handshake") as there,
        ):
            await here.structured("add_server", {"name": "new", "url": server.entry()["url"]})
            await until_listed(there, "new__echo")
            await here.structured("disconnect_server", {"name": "new"})
            await until_listed(there, "new__echo", there=False)
            await here.structured("connect_server", {"name": "new"})
            await until_listed(there, "new__echo")
            await here.structured("remove_server", {"name": "new"})
            await until_listed(there, "new__echo", there=False)

            assert "new__echo" not in await names(here)


async def test_a_server_of_the_file_wins_over_an_added_one_and_gives_way_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = {**stdio_entry("misbehaving"), "namespace": "file"}
    async with running("everything", transport="http", era="handshake") as server:
        async with administered(tmp_path) as (trunkline, client):
            await client.structured("add_server", {"name": "one", "url": server.entry()["url"]})
            trunkline.configure({"one": ours})
            await until_listed(client, "file__ok")
            assert "one__echo" not in await names(client)

        async with administered(tmp_path, {"one": ours}) as (trunkline, client):
            assert "file__ok" in await names(client)
            refused = await client.call("remove_server", {"name": "one"})
            trunkline.configure({})
            await until_listed(client, "one__echo")

    assert refused["isError"] is True
    assert "server.shadowed" in capsys.readouterr().out


async def test_a_server_of_the_file_can_be_disconnected_while_the_process_runs(
    tmp_path: Path,
) -> None:
    async with administered(tmp_path, {"one": stdio_entry("misbehaving")}) as (_, client):
        off = await client.structured("disconnect_server", {"name": "one"})
        without = await names(client)
        on = await client.structured("connect_server", {"name": "one"})

        assert (off["state"], on["state"]) == ("DISCONNECTED", "CONNECTED")
        assert not any(name.startswith("one__") for name in without)
        assert "one__ok" in await names(client)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "x"}, 'neither "command" nor "url"'),
        ({"name": "x", "url": "ftp://x"}, "no URL to connect to"),
        ({"name": "x", "url": "http://127.0.0.1:1/mcp", "colour": "red"}, "colour"),
        ({"url": "http://127.0.0.1:1/mcp"}, "name"),
        ({"name": "x", "command": "sh"}, "reach into the machine"),
        ({"name": "x", "url": "http://127.0.0.1:1/${HOME}"}, "reach into the machine"),
        ({"name": "", "url": "http://127.0.0.1:1/mcp"}, "name"),
        ({"name": "x" * 300, "url": "http://127.0.0.1:1/mcp"}, "name"),
        ({"name": "one", "url": "http://127.0.0.1:1/mcp"}, "comes from mcp.json"),
    ],
)
async def test_a_server_that_cannot_be_added_is_refused_with_a_sentence(
    tmp_path: Path, arguments: Json, sentence: str
) -> None:
    async with administered(tmp_path, {"one": stdio_entry("misbehaving")}) as (_, client):
        refused = await client.request("tools/call", {"name": "add_server", "arguments": arguments})

        assert refused["isError"] is True
        assert sentence in refused["content"][0]["text"]
        assert len((await client.structured("list_servers"))["servers"]) == 1


async def test_a_gateway_that_stands_in_for_a_server_lists_nothing_of_its_own(
    tmp_path: Path,
) -> None:
    alone = {"one": {**stdio_entry("misbehaving"), "namespace": ""}}
    async with administered(tmp_path, alone) as (_, client):
        assert "add_server" not in await names(client)
        assert (await client.structured("list_servers"))["servers"]


# -- the database is away -------------------------------------------------------------------------


@asynccontextmanager
async def away(dsn: str) -> AsyncGenerator[None]:
    """Nobody gets into the database, for a while."""
    name = dsn.partition("@/")[2].partition("?")[0]
    admin = await asyncpg.connect(dsn.replace(f"/{name}?", "/postgres?"))
    try:
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
        yield
        await admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    finally:
        await admin.close()


async def test_calls_and_lists_go_on_without_the_database_and_changes_wait_for_it(
    tmp_path: Path,
) -> None:
    servers = {"one": stdio_entry("everything", era="handshake")}
    async with (
        gateway(servers, tmp_path) as trunkline,
        raw_client(trunkline.mcp, "handshake") as client,
        httpx.AsyncClient() as web,
    ):
        async with away(database_of(tmp_path / "home")):
            await until(lambda: trunkline.app.storage_trouble is not None)
            echoed = await client.structured("one__echo", {"text": "on"})
            await client.call("one__grow", {"name": "grown_1"})
            await until_listed(client, "one__grown_1")
            told = (await web.get(f"{trunkline.url}/ready")).json()
        await until(lambda: trunkline.app.storage_trouble is None, 30)
        async with database(tmp_path) as connection, asyncio.timeout(QUICK):
            while not await connection.fetchval(  # noqa: ASYNC110 - no event tells
                "SELECT count(*) FROM mcp.tools WHERE own_name = 'grown_1' AND hidden_at IS NULL"
            ):
                await asyncio.sleep(0.05)

    assert echoed["arguments"] == {"text": "on"}
    assert told["status"] == "degraded"
    assert [one["what"] for one in told["degraded"]] == ["database"]


async def test_without_any_database_everything_but_memory_works(tmp_path: Path) -> None:
    nowhere = f"postgresql:///x?host={tmp_path}"
    servers = {"one": stdio_entry("everything", era="handshake")}
    async with (
        gateway(servers, tmp_path, database_url=nowhere, admin_tools=True) as trunkline,
        raw_client(trunkline.mcp, "handshake") as client,
    ):
        echoed = await client.structured("one__echo", {"text": "on"})
        trouble = trunkline.app.storage_trouble

    assert echoed["arguments"] == {"text": "on"}
    assert trouble is not None
    assert trouble.code == "storage_unavailable"


async def test_a_database_of_a_newer_program_is_not_touched_and_named(tmp_path: Path) -> None:
    async with database(tmp_path) as connection:
        await connection.execute(
            "INSERT INTO mcp.schema_migrations (version, subject, checksum, program) "
            "VALUES (9000, 'future', 'x', '99.1')"
        )

    with pytest.raises(BaseExceptionGroup) as raised:
        async with gateway({}, tmp_path, settled=False):
            await asyncio.sleep(QUICK)

    (error,) = _leaves(raised.value)
    assert isinstance(error, SchemaTooNew)
    assert "99.1" in str(error)
    assert load()[-1].name in str(error)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    return [error]


# -- Trunkline's own server -----------------------------------------------------------------------


async def test_the_embedded_server_keeps_the_catalog_and_is_shared(tmp_path: Path) -> None:
    async with running("everything", transport="http", era="handshake") as server:
        async with (
            gateway({}, tmp_path, database_url=None, admin_tools=True) as first,
            gateway({}, tmp_path, database_url=None) as second,
            raw_client(first.mcp, "handshake") as here,
            raw_client(second.mcp, "handshake") as there,
        ):
            await here.structured("add_server", {"name": "new", "url": server.entry()["url"]})
            await until_listed(there, "new__echo")
        async with (
            gateway({}, tmp_path, database_url=None) as again,
            raw_client(again.mcp, "handshake") as client,
        ):
            assert "new__echo" in await names(client)
    if os.name == "posix":
        assert (tmp_path / "home" / "postgres").stat().st_mode & 0o077 == 0


async def test_a_lost_request_to_a_removed_server_has_a_sentence(tmp_path: Path) -> None:
    async with administered(tmp_path) as (_, client):
        refused = await client.call("remove_server", {"name": "nobody"})

        assert refused["isError"] is True
        assert "There is no server named 'nobody'." in refused["content"][0]["text"]
        with pytest.raises(Refused, match="no tool named"):
            await client.call("nobody__x")

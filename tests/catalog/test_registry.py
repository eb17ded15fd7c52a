"""One server that cannot be stored keeps no other from being stored."""

import asyncio
from pathlib import Path

import pytest

from tests.databases import database_of
from tests.gateway_under_test import gateway
from tests.servers.processes import stdio_entry
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import open_pool

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("fault", [{"org": "o" * 300}, {"org": ""}, {"namespace": "bad"}])
async def test_a_server_that_cannot_be_stored_keeps_no_other_from_being_stored(
    tmp_path: Path, fault: dict[str, str]
) -> None:
    entry = stdio_entry("everything", era="handshake")
    name = "b" * 300 if "namespace" in fault else "bad"
    servers = {name: {**entry, **fault}}
    async with (
        gateway(servers, tmp_path) as trunkline,
        open_pool(database_of(tmp_path / "home"), DatabaseSettings()) as database,
    ):
        trunkline.configure({**servers, "good": entry})
        async with asyncio.timeout(15):
            while not await database.fetchval(  # noqa: ASYNC110 - another task brings it about
                "SELECT count(*) FROM mcp.tools JOIN mcp.servers ON servers.id = source_server_id "
                "WHERE servers.name = 'good'"
            ):
                await asyncio.sleep(0.05)

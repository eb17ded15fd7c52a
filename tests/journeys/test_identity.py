"""Keys and tokens in front of everything: who may call, and when that ends."""

from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from fastmcp import Client
from fastmcp.client.transports import ClientTransport, SSETransport, StreamableHttpTransport

from tests.gateway_under_test import Gateway, gateway, until
from tests.journeys.raw_client import envelope, routing_headers
from tests.security.issuing import issuing
from tests.servers.processes import stdio_entry
from trunkline.security.identity.credentials import Refused
from trunkline.security.identity.keys import make_secret
from trunkline.settings import AuthSettings
from trunkline.storage.repositories.keys import KeyRepository, NewKey

pytestmark = pytest.mark.anyio

BOTH = "application/json, text/event-stream"


async def add_key(running: Gateway, name: str) -> str:
    """A key that is good, and known to be."""
    secret = make_secret()
    keys = KeyRepository(running.app.standing.database)
    await keys.add(None, secret.id, secret.hash, NewKey(name=name))

    def is_known() -> bool:
        try:
            return bool(running.identities.keys.credential(secret.key))
        except Refused:
            return False

    await until(is_known)
    return secret.key


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def call(transport: ClientTransport, mode: str = "auto") -> str:
    """Call a tool of the server behind, as a client that knows nothing of Trunkline."""
    async with Client(transport, mode=mode) as client:  # pyright: ignore[reportArgumentType]
        result = await client.call_tool("all__big", {"bytes": 3})
        return str(result.content[0].text)  # pyright: ignore[reportAttributeAccessIssue]


async def refusal(transport: ClientTransport) -> str:
    """What a client makes of not being let in."""
    with pytest.raises(Exception, match=r"401|Say who you are|not known here") as refused:
        await call(transport)
    return str(refused.value)


async def test_clients_of_both_eras_and_of_every_transport_come_in_with_a_key(
    tmp_path: Path,
) -> None:
    async with gateway({"all": stdio_entry("everything")}, tmp_path, identified=True) as running:
        before = await call(StreamableHttpTransport(running.mcp))
        headers = bearer(await add_key(running, "laptop"))
        said = [
            await call(StreamableHttpTransport(running.mcp, headers=headers), "auto"),
            await call(StreamableHttpTransport(running.mcp, headers=headers), "legacy"),
            await call(SSETransport(running.url + "/sse", headers=headers)),
        ]
        refused = [
            await refusal(StreamableHttpTransport(running.mcp)),
            await refusal(StreamableHttpTransport(running.mcp, headers=bearer("forged"))),
            await refusal(SSETransport(running.url + "/sse")),
        ]

    assert said == [before] * 3
    assert "trunkline key create" in refused[0]
    assert "not known here" in refused[1]
    assert "401" in refused[2]


async def test_keys_and_tokens_stand_side_by_side(tmp_path: Path) -> None:
    async with issuing() as issuer:
        auth = AuthSettings(tokens=(issuer.settings(),))
        servers = {"all": stdio_entry("everything")}
        async with gateway(servers, tmp_path, identified=True, auth=auth) as running:
            key = await add_key(running, "laptop")
            by_key = await call(StreamableHttpTransport(running.mcp, headers=bearer(key)))
            by_token = await call(
                StreamableHttpTransport(running.mcp, headers=bearer(issuer.token()))
            )
            foreign = issuer.token(aud="https://other.example")
            await refusal(StreamableHttpTransport(running.mcp, headers=bearer(foreign)))

    assert by_key == by_token


async def test_what_a_revoked_key_listens_to_ends(tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"notifications": {"toolsListChanged": True}}
    message: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "subscriptions/listen",
        "params": {**wanted, "_meta": envelope({})},
    }
    async with (
        gateway({}, tmp_path, identified=True) as running,
        httpx2.AsyncClient(timeout=30, trust_env=False) as http,
    ):
        key = await add_key(running, "laptop")
        headers = bearer(key) | {"Accept": BOTH} | routing_headers(message["method"], {})
        async with http.stream("POST", running.mcp, json=message, headers=headers) as stream:
            lines = stream.aiter_lines()
            assert stream.status_code == 200
            while "acknowledged" not in await anext(lines):
                pass
            keys = KeyRepository(running.app.standing.database)
            await keys.revoke(None, key[3:15])
            with anyio.fail_after(5):
                _ = [line async for line in lines]
        after = await http.post(running.mcp, json=message, headers=headers)

    assert after.status_code == 401


async def test_whoever_asks_whether_we_are_ready_is_told_no_reasons_once_a_key_exists(
    tmp_path: Path,
) -> None:
    servers = {"away": {"url": "http://127.0.0.1:1/mcp"}}
    async with (
        gateway(servers, tmp_path, identified=True) as trunkline,
        httpx2.AsyncClient() as stranger,
    ):
        open_to_all = (await stranger.get(f"{trunkline.url}/ready")).json()["degraded"]
        await add_key(trunkline, "laptop")
        closed = (await stranger.get(f"{trunkline.url}/ready")).json()["degraded"]

    assert "127.0.0.1:1" in open_to_all[0]["reason"]
    assert closed == [{"what": "server away", "code": "error"}]

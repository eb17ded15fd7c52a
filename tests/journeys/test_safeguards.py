"""What an adversary with a good key tries, and what is entered of it."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Workplace
from tests.gateway_under_test import Gateway, gateway
from tests.journeys.raw_client import Json, Refused
from tests.servers.offers import WATCHED
from tests.servers.processes import stdio_entry
from tests.tenants import WatchedClient, add_key, watched_client
from trunkline.models import LOCAL, Role
from trunkline.security.approvals.desk import ApprovalDesk
from trunkline.settings import LimitSettings
from trunkline.storage.repositories.audit import AuditEntries, AuditFilter, AuditRow

pytestmark = pytest.mark.anyio

POLICY = """
[default]
deny = ["all/ask"]
risk."all/echo" = "HIGH"
[default.approvals]
ask_in_client = "operators"
"""


@asynccontextmanager
async def guarded(
    folder: Path, policy: str = POLICY, *, rename: Json | None = None, **settings: Any
) -> AsyncGenerator[Gateway]:
    """A gateway that asks who comes, with one tool denied, one asked about, and admin tools."""
    (folder / "policy.toml").write_text(policy)
    entry = stdio_entry("everything") | ({"tools": {"rename": rename}} if rename else {})
    settings = {"admin_tools": True, "exposure": "search", **settings}
    async with gateway({"all": entry}, folder, identified=True, **settings) as running:
        yield running


def code(result: Json) -> str:
    """Why a call was refused."""
    assert result["isError"] is True, result
    return result["_meta"]["trunkline/error"]["code"]


async def through(client: WatchedClient, name: str, arguments: Json | None = None) -> Json:
    """Call a tool by way of `call_tool`."""
    return await client.call("call_tool", {"name": name, "arguments": arguments or {}})


async def entered(running: Gateway, org: str, **wanted: Any) -> list[AuditRow]:
    """What the audit has, once it has something."""
    entries = AuditEntries(running.app.standing.database)
    found: list[AuditRow] = []
    async with asyncio.timeout(20):
        while not found:
            found = await entries.find(org, AuditFilter(**wanted), 100)
    return found


async def test_no_other_name_or_way_leads_around_the_policy(tmp_path: Path) -> None:
    async with guarded(tmp_path, rename={"ask": "inquire"}) as running:
        key = await add_key(running, "acme", "ada")
        async with watched_client(running, "modern", key) as client:
            refused = [
                code(await client.call("all__inquire", {"message": "?"})),
                code(await through(client, "all__inquire", {"message": "?"})),
            ]

    assert refused == ["policy_denied"] * 2


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_a_resource_that_may_not_be_read_cannot_be_listened_to(
    tmp_path: Path, era: str
) -> None:
    async with guarded(tmp_path, f'[default]\ndeny = ["all/{WATCHED}"]\n') as running:
        key = await add_key(running, "acme", "ada")
        async with watched_client(running, era, key) as client:
            with pytest.raises(Refused, match="may not be"):
                await client.request("resources/read", {"uri": WATCHED})
            if era == "handshake":
                with pytest.raises(Refused, match="may not be"):
                    await client.request("resources/subscribe", {"uri": WATCHED})
            else:
                wanted: Json = {"resourceSubscriptions": [WATCHED]}
                async with asyncio.TaskGroup() as tasks:
                    listen = client.request("subscriptions/listen", {"notifications": wanted})
                    stream = tasks.create_task(listen)
                    honoured = await client.hear("notifications/subscriptions/acknowledged")
                    stream.cancel()
                assert honoured["notifications"] == {}
        found = await entered(running, "acme", what="resources/subscribe")

    assert {row.outcome for row in found} == {"denied"}


async def test_one_approval_is_one_call_whichever_way_it_is_made(tmp_path: Path) -> None:
    async with guarded(tmp_path) as running:
        key = await add_key(running, "acme", "ada")
        other = await add_key(running, "globex", "bob")
        desk = ApprovalDesk(running.app.standing.database, lambda _: None)
        async with (
            watched_client(running, "modern", key) as ada,
            watched_client(running, "modern", other) as bob,
        ):
            first = await ada.call("all__echo", {"text": "hello"})
            assert code(first) == "AUTHORIZATION_REQUIRED"
            await desk.approve(LOCAL, first["_meta"]["trunkline/error"]["id"])
            others = [
                code(await bob.call("all__echo", {"text": "hello"})),
                code(await ada.call("all__echo", {"text": "hello!"})),
            ]
            assert not (await through(ada, "all__echo", {"text": "hello"})).get("isError")
            again = code(await ada.call("all__echo", {"text": "hello"}))

    assert {*others, again} == {"AUTHORIZATION_REQUIRED"}


async def test_a_user_reaches_no_admin_tool_by_any_way(tmp_path: Path) -> None:
    async with guarded(tmp_path) as running:
        user = await add_key(running, "acme", "ada")
        admin = await add_key(running, "acme", "ops", role=Role.ADMIN)
        wanted: Json = {"name": "more", "command": "true"}
        async with watched_client(running, "modern", user) as client:
            direct = code(await client.call("add_server", wanted))
            indirect = code(await through(client, "add_server", wanted))
            described = code(await client.call("describe_tool", {"name": "add_server"}))
        async with watched_client(running, "modern", admin) as client:
            command = code(await client.call("add_server", wanted))

    assert (direct, indirect, described) == ("forbidden", "forbidden", "tool_not_found")
    assert command == "server_invalid", "an organisation's admin started a command"


async def test_the_rest_of_a_large_result_is_its_callers_alone(tmp_path: Path) -> None:
    limits = LimitSettings(result_bytes=1000)
    async with guarded(tmp_path, limits=limits) as running:
        key = await add_key(running, "acme", "ada")
        colleague = await add_key(running, "acme", "bob")
        async with (
            watched_client(running, "modern", key) as ada,
            watched_client(running, "modern", colleague) as bob,
        ):
            result = await ada.call("all__big", {"bytes": 5000})
            link = next(one["uri"] for one in result["content"] if one["type"] == "resource_link")
            assert await ada.request("resources/read", {"uri": link})
            with pytest.raises(Refused) as refused:
                await bob.request("resources/read", {"uri": link})
        found = await entered(running, "acme", what="resources/read")

    assert refused.value.data["code"] == "resource_not_found"
    assert sorted(row.outcome for row in found) == ["failed", "ok"]


async def test_limits_hold_for_a_key_however_it_calls(tmp_path: Path) -> None:
    limits = LimitSettings(calls_per_minute=1, burst=3)
    async with guarded(tmp_path, limits=limits) as running:
        key = await add_key(running, "acme", "ada")
        async with (
            watched_client(running, "modern", key) as one,
            watched_client(running, "handshake", key) as other,
        ):
            for result in (
                await one.call("all__big", {"bytes": 1}),
                await through(other, "all__big", {"bytes": 1}),
                await one.call("search_tools", {"query": "big"}),
            ):
                assert not result.get("isError"), result
            refused = [
                code(await other.call("all__big", {"bytes": 1})),
                code(await through(one, "all__big", {"bytes": 1})),
                code(await other.call("search_tools", {"query": "big"})),
            ]

    assert len({*refused}) == 1, refused


async def test_whatever_is_tried_is_entered_by_its_name(tmp_path: Path) -> None:
    async with guarded(tmp_path) as running:
        key = await add_key(running, "acme", "ada")
        async with watched_client(running, "modern", key) as client:
            await client.call("search_tools", {"query": "big"})
            await client.call("add_server", {"name": "more"})
            await client.call("all__ask", {"message": "?"})
            await client.call("call_tool", {"name": 7})
            await through(client, "no_such_tool")
            await client.call("all__fail", {})
        # The last one is entered last.
        await entered(running, "acme", what="all/fail")
        found = await entered(running, "acme", what="tools/call")

    assert {(row.server, row.name, row.code) for row in found} >= {
        ("trunkline", "search_tools", None),
        ("trunkline", "add_server", "forbidden"),
        ("all", "all__ask", "policy_denied"),
        (None, "call_tool", "invalid_arguments"),
        (None, "no_such_tool", "tool_not_found"),
    }
    assert {row.own_name for row in found if row.server == "trunkline"} == {
        "search_tools",
        "add_server",
    }


async def test_what_is_done_at_the_command_line_is_entered(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    created = place.run("key", "create", "laptop", "--org", "acme")
    assert created.returncode == 0, created.stderr
    place.run("key", "rotate", "laptop")
    place.run("key", "revoke", "laptop")
    place.run("vault", "set", "ada", "github", "--org", "acme", stdin="secret-of-ada")
    shown = place.run("audit", "--org", "acme", "--json")

    entries = json.loads(shown.stdout)["entries"]
    did = {(entry["action"], entry["subject"], entry["face"]) for entry in entries}
    assert did == {
        (action, "local", "cli")
        for action in ("key.create", "key.rotate", "key.revoke", "vault.set")
    }
    assert "secret-of-ada" not in shown.stdout
    assert created.stdout.strip() not in shown.stdout

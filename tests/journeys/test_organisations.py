"""
Two organisations at one gateway, each with a server of one name that has tools of the same names.

Every answer and every notification is looked at for what is the other's (`tests/tenants.py`), and
every server for what has reached it. With `TRUNKLINE_TEST_SECONDS=60` they work side by side for a
minute.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Final

import anyio
import httpx2
import pytest

from tests.gateway_under_test import Gateway, gateway, until
from tests.journeys.conftest import ERAS
from tests.journeys.raw_client import Refused
from tests.servers.marked import MarkedServer, marked, template, tool, uri
from tests.tenants import ID, WatchedClient, add_key, bearer, watched_client
from trunkline.settings import CacheSettings, OutboundSettings

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

SECONDS: Final = float(os.environ.get("TRUNKLINE_TEST_SECONDS", "4"))
"""How long they work side by side."""

MINE: Final = "note://mine"
"""What both have."""

UPDATED: Final = "notifications/resources/updated"
CHANGED: Final = "notifications/tools/list_changed"
KEPT: Final[Json] = {"cache": {"whose": 30}}


@dataclass
class Tenant:
    """An organisation, its server and its people."""

    org: str
    server: MarkedServer
    foreign: Sequence[str]
    """Words that nobody here may ever read."""

    running: Gateway
    http: httpx2.AsyncClient
    keys: list[str] = field(default_factory=list[str])
    clients: list[WatchedClient] = field(default_factory=list[WatchedClient])
    listeners: list[WatchedClient] = field(default_factory=list[WatchedClient])
    of_common: set[int] = field(default_factory=set[int])
    """The numbers of the answers that the server of everybody has given here."""

    @property
    def mark(self) -> str:
        return self.server.mark

    async def ask(self, method: str, path: str, **more: Any) -> Json:
        """Ask the API, and look at the answer."""
        answer = await self.http.request(
            method, f"/api/v1{path}", headers=bearer(self.keys[0]), **more
        )
        assert answer.is_success, answer.text
        assert not [word for word in self.foreign if word in answer.text]
        return answer.json() if answer.content else {}

    async def add_server(self) -> None:
        config = {"url": self.server.url, "tools": KEPT}
        await self.ask("POST", "/servers", json={"name": "echo", "config": config})

    @asynccontextmanager
    async def connected(self, era: str) -> AsyncGenerator[WatchedClient]:
        """Somebody of this organisation, with a key of their own."""
        name = f"{self.org} {len(self.keys)}"
        self.keys.append(await add_key(self.running, self.org, name, role="admin", user=name))
        async with watched_client(self.running, era, self.keys[-1], foreign=self.foreign) as client:
            yield client


@asynccontextmanager
async def two_tenants(folder: Path) -> AsyncGenerator[tuple[Tenant, Tenant]]:
    """
    Both, each with two clients of each era, of which one listens.

    What goes wrong in the block is raised when all is closed: a traceback shows ten groups of tasks
    around it, and not what is in them.
    """
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        common, aurora, zephyr = [
            await stack.enter_async_context(marked(mark, shared=shared))
            for mark, shared in (("common", "common"), ("aurora", "note"), ("zephyr", "note"))
        ]
        await zephyr.grow("zephyr_more")  # so that a count tells whose it is
        running = await stack.enter_async_context(
            gateway(
                {"common": {"url": common.url, "tools": KEPT}},
                folder,
                identified=True,
                admin_tools=True,
                cache=CacheSettings(results=True, timeout=5),
                outbound=OutboundSettings(allow=("127.0.0.1",)),
            )
        )
        assert await running.app.cache.wait_available(20)
        client = httpx2.AsyncClient(base_url=running.url, timeout=30, trust_env=False)
        http = await stack.enter_async_context(client)
        acme = Tenant("acme", aurora, ("zephyr", "globex"), running, http)
        globex = Tenant("globex", zephyr, ("aurora", "acme"), running, http)
        for tenant in (acme, globex):
            for era in (*ERAS, *ERAS):
                tenant.clients.append(await stack.enter_async_context(tenant.connected(era)))
            await tenant.add_server()
            for client in tenant.clients[:2]:
                await stack.enter_async_context(client.listening(lists=["tools"], uris=[MINE]))
                tenant.listeners.append(client)
        for tenant in (acme, globex):
            await findable(tenant.clients[0])
        for client in (*acme.listeners, *globex.listeners):
            client.heard.clear()
        try:
            yield acme, globex
        except Exception as error:  # noqa: BLE001 - raised below
            failure = error
    if failure is not None:
        raise failure


async def findable(client: WatchedClient) -> None:
    """Wait until the index has everything of an organisation."""
    async with asyncio.timeout(30):
        for number in count():  # another question each time: answers are remembered
            wanted = {"query": f"is it there {number}", "type": "all", "limit": 50}
            hits = (await client.structured("search_tools", wanted))["hits"]
            if {hit["server"] for hit in hits} == {"echo", "common"}:
                return
            await asyncio.sleep(0.05)


# -- what they do ---------------------------------------------------------------------------------


async def lists(tenant: Tenant, client: WatchedClient, number: int) -> None:
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        shown = json.dumps(await client.request(method))
        assert tenant.mark in shown
        assert "common" in shown


async def searches(tenant: Tenant, client: WatchedClient, number: int) -> None:
    wanted = {"query": f"whose server is this {number % 7}", "type": "all", "limit": 50}
    hits = (await client.structured("search_tools", wanted))["hits"]
    assert {hit["server"] for hit in hits} == {"echo", "common"}
    named = f"echo__{tool(tenant.mark)}"
    described = await client.structured("describe_tool", {"name": named})
    assert tenant.mark in described["tool"]["description"]


async def calls(tenant: Tenant, client: WatchedClient, number: int) -> None:
    """Of what is kept: the same arguments in both organisations, and some of one alone."""
    for arguments in ({"n": number % 3}, {"say": f"{tenant.mark} {number % 3}"}):
        for name, mark in (("echo__whose", tenant.mark), ("common__whose", "common")):
            said = await client.structured(name, arguments)
            assert (said["mark"], said["given"]) == (mark, arguments)
            if mark == "common":
                tenant.of_common.add(said["calls"])
    said = await client.structured("call_tool", {"name": f"echo__{tool(tenant.mark)}"})
    assert said["mark"] == tenant.mark


async def reads(tenant: Tenant, client: WatchedClient, number: int) -> None:
    for read in (MINE, uri(tenant.mark), "note://by/x", "echo+note://mine"):
        contents = (await client.request("resources/read", {"uri": read}))["contents"]
        assert tenant.mark in contents[0]["text"]
    greeting = await client.request("prompts/get", {"name": "echo__greet"})
    assert tenant.mark in greeting["messages"][0]["content"]["text"]
    for ref in (
        {"type": "ref/prompt", "name": "echo__greet"},
        {"type": "ref/resource", "uri": template(tenant.mark)},
    ):
        asked = {"ref": ref, "argument": {"name": "who", "value": ""}}
        completed = await client.request("completion/complete", asked)
        assert completed["completion"]["values"] == [tenant.mark]


async def mistypes(tenant: Tenant, client: WatchedClient, number: int) -> None:
    with pytest.raises(Refused) as refused:
        await client.call("echo__whos")
    assert "echo__whose" in refused.value.data["similar"]
    with pytest.raises(Refused):
        await client.request("resources/read", {"uri": f"note://min{number % 7}"})


async def looks_after_servers(tenant: Tenant, client: WatchedClient, number: int) -> None:
    servers = (await client.structured("list_servers"))["servers"]
    assert [one["name"] for one in servers] == ["common", "echo"]
    status = await client.structured("server_status", {"name": "echo"})
    assert (status["state"], status["tools"]) == ("CONNECTED", 3 if tenant.org == "globex" else 2)
    shown = await tenant.ask("GET", "/servers/echo")
    assert shown["org"] == tenant.org
    for path in ("/pins?limit=500", "/keys", "/approvals", "/me"):
        await tenant.ask("GET", path)


Doing = Callable[[Tenant, WatchedClient, int], Awaitable[None]]
DOINGS: Final[Sequence[Doing]] = (lists, searches, calls, reads, mistypes, looks_after_servers)


async def work(tenant: Tenant, client: WatchedClient, until_then: float) -> None:
    """Do all of it in turns, at least once."""
    for number in count():
        for doing in DOINGS:
            await doing(tenant, client, number)
        if monotonic() > until_then:
            return


async def change(
    tenant: Tenant, until_then: float, pause: float, changes: list[int], index: int
) -> None:
    """Have its resource change now and then, and count that."""
    while monotonic() < until_then:
        await tenant.server.change(MINE)
        changes[index] += 1
        await asyncio.sleep(pause)


def times(client: WatchedClient, method: str) -> int:
    return sum(message["method"] == method for message in client.heard)


async def check_audit(tenant: Tenant) -> None:
    """That it names everything that was done here, and nothing else."""
    own = {f"key:{key[ID]}" for key in tenant.keys}
    path, seen = "/audit?limit=500", 0
    while path:
        page = await tenant.ask("GET", path)
        assert {entry["org"] for entry in page["items"]} == {tenant.org}
        assert {entry["subject"] for entry in page["items"]} <= own
        seen += len(page["items"])
        path = f"/audit?limit=500&cursor={page['next']}" if page["next"] and seen < 2000 else ""
    assert seen > len(tenant.clients)


def check_requests(tenant: Tenant) -> None:
    """That nothing of the other has reached its server."""
    received = [request.body.decode() for request in tenant.server.requests]
    assert len(received) > len(tenant.clients)
    assert not [body for body in received if any(word in body for word in tenant.foreign)]


def check_kept(tenant: Tenant) -> None:
    """That results were kept indeed: six of each era, for as long as the rule says."""
    called = [request.message["params"] for request in tenant.server.messages("tools/call")]
    asked = sum(params["name"] == "whose" for params in called)
    assert 0 < asked <= 6 * len(ERAS) * (2 + SECONDS // KEPT["cache"]["whose"])


async def test_nothing_crosses_between_organisations_that_work_side_by_side(
    tmp_path: Path,
) -> None:
    async with two_tenants(tmp_path) as both:
        then = monotonic() + SECONDS
        changes = [0, 0]
        async with anyio.create_task_group() as tasks:
            for index, (tenant, pause) in enumerate(zip(both, (0.05, 0.03), strict=True)):
                tasks.start_soon(change, tenant, then, pause, changes, index)
                for client in tenant.clients:
                    tasks.start_soon(work, tenant, client, then)
        expected = [[number] * 2 for number in changes]

        def heard() -> list[list[int]]:
            return [[times(one, UPDATED) for one in tenant.listeners] for tenant in both]

        assert both[0].of_common.isdisjoint(both[1].of_common)
        await until(lambda: heard() >= expected)
        assert heard() == expected
        for tenant in both:
            check_kept(tenant)
            assert [times(one, CHANGED) for one in tenant.listeners] == [0, 0]
            assert min(client.seen for client in tenant.clients) > len(DOINGS)
            check_requests(tenant)
            await check_audit(tenant)


async def test_what_one_does_to_its_server_is_nothing_to_the_other(tmp_path: Path) -> None:
    async with two_tenants(tmp_path) as (acme, globex):
        before = [await everything(client) for client in acme.clients]
        is_over = asyncio.Event()

        async def go_on(client: WatchedClient) -> None:
            while not is_over.is_set():
                await calls(acme, client, 1)
                await looks_after_servers(acme, client, 1)

        async with anyio.create_task_group() as tasks:
            for client in acme.clients:
                tasks.start_soon(go_on, client)
            await globex.ask("POST", "/servers/echo/disconnect")
            assert "echo__whose" not in await everything(globex.clients[0])
            await globex.ask("POST", "/servers/echo/connect")
            await globex.ask("DELETE", "/servers/echo")
            await globex.add_server()
            await globex.server.grow("zephyr_yet_more")
            for client in globex.listeners:
                await until(lambda c=client: times(c, CHANGED) > 0)
            is_over.set()
        after = [await everything(client) for client in acme.clients]
        heard = [times(client, CHANGED) for client in acme.listeners]
        await acme.server.grow("aurora_more")  # what comes last has come alone
        for client in acme.listeners:
            await client.hear(CHANGED)

        assert after == before
        assert heard == [times(client, CHANGED) for client in acme.listeners] == [0, 0]
        check_requests(acme)
        await check_audit(acme)


async def everything(client: WatchedClient) -> str:
    """All that is listed."""
    kinds = ("tools", "prompts", "resources", "resources/templates")
    return json.dumps([await client.request(f"{kind}/list") for kind in kinds])


@pytest.mark.parametrize("era", ERAS)
async def test_what_a_server_of_everybody_reports_to_one_organisation_is_not_told_to_another(
    tmp_path: Path, era: str
) -> None:
    watched = "common://mine"
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(marked("common", shared="common"))
        servers = {"common": {"url": server.url}}
        running = await stack.enter_async_context(gateway(servers, tmp_path, identified=True))
        people: list[tuple[WatchedClient, str]] = []
        for org in ("acme", "globex"):
            key = await add_key(running, org, org)
            client = await stack.enter_async_context(watched_client(running, era, key))
            before = server.watching(watched)
            await stack.enter_async_context(client.listening(uris=[watched]))
            await until(lambda known=before: len(server.watching(watched)) > len(known))
            (session,) = server.watching(watched) - before
            people.append((client, session))
        (ada, adas), (eve, eves) = people
        for session in (adas, eves, adas, adas):
            await server.change(watched, only=session)
        await until(lambda: updates(ada) >= 3 and updates(eve) >= 1)
        for client in (ada, eve):
            await client.request("tools/list")  # what was on its way has come by now

        assert (updates(ada), updates(eve)) == (3, 1)


def updates(client: WatchedClient) -> int:
    return sum(message.get("method") == UPDATED for message in client.heard)

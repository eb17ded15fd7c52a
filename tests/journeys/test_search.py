"""Finding tools through the gateway and calling what was found, with Qdrant and without."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from tests.catalog.real_lists import load_lists
from tests.cli.test_search import POST
from tests.gateway_under_test import Gateway, gateway, until
from tests.index.qdrant_stand_in import StandIn, Status, stand_in
from tests.journeys.raw_client import Json, RawClient, Refused, raw_client
from tests.journeys.test_questions import FILLED, reply
from tests.journeys.test_real_catalogue import stand_ins
from tests.servers.processes import stdio_entry

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

QUICK: Final = 60.0
"""Seconds something may take that takes a fraction of one on an idle machine."""

DATA: Final = Path(__file__).parents[1] / "data"
ERAS: Final = ("handshake", "modern")
META: Final = ["search_tools", "describe_tool", "call_tool"]

TOKENS: Final = 1_500
"""What the list of tools may cost a model in search mode."""

FOUND: Final = 0.85
"""The share of everyday requests whose tool is among the first five of the 653 real ones."""


def catalogue() -> dict[str, list[Json]]:
    """A hundred tools of ten servers."""
    return json.loads((DATA / "catalogue.json").read_text())


@asynccontextmanager
async def serving(
    lists: Mapping[str, Sequence[Json]], folder: Path, **settings: Any
) -> AsyncGenerator[Gateway]:
    """A gateway in front of servers that list these tools, and answer calls with what came."""
    async with stand_ins({name: list(tools) for name, tools in lists.items()}) as url:
        servers = {name: {"url": f"{url}/{name}/mcp"} for name in lists}
        settings.setdefault("exposure", "search")
        async with gateway(servers, folder, **settings) as trunkline:
            assert await trunkline.app.finding.current(QUICK)
            yield trunkline


async def names(client: RawClient) -> list[str]:
    return [tool["name"] for tool in (await client.request("tools/list"))["tools"]]


async def search(client: RawClient, words: str, **more: Any) -> Json:
    return await client.structured("search_tools", {"query": words, **more})


async def found(client: RawClient, words: str, **more: Any) -> list[str]:
    return [hit["name"] for hit in (await search(client, words, **more))["hits"]]


# -- found and called -----------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_a_client_is_shown_three_tools_and_gets_at_a_hundred(
    tmp_path: Path, era: str
) -> None:
    async with (
        serving(catalogue(), tmp_path) as trunkline,
        raw_client(trunkline.mcp, era) as client,
    ):
        listed = await names(client)
        hits = await found(client, "put a meeting into my calendar")
        name = "calendar__create_event"
        arguments: Json = {"title": "Lunch"}
        described = await client.structured("describe_tool", {"name": name})
        called = await client.call("call_tool", {"name": name, "arguments": arguments})
        directly = await client.call(name, arguments)

    assert listed == META
    assert "calendar__create_event" in hits
    assert described["tool"]["inputSchema"]["required"] == ["title"]
    assert json.loads(called["content"][0]["text"]) == [
        "calendar",
        "create_event",
        {"title": "Lunch"},
    ]
    assert called == directly


@pytest.mark.parametrize("era", ERAS)
async def test_call_tool_does_all_that_a_direct_call_does(tmp_path: Path, era: str) -> None:
    servers = {"one": stdio_entry("everything", era="both")}
    async with (
        gateway(servers, tmp_path, exposure="search") as trunkline,
        raw_client(trunkline.mcp, era, answer=reply) as client,
    ):

        async def call(name: str, arguments: Json, **further: Any) -> Json:
            wanted = {"name": f"one__{name}", "arguments": arguments}
            return await client.call("call_tool", wanted, **further)

        token = {"progressToken": "token-of-mine"}
        await call("slow", {"seconds": 0.05, "steps": 3}, _meta=token)
        told = [message["params"] for message in client.heard]
        asked = await call("ask", {"rounds": 2})
        interviewed = await call("interview", {})
        echoed = await call("echo", {"text": "ä"}, **{"x-vendor": 1})
        failed = await call("fail", {"message": "No."})
        with pytest.raises(Refused) as refusal:
            await call("raise_error", {"code": -31000, "message": "Broken."})

    assert [one["progress"] for one in told] == [1, 2, 3]
    assert {one["progressToken"] for one in told} == {"token-of-mine"}
    assert asked["structuredContent"]["answers"] == [FILLED, FILLED]
    assert set(interviewed["structuredContent"]["answers"]) == {"user", "model", "roots"}
    assert echoed["structuredContent"]["arguments"] == {"text": "ä"}
    assert echoed["structuredContent"]["further"] == {"x-vendor": 1}
    assert failed["isError"] is True
    assert (refusal.value.code, refusal.value.message) == (-31000, "Broken.")


@pytest.mark.parametrize("downstream", ERAS)
async def test_a_modern_client_is_asked_in_rounds_through_call_tool(
    tmp_path: Path, downstream: str
) -> None:
    entry = stdio_entry("everything", era=downstream)  # pyright: ignore[reportArgumentType]
    wanted: Json = {"name": "call_tool", "arguments": {"name": "one__ask", "arguments": {}}}
    async with (
        gateway({"one": entry}, tmp_path, exposure="search") as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        first = await client.request("tools/call", wanted)
        ((key, question),) = first["inputRequests"].items()
        again = {"inputResponses": {key: FILLED}}
        if "requestState" in first:
            again["requestState"] = first["requestState"]
        second = await client.request("tools/call", {**wanted, **again})

    assert first["resultType"] == "input_required"
    assert question["method"] == "elicitation/create"
    assert second["resultType"] == "complete"
    assert second["structuredContent"]["answers"] == [FILLED]


@pytest.mark.parametrize("era", ERAS)
async def test_a_name_that_does_not_exist_is_answered_with_one_that_does(
    tmp_path: Path, era: str
) -> None:
    async with (
        serving(catalogue(), tmp_path) as trunkline,
        raw_client(trunkline.mcp, era) as client,
    ):
        described = await client.call("describe_tool", {"name": "mail__sendmail"})
        through = await client.call("call_tool", {"name": "mail__sendmail"})
        with pytest.raises(Refused) as directly:
            await client.call("mail__sendmail")
        itself = await client.call("call_tool", {"name": "call_tool", "arguments": {"name": "x"}})
        nothing = await client.call("call_tool", {"arguments": {}})

    sentence = directly.value.message
    assert "'mail__send_mail'" in sentence
    for failed in (described, through):
        assert (failed["isError"], failed["content"][0]["text"]) == (True, sentence)
        assert failed["_meta"]["trunkline/error"]["code"] == "tool_not_found"
        assert "mail__send_mail" in failed["_meta"]["trunkline/error"]["similar"]
    assert itself["_meta"]["trunkline/error"]["code"] == "tool_not_found"
    assert nothing["content"][0]["text"] == "call_tool: name: Field required."


async def test_the_tools_about_tools_can_be_called_through_call_tool(tmp_path: Path) -> None:
    async with (
        serving(catalogue(), tmp_path, admin_tools=True) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        wanted = {"name": "search_tools", "arguments": {"query": "send a mail", "limit": 1}}
        hits = (await client.structured("call_tool", wanted))["hits"]
        servers = await client.structured("call_tool", {"name": "list_servers"})

    assert hits[0]["name"] == "mail__send_mail"
    assert len(servers["servers"]) == 10


async def test_administration_is_not_listed_beside_a_search_and_can_be_described(
    tmp_path: Path,
) -> None:
    async with (
        serving(catalogue(), tmp_path, admin_tools=True) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        listed = (await client.request("tools/list"))["tools"]
        described = await client.structured("describe_tool", {"name": "add_server"})

    assert [tool["name"] for tool in listed] == META
    assert "add_server" in listed[0]["description"]
    assert "url" in described["tool"]["inputSchema"]["properties"]


# -- what is listed -------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_the_forty_first_tool_turns_the_list_into_a_search_and_clients_hear_of_it(
    tmp_path: Path, era: str
) -> None:
    alone = {"one": stdio_entry("everything", era="handshake")}
    twice = {**alone, "two": stdio_entry("everything", era="handshake")}
    async with (
        gateway(alone, tmp_path, exposure="auto") as trunkline,
        raw_client(trunkline.mcp, era) as client,
        client.listening(lists=["tools"]),
    ):
        few = await names(client)
        trunkline.configure(twice)
        await client.hear("notifications/tools/list_changed")
        many = await until_listed(client, META)
        trunkline.configure(alone)
        await client.hear("notifications/tools/list_changed")
        again = await until_listed(client, few)

    assert 20 < len(few) <= 40 < 2 * len(few)
    assert (many, again) == (META, few)


async def until_listed(client: RawClient, expected: list[str]) -> list[str]:
    """The list, when it is what is expected; whatever it is, when it does not get so."""
    listed = await names(client)
    try:
        async with asyncio.timeout(QUICK):
            while listed != expected:
                await asyncio.sleep(0.02)
                listed = await names(client)
    except TimeoutError:
        pass
    return listed


async def test_pinned_tools_are_listed_beside_the_search(tmp_path: Path) -> None:
    async with (
        serving(catalogue(), tmp_path, pinned=("mail__send_*", "*__screenshot")) as trunkline,
        raw_client(trunkline.mcp, "handshake") as client,
    ):
        assert await names(client) == ["mail__send_mail", "browser__screenshot", *META]


async def test_in_full_mode_everything_is_listed_and_can_be_searched_all_the_same(
    tmp_path: Path,
) -> None:
    async with (
        serving(catalogue(), tmp_path, exposure="full") as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        listed = await names(client)
        hits = await found(client, "send a mail", limit=1)

    assert len(listed) == 100
    assert hits == ["mail__send_mail"]


@pytest.mark.parametrize("exposure", ["search", "full"])
async def test_a_servers_own_search_tools_is_the_one_that_is_listed_and_called(
    tmp_path: Path, exposure: str
) -> None:
    theirs: Json = {"name": "search_tools", "inputSchema": {"type": "object"}}
    async with stand_ins({**catalogue(), "own": [theirs]}) as url:
        servers: Json = {name: {"url": f"{url}/{name}/mcp"} for name in ("mail", "own")}
        servers["own"]["namespace"] = ""
        async with (
            gateway(servers, tmp_path, exposure=exposure) as trunkline,
            raw_client(trunkline.mcp, "modern") as client,
        ):
            listed = [
                tool
                for tool in (await client.request("tools/list"))["tools"]
                if tool["name"] == "search_tools"
            ]
            called = await client.call("search_tools", {"query": "x"})

    assert listed == [theirs]
    assert json.loads(called["content"][0]["text"]) == ["own", "search_tools", {"query": "x"}]


# -- changes --------------------------------------------------------------------------------------


async def test_what_grows_is_found_and_what_is_gone_is_not_found_from_then_on(
    tmp_path: Path,
) -> None:
    servers = {"one": stdio_entry("everything", era="handshake")}
    async with (
        gateway(servers, tmp_path, exposure="search") as trunkline,
        raw_client(trunkline.mcp, "handshake") as client,
        client.listening(lists=["tools"]),
    ):
        await client.call("one__grow", {"name": "telescope"})
        await client.hear("notifications/tools/list_changed")
        await trunkline.app.finding.current(QUICK)
        grown = await found(client, "telescope")
        await client.call("one__shrink", {"name": "telescope"})
        await client.hear("notifications/tools/list_changed")
        shrunk = await found(client, "telescope", limit=100)

    assert grown[0] == "one__telescope"
    assert "one__telescope" not in shrunk


# -- Qdrant ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Searched:
    """A gateway that searches in Qdrant."""

    gateway: Gateway
    client: RawClient
    qdrant: StandIn

    async def until(self, words: str, *, degraded: bool) -> Json:
        """
        A search, as soon as it is answered by Qdrant, or by another in its place.

        A number makes the words others each time: an answer is remembered for a while.
        """
        async with asyncio.timeout(QUICK):
            for attempt in count():
                answer = await search(self.client, f"{words} {attempt}")
                if answer["degraded"] is degraded:
                    return answer
                await asyncio.sleep(0.05)
        raise AssertionError("count() has no end")

    async def until_agreed(self) -> None:
        """Until Qdrant has what the database has."""
        async with asyncio.timeout(QUICK):
            drift = await self.gateway.app.finding.drift()
            while drift is None or not drift.is_none:
                await asyncio.sleep(0.05)
                drift = await self.gateway.app.finding.drift()


@asynccontextmanager
async def searched(
    folder: Path, lists: Mapping[str, Sequence[Json]], qdrant: StandIn | None = None
) -> AsyncGenerator[Searched]:
    async with AsyncExitStack() as stack:
        qdrant = qdrant or await stack.enter_async_context(stand_in())
        serve = serving(lists, folder, qdrant_url=qdrant.url)
        trunkline = await stack.enter_async_context(serve)
        client = await stack.enter_async_context(raw_client(trunkline.mcp, "modern"))
        yield Searched(trunkline, client, qdrant)


async def test_qdrant_is_filled_and_answers_what_the_index_in_process_answers(
    tmp_path: Path,
) -> None:
    async with searched(tmp_path, catalogue()) as it:
        await it.until("send a mail", degraded=False)
        await it.until_agreed()
        answer = await search(it.client, "send a mail", limit=3)
        asked = len(it.qdrant.seen("search"))
        of_skill = await search(it.client, "send", skills=["email"])

    assert answer["hits"][0]["name"] == "mail__send_mail"
    assert asked > 0
    assert of_skill["hits"]
    assert not of_skill["degraded"]
    assert {hit["server"] for hit in of_skill["hits"]} <= {"mail", "chat"}


async def test_a_new_qdrant_is_filled_from_what_is_stored_with_the_skills_of_the_tools(
    tmp_path: Path,
) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "post.py").write_text(POST)
    async with gateway({}, tmp_path, plugins=(plugins,)) as trunkline:
        await until(lambda: not trunkline.app.catalog.has_draft)

    async with stand_in() as qdrant:
        async with (
            gateway({}, tmp_path, plugins=(plugins,), qdrant_url=qdrant.url) as trunkline,
            raw_client(trunkline.mcp, "modern") as client,
        ):
            it = Searched(trunkline, client, qdrant)
            await it.until("letter", degraded=False)
            await it.until_agreed()
            hits = await found(client, "letter", skills=["messaging"])
            by_skill = await search(client, "send a message", strategy="hierarchical")

    assert hits == ["post__send_letter"]
    assert "messaging" in [skill["name"] for skill in by_skill["skills"]]
    assert by_skill["strategy"] == "hierarchical"


async def test_searches_go_on_while_qdrant_is_away_and_it_catches_up(tmp_path: Path) -> None:
    servers = {"one": stdio_entry("everything", era="handshake")}
    async with stand_in() as qdrant:
        async with (
            gateway(servers, tmp_path, exposure="search", qdrant_url=qdrant.url) as trunkline,
            raw_client(trunkline.mcp, "modern") as client,
        ):
            it = Searched(trunkline, client, qdrant)
            await it.until("echo", degraded=False)
            await it.until_agreed()
            await qdrant.stop()
            away = await it.until("echo", degraded=True)
            await client.call("one__grow", {"name": "telescope"})
            await until(lambda: trunkline.app.catalog.snapshot.view(None).has("one__telescope"))
            await trunkline.app.finding.current(QUICK)
            grown = await found(client, "telescope")
            await client.call("one__shrink", {"name": "echo"})
            await qdrant.start()
            await it.until("telescope", degraded=False)
            await it.until_agreed()
            after = await found(client, "telescope")
            gone = await found(client, "echo", limit=100)

    assert away["hits"][0]["name"] == "one__echo"
    assert grown[0] == after[0] == "one__telescope"
    assert "one__echo" not in gone


async def test_a_deleted_tool_is_not_found_while_qdrant_still_has_it(tmp_path: Path) -> None:
    servers = {"one": stdio_entry("everything", era="handshake")}
    async with stand_in() as qdrant:
        async with (
            gateway(servers, tmp_path, exposure="search", qdrant_url=qdrant.url) as trunkline,
            raw_client(trunkline.mcp, "modern") as client,
        ):
            it = Searched(trunkline, client, qdrant)
            await it.until("echo", degraded=False)
            await it.until_agreed()
            qdrant.always_fail("delete", Status(503))
            trunkline.configure({})
            await until(lambda: not trunkline.app.catalog.snapshot.view(None).tools)
            hits = await found(client, "echo", limit=100)
            drift = await trunkline.app.finding.drift()
            qdrant.always_fail("delete", None)
            await it.until_agreed()

    assert hits == []
    assert drift is not None
    assert "one: echo" in drift.left


async def test_a_qdrant_that_is_there_later_than_the_gateway_is_filled_then(
    tmp_path: Path,
) -> None:
    async with stand_in() as qdrant:
        await qdrant.stop()
        async with searched(tmp_path, {"mail": catalogue()["mail"]}, qdrant) as it:
            before = await search(it.client, "send a mail")
            await qdrant.start()
            after = await it.until("send a mail", degraded=False)
            await it.until_agreed()

    assert before["degraded"]
    assert before["hits"][0]["name"] == after["hits"][0]["name"] == "mail__send_mail"


# -- an embedding endpoint ------------------------------------------------------------------------


async def test_without_the_embedding_endpoint_tools_are_found_by_their_terms(
    tmp_path: Path,
) -> None:
    nobody = "http://127.0.0.1:1/v1"
    async with (
        serving({"mail": catalogue()["mail"]}, tmp_path, embedding_url=nobody) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        answer = await search(client, "send a mail", limit=1)

    assert answer["hits"][0]["name"] == "mail__send_mail"
    assert answer["degraded"]


# -- six hundred and fifty-three tools of real servers --------------------------------------------


def everyday() -> list[Json]:
    """What people ask for, and the tools that answer it."""
    return json.loads((DATA / "everyday_requests.json").read_text())


async def test_the_right_one_of_653_real_tools_is_among_the_first_five(tmp_path: Path) -> None:
    lists = load_lists()
    if not lists:
        pytest.skip("The definitions of the real tools are not here: set TRUNKLINE_REAL_CATALOGUE.")
    async with (
        serving(lists, tmp_path, exposure="auto", admin_tools=True) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        listed = (await client.request("tools/list"))["tools"]
        hits: dict[str, list[str]] = {}
        for one in everyday():
            answer = await search(client, one["request"])
            hits[one["request"]] = [
                name
                for hit in answer["hits"]
                for name in (hit["name"], *(also["name"] for also in hit["also_on"]))
            ]

    missed = [
        one["request"] for one in everyday() if not set(one["tools"]) & {*hits[one["request"]]}
    ]
    share = 1 - len(missed) / len(everyday())
    assert [tool["name"] for tool in listed] == META
    assert tokens(listed) <= TOKENS
    assert share >= FOUND, f"not among the first five: {missed}"


def tokens(listed: Sequence[Json]) -> int:
    """What a list costs at most: JSON is seldom less than three characters to a token."""
    return len(json.dumps(listed)) // 3

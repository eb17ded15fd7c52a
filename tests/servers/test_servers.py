"""The test servers do what the tests that use them rely on, seen as raw JSON."""

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import psutil
import pytest

from tests.servers import offers
from tests.servers.processes import ROOT, Json, command, end_group, environment, running

pytestmark = pytest.mark.anyio

LIMIT = 60.0
"""Seconds any answer may take; a busy machine starts Python slowly."""

ENVELOPE: Json = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1", "x-vendor": 1},
    "io.modelcontextprotocol/clientCapabilities": {"sampling": {}, "x-vendor": {}},
}
HELLO: Json = {
    "protocolVersion": "2025-11-25",
    "clientInfo": {"name": "raw", "version": "1", "x-vendor": 1},
    "capabilities": {"roots": {}, "x-vendor": {}},
}


class Child:
    """A stdio server, spoken to in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._last_id = 0

    def send(self, method: str, params: Json | None = None) -> int:
        """Send a request and return its id."""
        self._last_id += 1
        self.write({"id": self._last_id, "method": method, "params": params or {}})
        return self._last_id

    def write(self, message: Json) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def line(self) -> bytes:
        """The next line; empty at the end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT):
            return await self.process.stdout.readline()

    async def message(self) -> Any:
        return json.loads(await self.line())

    async def ask(self, method: str, params: Json | None = None) -> Any:
        """Send a request and return its answer, skipping what comes before it."""
        request_id = self.send(method, params)
        while (message := await self.message()).get("id") != request_id or "method" in message:
            pass
        return message

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool in the handshake era and return its result."""
        return (await self.ask("tools/call", {"name": tool, "arguments": arguments}))["result"]

    async def shake_hands(self) -> Any:
        greeting = await self.ask("initialize", HELLO)
        self.write({"method": "notifications/initialized"})
        return greeting["result"]


@asynccontextmanager
async def child(name: str, *args: str) -> AsyncGenerator[Child]:
    """A stdio server for the length of the block; its process group is killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *command(name, *args),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        start_new_session=True,
        limit=64 * 1024 * 1024,
    )
    try:
        yield Child(process)
    finally:
        end_group(process.pid)
        await process.communicate()


async def post(session: aiohttp.ClientSession, url: str, message: Json, **headers: str) -> Any:
    """POST one message; return status, headers and body."""
    accept = "application/json, text/event-stream"
    async with session.post(
        url,
        json={"jsonrpc": "2.0", **message},
        headers={"Accept": accept, **headers},
        timeout=aiohttp.ClientTimeout(LIMIT),
    ) as response:
        return response.status, response.headers, await response.text()


def is_gone(pid: int) -> bool:
    """Whether no process of that id runs any more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- everything -------------------------------------------------------------------------------


async def every_page(server: Child, method: str, key: str, meta: Json) -> list[Json]:
    """All items of a list, page by page."""
    items: list[Json] = []
    params: Json = {"_meta": meta}
    while True:
        result = (await server.ask(method, params))["result"]
        items += result[key]
        assert len(result[key]) <= 3
        if "nextCursor" not in result:
            return items
        params = {"_meta": meta, "cursor": result["nextCursor"]}


@pytest.mark.parametrize("meta", [{}, ENVELOPE], ids=["handshake", "modern"])
async def test_every_definition_arrives_as_it_was_written(meta: Json) -> None:
    async with child("everything") as server:
        if not meta:
            greeting = await server.shake_hands()
            assert greeting["x-vendor"] == offers.VENDOR
            assert greeting["serverInfo"] == offers.INFO
        lists: Sequence[tuple[str, str, Sequence[Json]]] = (
            ("tools/list", "tools", offers.TOOLS),
            ("prompts/list", "prompts", offers.PROMPTS),
            ("resources/list", "resources", offers.RESOURCES),
            ("resources/templates/list", "resourceTemplates", offers.TEMPLATES),
        )
        for method, key, expected in lists:
            assert await every_page(server, method, key, meta) == list(expected)


async def test_echo_gives_back_what_it_does_not_know() -> None:
    async with child("everything") as server:
        await server.shake_hands()
        answer = await server.ask(
            "tools/call",
            {
                "name": "echo",
                "arguments": {"text": "ü", "deep": [None, 12345678901234567890]},
                "_meta": {"example.com/mine": {"a": None}},
                "x-vendor": 7,
            },
        )

    result = answer["result"]
    assert result["structuredContent"]["arguments"]["deep"] == [None, 12345678901234567890]
    assert result["structuredContent"]["further"] == {"x-vendor": 7}
    assert result["_meta"]["example.com/mine"] == {"a": None}
    assert result["x-vendor"] == offers.VENDOR


async def test_it_sees_the_client_as_the_client_described_itself() -> None:
    async with child("everything") as server:
        await server.shake_hands()
        seen = (await server.call("whoami"))["structuredContent"]

    assert seen["clientInfo"] == HELLO["clientInfo"]
    assert seen["capabilities"] == HELLO["capabilities"]
    assert seen["pid"] == server.process.pid
    assert seen["era"] == "handshake"


async def test_it_speaks_the_old_version_it_is_told_to() -> None:
    async with child("everything", "--speaks", "2024-11-05") as server:
        greeting = await server.shake_hands()
        seen = (await server.call("whoami"))["structuredContent"]

    assert greeting["protocolVersion"] == seen["protocolVersion"] == "2024-11-05"


async def test_a_sampling_answer_comes_back_whole() -> None:
    answer: Json = {
        "role": "assistant",
        "content": {"type": "audio", "data": offers.SILENCE, "mimeType": "audio/wav", "x": None},
        "model": "large",
        "stopReason": "something new",
        "x-vendor": offers.VENDOR,
    }
    async with child("everything") as server:
        await server.shake_hands()
        request_id = server.send("tools/call", {"name": "think"})
        question = await server.message()
        server.write({"id": question["id"], "result": answer})
        heard = await server.message()

    assert question["method"] == "sampling/createMessage"
    assert question["params"]["x-vendor"] == offers.VENDOR
    assert heard["id"] == request_id
    assert heard["result"]["structuredContent"]["answer"] == answer


async def test_in_the_modern_era_a_question_is_a_result() -> None:
    call: Json = {"name": "think", "_meta": ENVELOPE}
    answer: Json = {"role": "assistant", "content": [], "model": "m", "x-vendor": 1}
    async with child("everything") as server:
        question = (await server.ask("tools/call", call))["result"]
        key = next(iter(question["inputRequests"]))
        done = await server.ask("tools/call", {**call, "inputResponses": {key: answer}})
        lacking = await server.ask("tools/call", {**call, "name": "ask"})

    assert question["resultType"] == "input_required"
    assert question["inputRequests"][key]["params"]["x-vendor"] == offers.VENDOR
    assert done["result"]["structuredContent"]["answer"] == answer
    assert lacking["error"]["code"] == -32021


async def test_a_cancelled_call_is_remembered() -> None:
    async with child("everything") as server:
        await server.shake_hands()
        params: Json = {"name": "hold", "arguments": {"key": "k"}, "_meta": {"progressToken": "t"}}
        held = server.send("tools/call", params)
        progress = await server.message()
        assert progress["params"]["progressToken"] == "t"
        server.write({"method": "notifications/cancelled", "params": {"requestId": held}})
        cancelled = (await server.call("cancelled_calls"))["structuredContent"]["cancelled"]

    assert cancelled == ["k"]


async def test_only_subscribers_hear_of_a_touched_resource() -> None:
    async with child("everything") as server:
        await server.shake_hands()
        await server.ask("resources/subscribe", {"uri": offers.WATCHED})
        server.send("tools/call", {"name": "touch", "arguments": {"uri": offers.STATIC}})
        first = await server.message()
        server.send("tools/call", {"name": "touch", "arguments": {"uri": offers.WATCHED}})
        second = await server.message()

    assert "result" in first
    assert second["method"] == "notifications/resources/updated"
    assert second["params"]["uri"] == offers.WATCHED


# -- processes --------------------------------------------------------------------------------


async def test_a_restarted_server_has_its_address_and_no_memory() -> None:
    async with running("misbehaving") as server, aiohttp.ClientSession() as session:
        url, pid = server.url, server.pid
        hello = {"id": 1, "method": "initialize", "params": HELLO}
        _, headers, _ = await post(session, url, hello)
        known = {"Mcp-Session-Id": headers["Mcp-Session-Id"]}
        before, _, _ = await post(session, url, {"id": 2, "method": "ping"}, **known)
        await server.restart()
        assert server.url == url
        after, _, _ = await post(session, url, {"id": 3, "method": "ping"}, **known)
        assert server.pid != pid

    assert (before, after) == (200, 404)
    assert is_gone(pid)


async def test_a_server_leaves_no_grandchild_behind() -> None:
    async with child("misbehaving", "--grandchild", "--stubborn") as server:
        pids = (await server.call("pids"))["structuredContent"]
        server.process.send_signal(signal.SIGTERM)
        assert "result" in await server.ask("ping")

    assert server.process.returncode == -signal.SIGKILL
    async with asyncio.timeout(LIMIT):
        while not is_gone(pids["child"]):  # noqa: ASYNC110 - a process sets no event for us
            await asyncio.sleep(0.01)


async def test_a_tied_server_ends_with_whoever_started_it() -> None:
    async with child("everything", "--transport", "http", "--tied") as server:
        assert (await server.line()).startswith(b"listening http://127.0.0.1:")
        assert server.process.stdin is not None
        server.process.stdin.close()
        async with asyncio.timeout(LIMIT):
            await server.process.wait()


# -- misbehaving ------------------------------------------------------------------------------


async def test_a_mute_server_answers_all_but_the_first_request() -> None:
    async with child("misbehaving", "--mute") as server:
        server.send("initialize", HELLO)
        ping = server.send("ping")
        assert (await server.message())["id"] == ping


async def test_garbage_stands_before_and_between_the_messages() -> None:
    async with child("misbehaving", "--garbage") as server:
        server.send("ping")
        before = [await server.line() for _ in range(6)]
        answer, between = await server.message(), await server.line()

    assert b"Starting up...\n" in before
    assert answer["result"] == {}
    assert between.startswith(b"DEBUG")


@pytest.mark.parametrize(("midway", "said"), [(False, b""), (True, b'{"jsonrpc": "2.0"')])
async def test_a_server_dies_during_a_call(midway: bool, said: bytes) -> None:
    async with child("misbehaving") as server:
        server.send("tools/call", {"name": "die", "arguments": {"midway": midway}})
        assert (await server.line()).startswith(said)
        assert await server.line() == b""
        async with asyncio.timeout(LIMIT):
            assert await server.process.wait() == 3


async def test_a_huge_answer_is_twenty_megabytes() -> None:
    async with child("misbehaving") as server:
        result = await server.call("huge")

    assert len(result["content"][0]["text"]) == 20 * 1024 * 1024


async def test_odd_tools_stand_among_good_ones() -> None:
    async with child("misbehaving", "--odd-tools") as server:
        tools = (await server.ask("tools/list"))["result"]["tools"]

    names = [tool.get("name") for tool in tools if isinstance(tool, dict)]
    assert "not an object" in tools
    assert names.count("twin") == 2
    assert {"ok", "", "x" * 300, 5, None} <= set(names)


async def test_without_roots_it_does_not_work() -> None:
    async with child("misbehaving", "--wants-roots") as server:
        await server.shake_hands()
        question = await server.message()
        refused = await server.ask("tools/list")
        server.write({"id": question["id"], "result": {"roots": []}})
        async with asyncio.timeout(LIMIT):
            while "error" in (answer := await server.ask("tools/list")):
                pass

    assert question["method"] == "roots/list"
    assert refused["error"]["message"] == "Tell me your roots first."
    assert answer["result"]["tools"]


async def test_without_the_token_it_says_401() -> None:
    async with (
        running("misbehaving", args=["--token", "secret"]) as server,
        aiohttp.ClientSession() as session,
    ):
        hello = {"id": 1, "method": "initialize", "params": HELLO}
        refused, _, _ = await post(session, server.url, hello)
        admitted, _, _ = await post(session, server.url, hello, Authorization="Bearer secret")

    assert (refused, admitted) == (401, 200)

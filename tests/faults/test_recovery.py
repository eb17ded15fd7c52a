"""Servers that die, restart, hang or forget: the next call works, the others notice nothing."""

import asyncio
import gc
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from tests.gateway_under_test import Gateway, Person, gateway, until
from tests.servers.processes import running, stdio_entry
from trunkline.settings import DownstreamSettings

pytestmark = pytest.mark.anyio

ERAS = ("handshake", "modern")


def misbehaving(*switches: str) -> dict[str, Any]:
    """A badly behaved stdio server."""
    entry = stdio_entry("misbehaving")
    entry["args"] = [*entry["args"][:2], "--transport", "stdio", *switches]
    return entry


async def pid_of(client: Client, server: str = "one") -> int:
    """The process id of the server that answers this client."""
    who = await client.call_tool(f"{server}__whoami", {})
    assert who.structured_content is not None
    return int(who.structured_content["pid"])


@pytest.mark.parametrize("era", ERAS)
async def test_a_killed_child_is_replaced_and_the_next_call_succeeds(
    tmp_path: Path, era: str
) -> None:
    async with (
        gateway({"one": stdio_entry("everything", era="handshake")}, tmp_path) as trunkline,
        Person().client(trunkline.mcp, era) as client,
    ):
        before = await pid_of(client)
        os.kill(before, signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(before))

        after = await pid_of(client)

    assert after != before


async def test_a_killed_child_comes_back_without_being_called(tmp_path: Path) -> None:
    async with (
        gateway({"one": stdio_entry("everything", era="handshake")}, tmp_path) as trunkline,
        Person().client(trunkline.mcp, "handshake") as client,
    ):
        before = await pid_of(client)
        os.kill(before, signal.SIGKILL)

        await until(lambda: trunkline.report("one").state != "CONNECTED")
        await until(lambda: trunkline.report("one").state == "CONNECTED")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_a_restarted_http_server_works_on_the_next_call(
    tmp_path: Path, era: str, transport: str
) -> None:
    async with running("everything", transport=transport, era="handshake") as server:  # pyright: ignore[reportArgumentType]
        async with (
            gateway({"one": server.entry()}, tmp_path) as trunkline,
            Person().client(trunkline.mcp, era) as client,
        ):
            before = await pid_of(client)
            await server.restart()

            after = await pid_of(client)

    assert after != before


async def test_a_call_in_flight_when_its_server_dies_fails_with_a_sentence(tmp_path: Path) -> None:
    async with (
        gateway({"one": stdio_entry("everything", era="handshake")}, tmp_path) as trunkline,
        Person().client(trunkline.mcp, "handshake") as client,
    ):
        result = await client.call_tool("one__crash", {})

    assert result.is_error
    assert "'one' is not available" in result.content[0].text  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]
    assert "may have run" in result.content[0].text  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]
    assert result.meta == {"trunkline/error": {"code": "downstream_unavailable", "server": "one"}}


async def test_a_call_that_may_have_run_is_not_sent_twice(tmp_path: Path) -> None:
    async with running("everything", era="handshake") as server:
        async with (
            gateway({"one": server.entry()}, tmp_path) as trunkline,
            Person().client(trunkline.mcp, "handshake") as client,
        ):
            holding = asyncio.create_task(client.call_tool("one__hold", {"key": "k"}))
            await asyncio.sleep(0.5)
            await server.restart()

            result = await holding
            counted = await client.call_tool("one__counters", {})

    assert result.is_error
    assert counted.structured_content is not None
    assert "hold" not in counted.structured_content["calls"]


async def test_one_server_that_hangs_at_the_start_delays_nobody(tmp_path: Path) -> None:
    servers = {f"good{n}": stdio_entry("everything", era="handshake") for n in range(2)}
    servers["mute"] = misbehaving("--mute")
    async with gateway(servers, tmp_path, settled=False) as trunkline:
        await until(
            lambda: all(trunkline.report(f"good{n}").state == "CONNECTED" for n in range(2))
        )
        async with Person().client(trunkline.mcp, "handshake") as client:
            await until(lambda: all(trunkline.report(f"good{n}").tools for n in range(2)))
            tools = await client.list_tools()
            echoed = await client.call_tool("good0__echo", {"n": 1})

        assert trunkline.report("mute").state == "CONNECTING"
        assert {tool.name.split("__")[0] for tool in tools.tools} == {"good0", "good1"}
        assert not echoed.is_error


async def test_a_hanging_call_ends_at_its_deadline_and_cancels_at_the_server(
    tmp_path: Path,
) -> None:
    entry = {**stdio_entry("everything", era="handshake"), "timeout": 0.5}
    async with (
        gateway({"one": entry}, tmp_path) as trunkline,
        Person().client(trunkline.mcp, "handshake") as client,
    ):
        result = await client.call_tool("one__hold", {"key": "late"})
        cancelled: list[str] = []

        async def was_cancelled() -> bool:
            told = await client.call_tool("one__cancelled_calls", {})
            cancelled[:] = (told.structured_content or {})["cancelled"]
            return "late" in cancelled

        async with asyncio.timeout(10):
            while not await was_cancelled():
                pass

    assert result.is_error
    assert "did not answer within 0.5 seconds" in result.content[0].text  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]


async def test_progress_keeps_a_slow_call_alive_beyond_its_deadline(tmp_path: Path) -> None:
    person = Person()
    entry = {**stdio_entry("everything", era="handshake"), "timeout": 0.6}
    async with (
        gateway({"one": entry}, tmp_path) as trunkline,
        person.client(trunkline.mcp, "handshake") as client,
    ):
        result = await client.call_tool(
            "one__slow", {"seconds": 1.5, "steps": 6}, progress_callback=person.on_progress
        )

    assert not result.is_error
    assert len(person.progress) == 6


async def test_the_circuit_opens_after_failures_and_closes_when_the_server_is_back(
    tmp_path: Path,
) -> None:
    async with running("everything", era="handshake") as server:
        async with (
            gateway({"one": server.entry()}, tmp_path) as trunkline,
            Person().client(trunkline.mcp, "handshake") as client,
        ):
            await server.kill()
            failures = [await client.call_tool("one__echo", {}) for _ in range(20)]
            await server.start()
            async with asyncio.timeout(5):
                result = await client.call_tool("one__echo", {})
                while result.is_error:  # at most the quarter of a second the circuit stays open
                    result = await client.call_tool("one__echo", {})

    assert all(failure.is_error for failure in failures)
    assert "nothing answers at" in failures[-1].content[0].text  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]


async def test_an_idle_session_is_stopped_and_comes_back_for_the_next_call(tmp_path: Path) -> None:
    entry = {**stdio_entry("everything", era="handshake"), "idle_timeout": 0.3}
    async with (
        gateway({"one": entry}, tmp_path) as trunkline,
        Person().client(trunkline.mcp, "handshake") as client,
    ):
        before = await pid_of(client)
        await until(lambda: trunkline.report("one").state == "DISCONNECTED")
        assert trunkline.report("one").tools > 0

        after = await pid_of(client)

    assert after != before
    assert not psutil.pid_exists(before)


async def test_a_lazy_server_whose_lists_are_known_starts_with_its_first_call(
    tmp_path: Path,
) -> None:
    entry = stdio_entry("everything", era="handshake")
    async with gateway({"one": entry}, tmp_path):
        pass  # now its lists are known
    async with (
        gateway({"one": {**entry, "lazy": True}}, tmp_path) as trunkline,
        Person().client(trunkline.mcp, "handshake") as client,
    ):
        tools = await client.list_tools()
        assert trunkline.report("one").state == "DISCONNECTED"

        echoed = await client.call_tool("one__echo", {"n": 1})

    assert len(tools.tools) > 10
    assert not echoed.is_error


async def test_the_last_known_lists_are_served_while_a_server_is_away(tmp_path: Path) -> None:
    async with running("everything", era="handshake") as server:
        async with gateway({"one": server.entry()}, tmp_path):
            pass
        await server.kill()
        async with (
            gateway({"one": server.entry()}, tmp_path) as trunkline,
            Person().client(trunkline.mcp, "modern") as client,
        ):
            tools = await client.list_tools()
            failed = await client.call_tool("one__echo", {})

    assert "one__echo" in {tool.name for tool in tools.tools}
    assert failed.is_error


async def test_a_health_page_that_complains_degrades_its_server_and_stops_no_call(
    tmp_path: Path,
) -> None:
    status = [b"503 Service Unavailable"]

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 " + status[0] + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(page, "127.0.0.1", 0) as health:
        port = health.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/health"
        entry = {**stdio_entry("everything", era="handshake"), "health_url": url}
        async with (
            gateway(
                {"one": entry}, tmp_path, downstream=DownstreamSettings(probe_interval=0.5)
            ) as trunkline,
            Person().client(trunkline.mcp, "handshake") as client,
        ):
            await until(lambda: trunkline.report("one").state == "DEGRADED")
            assert trunkline.report("one").reason == "Its health_url answers 503."
            assert not (await client.call_tool("one__echo", {})).is_error
            status[0] = b"200 OK"

            await until(lambda: trunkline.report("one").state == "CONNECTED")


async def test_a_server_that_answers_no_probe_is_given_up_and_connected_anew(
    tmp_path: Path,
) -> None:
    settings = DownstreamSettings(probe_interval=0.2, probe_timeout=0.3)
    async with gateway(
        {"one": stdio_entry("everything", era="handshake")}, tmp_path, downstream=settings
    ) as trunkline:
        async with Person().client(trunkline.mcp, "handshake") as client:
            before = await pid_of(client)
            os.kill(before, signal.SIGSTOP)  # alive, and silent
            await until(lambda: trunkline.report("one").state == "DEGRADED")
            await until(lambda: trunkline.report("one").state != "DEGRADED")

            after = await pid_of(client)

    assert after != before
    assert not psutil.pid_exists(before)


async def test_nothing_is_left_after_many_rounds_of_connecting_failing_and_cancelling(
    tmp_path: Path,
) -> None:
    """The short form; the figure in the name of the promise is 200 rounds."""
    me = psutil.Process()
    async with running("everything", era="handshake") as server:
        servers = {
            "http": server.entry(),
            "stdio": stdio_entry("everything", era="handshake"),
            "gone": {"url": "http://127.0.0.1:9/mcp"},
            "missing": {"command": "no-such-command-at-all"},
        }
        async with gateway(servers, tmp_path) as trunkline:
            await one_round(trunkline)
            await settle()
            before = (len(me.children(recursive=True)), len(asyncio.all_tasks()), me.num_fds())
            for _ in range(int(os.environ.get("TRUNKLINE_TEST_ROUNDS", "20"))):
                await one_round(trunkline)
            await settle()
            after = (len(me.children(recursive=True)), len(asyncio.all_tasks()), me.num_fds())

    assert after[0] == before[0], "processes"
    assert after[1] <= before[1] + 2, "tasks"
    assert after[2] <= before[2] + 5, "descriptors"


async def one_round(trunkline: Gateway) -> None:
    """A client that connects, calls, is refused, gives up in the middle, and leaves."""
    async with Person().client(trunkline.mcp, "handshake") as client:
        assert not (await client.call_tool("http__echo", {})).is_error
        assert not (await client.call_tool("stdio__echo", {})).is_error
        with pytest.raises(MCPError):
            await client.call_tool("missing__anything", {})
        for server in ("http", "stdio"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.call_tool(f"{server}__hold", {"key": "never"})
            # The SDK's client fails if it leaves before the cancelled call is answered.
            assert not (await client.call_tool(f"{server}__echo", {})).is_error


async def settle() -> None:
    """Wait until nothing is on its way out any more, or for five seconds."""
    counted: list[tuple[int, int]] = []
    me = psutil.Process()
    while len(counted) < 5 or (len(set(counted[-5:])) > 1 and len(counted) < 50):
        gc.collect()
        counted.append((len(asyncio.all_tasks()), me.num_fds()))
        await asyncio.sleep(0.1)

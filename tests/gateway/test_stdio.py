"""MCP on stdin and stdout, with the server as a real process."""

import asyncio
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import tty
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, str(ROOT / "tests/servers/face_server.py")]
ENV = {"PYTHONPATH": f"{ROOT / 'server'}:{ROOT}"}
MEGABYTE = 1024 * 1024

HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "1"},
}


def request(id: Any, method: str, params: Any = None) -> bytes:  # noqa: A002
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}
    return json.dumps(message).encode() + b"\n"


def tool(id: Any, name: str, **arguments: Any) -> bytes:  # noqa: A002
    return request(id, "tools/call", {"name": name, "arguments": arguments})


def text(answer: dict[str, Any]) -> str:
    return answer["result"]["content"][0]["text"]


class Peer:
    """The process, and one line of it at a time."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def say(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        await self.process.stdin.drain()

    async def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        with anyio.fail_after(60):
            return json.loads(await self.process.stdout.readline())

    async def initialize(self) -> None:
        await self.say(request("hello", "initialize", HELLO))
        assert (await self.hear())["id"] == "hello"

    async def hear_stderr(self) -> bytes:
        assert self.process.stderr is not None
        with anyio.fail_after(60):
            return await self.process.stderr.readline()

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    async def end(self) -> tuple[int, bytes]:
        """The exit code, and what is left on stderr."""
        with anyio.fail_after(60):
            stderr = await self.process.stderr.read() if self.process.stderr else b""
            return await self.process.wait(), stderr


@asynccontextmanager
async def started(face: str = "stdio", **streams: Any) -> AsyncGenerator[Peer]:
    options: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE} | streams
    process = await asyncio.create_subprocess_exec(
        *COMMAND, face, cwd=ROOT, env=ENV, limit=64 * MEGABYTE, **options
    )
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def connected() -> AsyncGenerator[Peer]:
    async with started() as peer:
        await peer.initialize()
        yield peer


# -- talking --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_clients_of_both_eras_are_served(mode: str) -> None:
    transport = StdioTransport(
        COMMAND[0], [COMMAND[1], "stdio"], env=ENV, cwd=str(ROOT), keep_alive=False
    )
    async with Client(transport, mode=mode) as client:  # pyright: ignore[reportArgumentType]
        assert (await client.call_tool("talk", {"text": "hello"})).data == "hello"


async def test_what_is_printed_goes_to_stderr() -> None:
    async with connected() as peer:
        await peer.say(tool(1, "shout", text="boo"))

        assert text(await peer.hear()) == "printed"
        assert await peer.hear_stderr() == b"boo\n"
        assert await peer.hear_stderr() == b"boo again\n"


async def test_what_is_printed_while_starting_goes_to_stderr_too() -> None:
    async with started("stdio-late") as peer:
        await peer.initialize()

        assert await peer.hear_stderr() == b"starting\n"


async def test_twenty_megabytes_pass_in_both_directions() -> None:
    size = 20 * MEGABYTE
    async with connected() as peer:
        await peer.say(tool(1, "large", size=size))
        down = await peer.hear()
        await peer.say(tool(2, "echo", value="y" * size))
        up = await peer.hear()

        assert len(text(down)) == len(text(up)) == size


async def test_many_messages_at_once_are_all_answered() -> None:
    async with connected() as peer:
        await peer.say(b"".join(tool(number, "echo", value=number) for number in range(200)))

        answers = [await peer.hear() for _ in range(200)]

    assert sorted(answer["id"] for answer in answers) == list(range(200))


async def test_a_call_cancelled_while_it_talks_does_not_cut_its_line() -> None:
    read, write = os.pipe()
    flood = {"name": "flood", "arguments": {"size": MEGABYTE}, "_meta": {"progressToken": "p"}}
    with os.fdopen(read, "rb") as lines:
        async with started(stdout=write) as peer:
            os.close(write)
            await peer.say(request(0, "initialize", HELLO) + request(1, "tools/call", flood))
            assert await peer.hear_stderr() == b"flooding\n"
            await peer.say(
                b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}\n'
            )
            # Once the next call is running, the cancellation has been seen.
            await peer.say(tool(2, "hold"))
            assert await peer.hear_stderr() == b"holding\n"
            await peer.say(tool(3, "echo", value="next"))

            heard = [json.loads(await anyio.to_thread.run_sync(lines.readline)) for _ in range(3)]

    assert [message.get("method", message.get("id")) for message in heard] == [
        0,
        "notifications/progress",
        3,
    ]


@pytest.mark.parametrize(
    ("line", "code", "id_"),
    [
        (b"hello\n", -32700, None),
        (b'{"jsonrpc": "2.0", "id": 1\n', -32700, None),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "\xff\xfe"}\n', -32700, None),
        (b"\x00\x01\n", -32700, None),
        (b"[" * 100_000 + b"\n", -32700, None),
        (b"[]\n", -32600, None),
        (b'"text"\n', -32600, None),
        (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}\n', -32600, None),
        (b'{"jsonrpc": "2.0", "id": 7, "method": "ping", "params": 1}\n', -32600, 7),
        (b'{"jsonrpc": "2.0", "id": 7}\n', -32600, None),
    ],
)
async def test_a_line_that_is_no_message_is_answered_and_the_connection_lives_on(
    line: bytes, code: int, id_: int | None
) -> None:
    async with connected() as peer:
        await peer.say(line)
        refused = await peer.hear()
        await peer.say(tool(1, "echo", value="on"))

        assert refused["id"] == id_
        assert refused["error"]["code"] == code
        assert refused["error"]["message"].endswith(".")
        assert text(await peer.hear()) == "on"


async def test_blank_lines_and_carriage_returns_are_nothing() -> None:
    async with connected() as peer:
        await peer.say(b"\n  \n\r\n" + tool(1, "echo", value="a").replace(b"\n", b"\r\n"))

        assert text(await peer.hear()) == "a"


# -- ending ---------------------------------------------------------------------------------------


async def test_the_end_of_stdin_cancels_calls_in_flight_and_ends_the_process() -> None:
    async with connected() as peer:
        await peer.say(tool(1, "hold"))
        assert await peer.hear_stderr() == b"holding\n"
        peer.leave()

        assert await peer.end() == (0, b"cancelled\n")


async def test_a_client_that_is_gone_before_it_said_anything_ends_the_process() -> None:
    async with started() as peer:
        peer.leave()

        assert await peer.end() == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process(number: signal.Signals) -> None:
    async with connected() as peer:
        await peer.say(tool(1, "hold"))
        assert await peer.hear_stderr() == b"holding\n"
        peer.process.send_signal(number)

        assert await peer.end() == (0, b"cancelled\n")


async def test_a_closed_stdout_ends_the_process_quietly() -> None:
    read, write = os.pipe()
    async with started(stdout=write) as peer:
        os.close(write)
        os.close(read)
        await peer.say(request(1, "initialize", HELLO))

        assert await peer.end() == (0, b"")


async def test_a_client_that_stops_reading_does_not_keep_the_process() -> None:
    read, write = os.pipe()
    try:
        async with started(stdout=write) as peer:
            os.close(write)
            await peer.say(request("hello", "initialize", HELLO) + tool(1, "large", size=MEGABYTE))
            await peer.say(tool(2, "hold"))
            assert await peer.hear_stderr() == b"holding\n"
            peer.leave()
            code, stderr = await peer.end()

            assert code == 0
            assert b"Traceback" not in stderr
    finally:
        os.close(read)


# -- what stdin and stdout can be -----------------------------------------------------------------


async def test_nothing_at_all_is_the_end() -> None:
    async with started(stdin=DEVNULL) as peer:
        assert await peer.end() == (0, b"")


async def test_files_are_read_to_their_end() -> None:
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
        source.write(b"garbage\n" + request(1, "initialize", HELLO))
        source.seek(0)
        async with started(stdin=source, stdout=target) as peer:
            assert await peer.end() == (0, b"")

        target.seek(0)
        assert json.loads(target.readline())["error"]["code"] == -32700


async def test_sockets_are_served() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with started(stdin=theirs, stdout=theirs) as peer:
            theirs.close()
            reader, writer = await asyncio.open_connection(sock=ours, limit=64 * MEGABYTE)
            writer.write(request(1, "initialize", HELLO) + tool(2, "large", size=MEGABYTE))
            with anyio.fail_after(60):
                answers = [json.loads(await reader.readline()) for _ in range(2)]
            writer.close()
            await writer.wait_closed()

            assert [answer["id"] for answer in answers] == [1, 2]
            assert await peer.end() == (0, b"")


async def test_a_terminal_is_served_and_left_as_it_was() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    try:
        async with started(stdin=theirs, stdout=theirs) as peer:
            os.write(ours, request(1, "initialize", HELLO))
            with anyio.fail_after(60):
                await anyio.wait_readable(ours)
            assert json.loads(os.read(ours, 65536))["id"] == 1
            assert os.get_blocking(theirs)
            peer.process.terminate()

            assert await peer.end() == (0, b"")
            assert os.get_blocking(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_without_stdin_there_is_a_sentence() -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "stdio"],
        cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip

    assert "There is no stdin or no stdout to serve on." in ended.stderr

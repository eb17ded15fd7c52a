"""
Start the test servers as subprocesses, and leave nothing of them behind.

    async with running("everything", transport="http", era="handshake") as server:
        ... server.url, server.pid ...
        await server.restart()          # same address, nothing remembered

    {"mcpServers": {"all": stdio_entry("everything")}}      # for a stdio downstream

Each server has a process group of its own, which is killed and reaped at the end whatever happened.
Should the test process itself be killed, its servers see their stdin close and end.
"""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

Json = dict[str, Any]
Era = Literal["both", "handshake", "modern"]
Transport = Literal["http", "sse"]

ROOT: Final = Path(__file__).parents[2]
START_LIMIT: Final = 30.0
"""Seconds a server may take until it listens. A busy machine imports slowly."""

STOP_LIMIT: Final = 10.0
"""Seconds a server may take to end after SIGTERM."""


def command(name: str, *args: str) -> list[str]:
    """The command line of the test server *name*: a module of this package, or its full name."""
    module = name if "." in name else f"tests.servers.{name}"
    return [sys.executable, "-m", module, *args]


def environment() -> dict[str, str]:
    """Our environment, without the variable that makes every start compile everything again."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def stdio_entry(name: str, *, era: Era = "both", args: Sequence[str] = ()) -> Json:
    """The mcp.json entry that starts the test server *name* over stdio."""
    start, *rest = command(name, "--transport", "stdio", "--era", era, *args)
    return {"command": start, "args": rest, "cwd": str(ROOT)}


def end_group(pid: int) -> None:
    """Kill the process group that *pid* leads, if it is still there."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class RunningServer:
    """A test server that listens on loopback."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: Process | None = None
        self.url = ""
        """Where it listens; the same before and after `restart`."""

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def entry(self) -> Json:
        """The mcp.json entry that connects to it."""
        kind = "sse" if self.url.endswith("/sse") else "streamable-http"
        return {"transport": kind, "url": self.url}

    async def start(self) -> None:
        """Start it, at its old address if it had one. Raises `RuntimeError` if it ends instead."""
        address = ["--port", self.url.split(":")[2].split("/")[0]] if self.url else []
        self._process = await anyio.open_process(
            [*self._command, *address],
            stdin=-1,
            stdout=-1,
            stderr=None,
            cwd=ROOT,
            env=environment(),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            with anyio.fail_after(START_LIMIT):
                line = await BufferedByteReceiveStream(self._process.stdout).receive_until(
                    b"\n", 1000
                )
        except (anyio.IncompleteRead, anyio.EndOfStream):
            await self.kill()
            raise RuntimeError(f"{' '.join(self._command)} ended before it listened") from None
        self.url = line.decode().removeprefix("listening ").strip()

    async def kill(self) -> None:
        """End it and its children at once, as a power cut would, and reap it."""
        process, self._process = self._process, None
        if process is not None:
            with anyio.CancelScope(shield=True):
                end_group(process.pid)
                await process.aclose()

    async def terminate(self) -> None:
        """Ask it to end, and wait; after `STOP_LIMIT` it is killed."""
        assert self._process is not None, "the server is not running"
        self._process.terminate()
        with anyio.move_on_after(STOP_LIMIT):
            await self._process.wait()
        await self.kill()

    async def restart(self) -> None:
        """Kill it and start it again at the same address. It remembers nothing."""
        await self.kill()
        await self.start()


@asynccontextmanager
async def running(
    name: str, *, transport: Transport = "http", era: Era = "both", args: Sequence[str] = ()
) -> AsyncGenerator[RunningServer]:
    """Run the test server *name* over HTTP for the length of the block."""
    options = ("--transport", transport, "--era", era, "--tied", *args)
    server = RunningServer(command(name, *options))
    try:
        await server.start()
        yield server
    finally:
        await server.kill()

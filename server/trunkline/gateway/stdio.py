"""
MCP on stdin and stdout: one client, one line per message.

The descriptors are watched by the event loop itself, with no thread and no queue in between: the
server reads a message when it is ready for one, and writes an answer where it has it. The protocol
gets private duplicates of descriptors 0 and 1. The originals point at nothing and at stderr, so
that a `print` anywhere, or in a child process, cannot land in the middle of a message.

The end of stdin is the end of the session: calls in flight are cancelled. So are SIGTERM, SIGINT
and a stdout that nobody reads any more.
"""

import math
import os
import stat
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext, redirect_stdout

import anyio
import anyio.lowlevel
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from fastmcp import FastMCP
from fastmcp.server.context import reset_transport, set_transport
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

from trunkline.errors import ConfigError
from trunkline.gateway.messages import Malformed, encode_error, encode_message, parse_message
from trunkline.gateway.signals import on_stop_signal
from trunkline.plugin.server import low_level

if sys.platform != "win32":
    import fcntl

CHUNK = 256 * 1024
"""Bytes to read at once."""

LAST_WORDS = 1.0
"""Seconds a line that is being written may still take when the session has ended."""


async def serve_stdio(server: FastMCP, streams: tuple[int, int] | None = None) -> None:
    """
    Serve the one client on the other side of stdin and stdout, until it leaves.

    *streams* are those of `standard_streams`, for a caller that has work to do between taking
    stdin and stdout and serving; unless given, they are taken now. Raises `ConfigError` if there is
    no stdin or stdout. Afterwards stdout is stderr.
    """
    token = set_transport("stdio")
    core = low_level(server)
    options = core.create_initialization_options()
    try:
        if sys.platform == "win32":
            async with stdio_server() as (reader, writer):
                await core.run(reader, writer, options)
            return
        with standard_streams() if streams is None else nullcontext(streams) as (source, target):
            output = Output(target)
            messages = Input(source, output)
            with on_stop_signal(messages.end):
                await core.run(messages, output, options)
    finally:
        reset_transport(token)


class Output(ObjectSendStream[SessionMessage]):
    """Messages to a descriptor: each whole, in order, and never blocking the event loop."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._turn = anyio.Lock(fast_acquire=True)
        self._closed = False
        self._writing: anyio.CancelScope | None = None
        self._deadline = math.inf
        self.on_broken: Callable[[], None] = lambda: None
        """Called when nobody reads any more."""

    async def send(self, item: SessionMessage) -> None:
        """Raises `BrokenResourceError` when the reader has left, `ClosedResourceError` after."""
        await self.write(encode_message(item.message))

    async def write(self, line: bytes) -> None:
        """Write one line, given without its end. Raises as `send` does."""
        async with self._turn:
            if self._closed:
                raise anyio.ClosedResourceError
            try:
                if not await self._write_all(line + b"\n"):
                    raise TimeoutError("The reader stopped reading.")
            except OSError as error:
                self._closed = True
                self.on_broken()
                raise anyio.BrokenResourceError from error

    async def _write_all(self, data: bytes) -> bool:
        """Whether all of it could be written before the deadline."""
        rest = memoryview(data)
        # A call cancelled in the middle of its line would leave the next line unreadable.
        with anyio.CancelScope(shield=True, deadline=self._deadline) as self._writing:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._fd)
        return not rest

    def finish(self, seconds: float) -> None:
        """Give a line that is being written *seconds* more to get out."""
        self._deadline = anyio.current_time() + seconds
        if self._writing is not None:
            self._writing.deadline = self._deadline

    async def aclose(self) -> None:
        self._closed = True


class Input(ObjectReceiveStream[SessionMessage | Exception]):
    """
    Messages from a descriptor. What is not one is answered on *output* and skipped.

    Ends when the descriptor does, when *output* breaks, or by `end`.
    """

    def __init__(self, fd: int, output: Output) -> None:
        self._fd, self._output = fd, output
        self._buffer = bytearray()
        self._searched = 0
        self._watchable = True
        self._ended = False
        self._waiting: anyio.CancelScope | None = None
        output.on_broken = self.end

    async def receive(self) -> SessionMessage:
        while True:
            line = await self._line()
            if line.isspace() or not line:
                continue
            try:
                return SessionMessage(parse_message(line))
            except Malformed as error:
                await self._refuse(error)

    async def _refuse(self, error: Malformed) -> None:
        try:
            await self._output.write(encode_error(error.rpc_code, error.message, error.request_id))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise anyio.EndOfStream from None

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            chunk = await self._read()
            if not chunk:
                self._output.finish(LAST_WORDS)
                raise anyio.EndOfStream
            self._buffer += chunk
        line = bytes(memoryview(self._buffer)[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    async def _read(self) -> bytes:
        """The next bytes; none at the end."""
        while not self._ended:
            try:
                await self._wait()
                if not self._ended:
                    return os.read(self._fd, CHUNK)
            except BlockingIOError:
                continue
            except OSError:  # a terminal that hung up, a socket that was reset
                break
        return b""

    async def _wait(self) -> None:
        """Return when there is something to read, or the end was called for."""
        if not self._watchable:
            await anyio.lowlevel.checkpoint()
            return
        try:
            with anyio.CancelScope() as self._waiting:
                await anyio.wait_readable(self._fd)
        except PermissionError:
            self._watchable = False  # a file or the null device: always ready

    def end(self) -> None:
        """End the session as if the client had left."""
        self._ended = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def aclose(self) -> None:
        self.end()


@contextmanager
def standard_streams() -> Generator[tuple[int, int]]:
    """
    Private duplicates of stdin and stdout.

    Take them before anything is started that may print or read. The originals stay diverted
    afterwards: what is printed on the way out is no protocol either.
    Raises `ConfigError` if the process was started without them.
    """
    # Not by asking for descriptors 0 and 1: the event loop may have been given those numbers.
    if sys.__stdin__ is None or sys.__stdout__ is None:
        raise ConfigError(
            "There is no stdin or no stdout to serve on. Start Trunkline from an MCP client, "
            "or serve over HTTP: `trunkline serve --http 127.0.0.1:8080`."
        )
    source, target = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in (0, 1))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # no stderr either
        os.dup2(null, 1)
    os.close(null)
    # Only what can fill up may block; the flag would outlive us on a terminal.
    blocks = stat.S_ISFIFO(os.fstat(target).st_mode) or stat.S_ISSOCK(os.fstat(target).st_mode)
    if blocks:
        os.set_blocking(target, False)
    try:
        with redirect_stdout(sys.stderr):
            yield source, target
    finally:
        if blocks:
            os.set_blocking(target, True)
        os.close(source)
        os.close(target)

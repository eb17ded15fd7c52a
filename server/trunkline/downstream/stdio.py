"""
The stdio transport: a child process, one JSON message on each line.

Servers print what they should not: banners, log lines, half-decoded text. A line on stdout that is
no JSON object is skipped, reported a few times and counted; it never ends the session. What
travels on stderr is the server's log.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from trunkline.downstream.channel import Channel, ChannelLost, Exchange
from trunkline.downstream.child import Child, LineSplitter
from trunkline.downstream.command import Command
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.tasks import Spawn, finish, open_tasks
from trunkline.errors import DownstreamUnavailable
from trunkline.models import Json
from trunkline.settings import DownstreamSettings
from trunkline.wire import decode, encode

MESSAGE_LIMIT: Final = 256 * 1024 * 1024
"""Bytes one message may have: far beyond any real result, and short of exhausting memory."""

REPORTS: Final = 3
"""How many garbage lines are reported; the rest is only counted."""

END_SHOWS: Final = 0.5
"""Seconds in which the end of a child shows that no longer takes input."""

BOM: Final = b"\xef\xbb\xbf"


@asynccontextmanager
async def open_stdio(
    config: ServerConfig, settings: DownstreamSettings, *, on_log: Callable[[str], None]
) -> AsyncGenerator[Channel]:
    """
    A channel to a child process, which is ended with everything it started when the block ends.

    *on_log* gets what the server writes to stderr, line by line, and our remarks on its stdout.
    Raises `DownstreamUnavailable` when the command cannot be run.
    """
    async with open_tasks() as spawn:
        channel = StdioChannel(config.name, spawn, on_log, stuck_after=settings.call_timeout)
        try:
            await channel.start(config)
            spawn(channel.watch())
            yield channel
        finally:
            channel.lose("Trunkline closed the connection.")
            await finish(channel.child.stop(settings.stop_grace))


class StdioChannel(Channel):
    """The lines that go to and come from one child process."""

    def __init__(
        self, server: str, spawn: Spawn, on_log: Callable[[str], None], *, stuck_after: float
    ) -> None:
        """*stuck_after*: seconds after which a child that reads nothing is given up."""
        super().__init__(server, spawn)
        self.child = Child(on_output=self._take, on_log=on_log)
        self.garbage = 0
        """Lines on stdout so far that were no messages."""

        self._on_log, self._stuck_after = on_log, stuck_after
        self._lines = LineSplitter()

    async def start(self, config: ServerConfig) -> None:
        """Start the child. Raises `DownstreamUnavailable`."""
        command = Command.of(config)
        try:
            await self.child.start(command)
        except (OSError, ValueError) as error:
            reason = f"its command {command.argv[0]} cannot be run: {_why(error)}."
            raise DownstreamUnavailable(config.name, reason) from error

    def lose(self, reason: str, *, gone: bool = False) -> None:
        super().lose(reason, gone=gone)
        self.child.release()

    async def watch(self) -> None:
        """Wait for the end of the child and report it."""
        await self.child.ending.wait()
        self.lose(await self.child.last_words())

    async def _send(
        self, message: Json, exchange: Exchange | None, headers: Mapping[str, str]
    ) -> None:
        if self.closed.is_set():
            raise ChannelLost(self.reason, sent=False)
        line = encode(message) + b"\n"
        if exchange is not None:
            exchange.sent = True
        if not self.child.write(line):
            # Lost from here on: whoever tries again must not be given this one.
            self.lose(await self._why_closed())
            raise ChannelLost(self.reason, sent=False)
        if self.child.congested:
            await self._drain()

    async def _why_closed(self) -> str:
        """Why the child takes no input: mostly it has just ended, and there are better words."""
        try:
            async with asyncio.timeout(END_SHOWS):
                await self.child.ending.wait()
                return await self.child.last_words()
        except TimeoutError:
            return "it has closed its input."

    async def _drain(self) -> None:
        """Wait until the child has read enough; one that does not is stuck."""
        try:
            async with asyncio.timeout(self._stuck_after):
                await self.child.drained()
        except TimeoutError:
            self.lose(f"it has read nothing for {self._stuck_after:g} seconds.")
        if self.closed.is_set():
            raise ChannelLost(self.reason, sent=True)

    def _take(self, chunk: bytes) -> None:
        for line in self._lines.feed(chunk):
            self._take_line(line)
        if self._lines.pending > MESSAGE_LIMIT:
            self._lines.flush()
            self.lose(f"it sent a line of more than {MESSAGE_LIMIT} bytes.")

    def _take_line(self, line: bytes) -> None:
        line = line.removeprefix(BOM)
        if not line or line.isspace():
            return
        try:
            message: Any = decode(line)
        except ValueError:
            message = None
        if isinstance(message, dict):
            self.receive(message)
        elif isinstance(message, list):
            for item in message:
                self.receive(item)
        else:
            self._report_garbage(line)

    def _report_garbage(self, line: bytes) -> None:
        self.garbage += 1
        if self.garbage <= REPORTS:
            shown = line[:200].decode("utf-8", "replace").strip()
            self._on_log(f"A line on stdout is no message and was skipped: {shown}")
        if self.garbage == REPORTS:
            self._on_log("Further lines like this on stdout are skipped silently.")


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "the interpreter that its first line names does not exist"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

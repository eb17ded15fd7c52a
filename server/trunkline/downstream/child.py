"""
A child process that speaks over its standard streams, from its start to its last descendant.

asyncio pushes its output here (`SubprocessProtocol`), so nothing is buffered twice, no task has to
pull, and the exit is noticed even while a grandchild holds the pipes open. The child leads a
process group of its own, so that all it starts can be ended with it:

    stdin closed ── grace ── SIGTERM to the group ── grace ── SIGKILL to the group ── reaped

If Trunkline itself is killed, the child reads the end of its stdin and leaves by itself.
"""

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, cast

from trunkline.downstream.command import Command
from trunkline.downstream.tasks import finish

LAST_WORDS: Final = 0.3
"""Seconds the pipes have after the exit, and the exit after the pipes, to tell the whole story."""

KILL_TIMEOUT: Final = 5.0
"""Seconds until we stop waiting for a killed process: it hangs in the kernel."""

POLL: Final = 0.02
"""Seconds between two looks at a process group: nothing reports that it is empty."""

TAIL: Final = 20
"""Lines of stderr that are kept to explain an early death."""

LINE_LIMIT: Final = 2_000
"""Bytes of one stderr line that are kept."""

LINES_PER_SECOND: Final = 200
"""How much of a flood on stderr is passed on; the rest is counted."""

TELLING: Final = re.compile(r"(error|exception|panic|fatal)\b|cannot|not found", re.IGNORECASE)
"""What the line of a stack trace has that says what went wrong."""


class LineSplitter:
    """Cuts a byte stream into lines of any length, each byte copied once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.pending = 0
        """Bytes of the line that is not complete yet."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that *chunk* completes, without their ends."""
        lines = chunk.split(b"\n")
        self._parts.append(lines[0])
        self.pending += len(lines[0])
        if len(lines) == 1:
            return []
        rest = lines.pop()
        lines[0] = b"".join(self._parts)
        self._parts, self.pending = [rest], len(rest)
        return lines

    def flush(self) -> bytes:
        """What is there of the line that is not complete."""
        line = b"".join(self._parts)
        self._parts, self.pending = [], 0
        return line


class Child(asyncio.SubprocessProtocol):
    """One child process. Made, started, and stopped whatever happens in between."""

    def __init__(
        self, *, on_output: Callable[[bytes], None], on_log: Callable[[str], None]
    ) -> None:
        """*on_output* gets stdout in pieces as they come, *on_log* gets stderr line by line."""
        self._on_output, self._on_log = on_output, on_log
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._stderr = LineSplitter()
        self._tail: deque[bytes] = deque(maxlen=TAIL)
        self._logged, self._left_out, self._second = 0, 0, 0
        self._open_pipes = {1, 2}
        self._exited = asyncio.Event()
        self._silent = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._released = False
        self.ending = asyncio.Event()
        """Set when it exits or closes its stdout: either means that no answer will come."""

    # -- life ---------------------------------------------------------------------------------

    async def start(self, command: Command) -> None:
        """Start it. Raises `OSError` or `ValueError` if the system refuses."""
        await finish(
            asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                *command.argv,
                env=command.env,
                cwd=command.cwd,
                start_new_session=True,
            )
        )

    async def stop(self, grace: float) -> None:
        """End it and everything it started, and reap it. *grace* is in seconds, for each step."""
        transport = self._transport
        if transport is None:
            return
        self._close_stdin()
        await _within(grace, self._exited)
        if not await self._is_group_gone(0):
            self._terminate()
            if not await self._is_group_gone(grace):
                self._kill()
                await _within(KILL_TIMEOUT, self._exited)
        await _within(LAST_WORDS, self._silent)
        transport.close()

    async def last_words(self) -> str:
        """Wait a moment for what there is to learn after `ending`, and say why it ended."""
        await _within(LAST_WORDS, self._exited)
        await _within(LAST_WORDS, self._silent)
        status = None if self._transport is None else self._transport.get_returncode()
        if status is None:
            what = "it closed its output"
        elif status < 0:
            what = f"it was ended by {_signal_name(-status)}"
        else:
            what = f"it exited with status {status}"
        line = telling_line(self._tail)
        return f"{what}: {line[:300].rstrip('.')}." if line else f"{what}."

    @property
    def pid(self) -> int | None:
        """Its process id, which is that of its group; None before the start."""
        return None if self._transport is None else self._transport.get_pid()

    async def _is_group_gone(self, seconds: float) -> bool:
        """Wait at most so long for the child and all its descendants to end."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (self._exited.is_set() and not self._group_exists()):
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(POLL)
        return True

    def _group_exists(self) -> bool:
        if sys.platform == "win32" or self.pid is None:
            return False
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # somebody is there whom we may not signal
        return True

    def _terminate(self) -> None:
        assert self._transport is not None
        try:
            if sys.platform == "win32":
                self._transport.terminate()
            else:
                os.killpg(self._transport.get_pid(), signal.SIGTERM)
        except (ProcessLookupError, PermissionError):
            pass

    def _kill(self) -> None:
        assert self._transport is not None
        try:
            if sys.platform == "win32":
                self._transport.kill()
            else:
                os.killpg(self._transport.get_pid(), signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass

    def _close_stdin(self) -> None:
        if self._stdin is None:
            return
        if self._stdin.get_write_buffer_size():
            self._stdin.abort()  # closing would wait until it has read what it does not read
        else:
            self._stdin.close()

    # -- input --------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Queue *data* for its stdin; False if its end is closed and nothing of it was sent."""
        stdin = self._stdin
        if stdin is None or stdin.is_closing():
            return False
        idle = stdin.get_write_buffer_size() == 0
        stdin.write(data)
        return not (idle and stdin.is_closing())

    @property
    def congested(self) -> bool:
        """Whether it is slow to read, and writing should wait for `drained`."""
        return not self._writable.is_set()

    async def drained(self) -> None:
        """Wait until it has read enough, has ended, or `release` is called."""
        await self._writable.wait()

    def release(self) -> None:
        """Let nobody wait for it to read any more."""
        self._released = True
        self._writable.set()

    # -- what asyncio calls -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._on_output(data)
            return
        for line in self._stderr.feed(data):
            self._log(line)
        if self._stderr.pending > 4 * LINE_LIMIT:
            self._log(self._stderr.flush())

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 0:
            self.release()
            return
        if fd == 1:
            self.ending.set()
        elif line := self._stderr.flush():
            self._log(line)
        self._open_pipes.discard(fd)
        if not self._open_pipes:
            self._silent.set()

    def process_exited(self) -> None:
        self._exited.set()
        self.release()
        self.ending.set()

    def pause_writing(self) -> None:
        if not self._released:
            self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def _log(self, raw: bytes) -> None:
        line = raw[:LINE_LIMIT].rstrip()
        if not line:
            return
        self._tail.append(line)
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            if self._left_out:
                self._on_log(f"{self._left_out} more lines on stderr were left out.")
            self._logged, self._left_out, self._second = 0, 0, second
        if self._logged < LINES_PER_SECOND:
            self._logged += 1
            self._on_log(_text(line) + ("…" if len(raw) > LINE_LIMIT else ""))
        else:
            self._left_out += 1


def telling_line(raw: Iterable[bytes]) -> str:
    """The line of stderr that most likely says what went wrong; "" if there is none."""
    lines = [_text(line).strip() for line in raw]
    telling = [line for line in lines if TELLING.search(line)]
    return (telling or lines or [""])[-1]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for *event*, but not longer."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass

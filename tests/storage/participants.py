"""Start processes that share an embedded server, and see what is left of them."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil

from trunkline.storage.place import Place

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 90.0
"""Seconds anything here may take. A busy machine starts Python slowly."""


class Participant:
    """One process, by its standard streams."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = process.pid

    async def ready(self) -> None:
        """Wait until the server answers it."""
        assert await self._read() == "ready"

    async def ask(self, statement: str) -> Any:
        """The value of a statement, as it sees it; asked again if the server went meanwhile."""
        assert self._process.stdin is not None
        async with asyncio.timeout(LIMIT):
            while True:
                self._process.stdin.write(f"{statement}\n".encode())
                if (answer := await self._read()) != {"error": "storage_unavailable"}:
                    return answer

    async def leave(self) -> int:
        """Let it leave in order; its exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(LIMIT):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._process.returncode is None:
            self._process.kill()
        async with asyncio.timeout(LIMIT):
            await self._process.wait()

    async def _read(self) -> Any:
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT):
            line = await self._process.stdout.readline()
        assert line, "the participant has ended"
        return json.loads(line)


@asynccontextmanager
async def participants(
    folder: Path, count: int, *, python: str = sys.executable, uid: int | None = None
) -> AsyncGenerator[list[Participant]]:
    """So many processes on *folder*, started at once, which have all had an answer."""
    started: list[Participant] = []
    sources = [path for path in sys.path if Path(path).is_relative_to(ROOT)]
    try:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                *(python, "-m", "tests.storage.participant", str(folder)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sources)},
                user=uid,
            )
            started.append(Participant(process))
        for participant in started:
            await participant.ready()
        yield started
    finally:
        for participant in started:
            await participant.kill()
        await until(lambda: not servers(folder))


def servers(folder: Path) -> list[psutil.Process]:
    """Every process of the server of *folder*: each has the cluster's name in its title."""
    name = Place(folder).name
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(name in word for word in process.info["cmdline"] or ())
    ]


def server_pid(folder: Path) -> int:
    """The process that runs the server of *folder* now, as the server itself has written it."""
    return int((Place(folder).data / "postmaster.pid").read_text().splitlines()[0])


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that processes outside do, within the limit."""
    async with asyncio.timeout(LIMIT):
        while not holds():  # noqa: ASYNC110 - other processes set no event of ours
            await asyncio.sleep(0.02)

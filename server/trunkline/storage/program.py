"""
The programs of PostgreSQL as our children: started as another user, ended in order, understood.

Each goes through `launch.py`, which gives up root and ties its life to ours.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

import anyio

from trunkline.errors import EmbeddedFailed, StorageFull
from trunkline.storage.binaries import ADVICE
from trunkline.storage.place import Account

RUN_LIMIT: Final = 120.0
"""Seconds the making of a cluster may take. A second or less, unless the disk is very slow."""

STOPS: Final = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""How a server is ended, and the seconds each way is given: in order, at once, by force."""

ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"}
"""All that the programs see: no PGPORT, no LD_LIBRARY_PATH, nothing of ours."""

LAUNCH: Final = Path(__file__).with_name("launch.py")


async def launch(
    account: Account, command: Sequence[str], *, output: int | BinaryIO, handles: Sequence[int]
) -> Process:
    """
    Start a program as *account*, to end with us, with *handles* open in it.

    Its process group is its own: Ctrl-C is for us to hear, and the server is stopped in its turn.
    """
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", str(LAUNCH)),
        *(str(account.uid), str(account.gid), str(os.getpid())),
        *command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        cwd="/",
        pass_fds=handles,
        start_new_session=True,
    )


async def run(account: Account, command: Sequence[str], *, handles: Sequence[int]) -> None:
    """Run a program to its end. Raises `EmbeddedFailed` or `StorageFull` if it fails."""
    process = await launch(account, command, output=subprocess.PIPE, handles=handles)
    try:
        async with asyncio.timeout(RUN_LIMIT):
            output, _ = await process.communicate()
    except TimeoutError:
        raise EmbeddedFailed(
            f"Making the database took longer than {RUN_LIMIT:g} seconds and was given up. "
            "Is the disk very slow, or full?"
        ) from None
    finally:
        with anyio.CancelScope(shield=True):
            await end(process)
    if process.returncode:
        raise failure(output.decode("utf-8", "replace"))


async def end(process: Process) -> None:
    """End a server in order, or else by force, and reap it. A program that has ended stays so."""
    for number, patience in STOPS:
        if process.returncode is None:
            try:
                process.send_signal(number)
            except ProcessLookupError:
                pass
        try:
            async with asyncio.timeout(patience):
                await process.wait()
                return
        except TimeoutError:
            continue


def failure(output: str) -> EmbeddedFailed | StorageFull:
    """What a program that has failed says about it, as an error."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\b(FATAL|PANIC|error):|Error\b", line)]
    line = (telling or lines or ["it said nothing"])[-1]
    reason = re.sub(r"^.*?\b(FATAL|PANIC|error):\s*", "", line)[:300].rstrip(".")
    if "No space left on device" in output:
        return StorageFull(f"There is no room left for the database: {reason}. Make some.")
    return EmbeddedFailed(f"PostgreSQL could not be started: {reason}. {ADVICE}")

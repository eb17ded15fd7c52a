"""
Telling that mcp.json has changed, once per change, whoever changes it and however.

An editor writes in place, in two steps, or renames a new file over the old one; Kubernetes swaps a
symbolic link two steps away; folders come and go. So the folders are watched, and what counts is
what the file holds: an event too many costs a look, and a look now and then makes up for events
that never come, as on network drives.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

import structlog
from watchfiles import awatch

log = structlog.get_logger(__name__)

SETTLE: Final = 0.2
"""Seconds a file must stay as it is before a change counts as finished."""

LOOK_AGAIN: Final = 2.0
"""Seconds after which the file is looked at whatever the system says."""

PATIENCE: Final = 25
"""Looks that a file which is written all the time is given to settle."""

Folders = dict[Path, int]
"""Folder -> its inode: one that is deleted and made again needs a new watch."""


def watch_config(
    path: Path, *, settle: float = SETTLE, look_again: float = LOOK_AGAIN
) -> AsyncGenerator[None]:
    """
    Yield once for every change of what *path* holds from now on, creation and deletion included.

    *settle* and *look_again* are seconds. A change back within *settle* is none. Never ends by
    itself, and never raises for what the file system does.
    """
    return _watch(path, _content(path), settle, look_again)


async def _watch(
    path: Path, known: bytes | None, settle: float, look_again: float
) -> AsyncGenerator[None]:
    async with aclosing(_occasions(path, look_again)) as occasions:
        async for _ in occasions:
            now = await asyncio.to_thread(_content, path)
            if now == known:
                continue
            for _ in range(PATIENCE):
                await asyncio.sleep(settle)
                before, now = now, await asyncio.to_thread(_content, path)
                if now == before:
                    break
            if now != known:
                known = now
                yield


def _content(path: Path) -> bytes | None:
    """What the file holds; None while there is none that can be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None


async def _occasions(path: Path, look_again: float) -> AsyncGenerator[None]:
    """Yield whenever it is time to look: at an event in a folder on the way, or now and then."""
    while True:
        try:
            watched = _folders(path)
            changes = awatch(
                *watched,
                watch_filter=None,
                recursive=False,
                rust_timeout=int(look_again * 1000),
                yield_on_timeout=True,
                debounce=100,
            )
            async with aclosing(changes):
                async for _ in changes:
                    yield
                    if _folders(path) != watched:
                        break
        except OSError as error:
            # No watch to be had, or a folder that has just gone: looking now and then has to do.
            log.debug("config.watch_failed", path=str(path), error=str(error))
            await asyncio.sleep(look_again)
            yield


def _folders(path: Path) -> Folders:
    """
    The folders in which something can change what *path* holds: its own, and those of its links.

    In the place of one that does not exist yet stands the nearest that does.
    """
    found: Folders = {}
    step = path.absolute()
    for _ in range(40):  # as many links as Linux follows
        folder = step.parent
        while not folder.is_dir():
            folder = folder.parent
        found[folder] = folder.stat().st_ino
        if not step.is_symlink():
            break
        step = folder / step.readlink()
    return found

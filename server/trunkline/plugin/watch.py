"""
Telling that something may have changed in the plugin folders.

It does not say what: whoever listens looks again and compares contents, so that an event too many
costs nothing, and a look now and then makes up for events that a file system swallows.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final

import structlog
from watchfiles import Change, awatch

log = structlog.get_logger(__name__)

DEBOUNCE_MS: Final = 200
"""Milliseconds in which further changes are taken together, at most: an editor writes twice."""

LOOK_AGAIN: Final = 5.0
"""Seconds after which it is time to look, whatever the file system says."""


async def watch(folders: Sequence[Path]) -> AsyncGenerator[None]:
    """Yield whenever it is time to look. A folder that does not exist is picked up once it does."""
    while True:
        existing = _existing(folders)
        try:
            if not existing:
                await asyncio.sleep(LOOK_AGAIN)
                yield
                continue
            async for _ in awatch(
                *existing,
                watch_filter=_may_matter,
                debounce=DEBOUNCE_MS,
                rust_timeout=int(LOOK_AGAIN * 1000),
                yield_on_timeout=True,
            ):
                yield
                if _existing(folders) != existing:
                    break
        except OSError as error:
            # No watch to be had (too many in use, say). Looking now and then has to do.
            log.warning("plugins.watch_failed", error=str(error), seconds=LOOK_AGAIN)
            await asyncio.sleep(LOOK_AGAIN)
            yield


def _existing(folders: Sequence[Path]) -> list[Path]:
    return [folder for folder in folders if folder.is_dir()]


def _may_matter(_change: Change, path: str) -> bool:
    # Folders count: a package that is moved away gives no event for its files.
    return "__pycache__" not in path

"""
Locks between processes, which the kernel lets go of when their holder dies.

A lock belongs to an open file, and so to every process that has inherited it: it is free when the
last of them is gone, however they ended. The file itself stays where it is and holds nothing.
"""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from trunkline.errors import EmbeddedFailed

if sys.platform != "win32":
    import fcntl


@contextmanager
def try_lock(path: Path) -> Generator[int | None]:
    """
    Hold the lock at *path*: its file descriptor, or None if somebody else has it.

    A child that is given the descriptor shares the lock, and keeps it when this block has ended.
    Raises `OSError` if the file cannot be made.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield handle if _is_ours(handle) else None
    finally:
        os.close(handle)


def _is_ours(handle: int) -> bool:
    if sys.platform == "win32":
        raise EmbeddedFailed("The embedded PostgreSQL is not for Windows: set DATABASE_URL.")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""
The audit as JSON lines: one file to follow, ship and search, beside the table.

The file is opened for every batch and closed after it, so whatever rotates it (logrotate and its
like) may rename it at any moment, and nobody has to be told. A batch is on the disk for certain
when it counts as written.
"""

import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Final

import anyio

from trunkline.errors import SystemRefusal
from trunkline.security.audit.chain import line_of
from trunkline.storage.repositories.audit import AuditRow

OWNER_ONLY: Final = 0o600


class AuditFile:
    """A file that entries are added to. Several processes may add to one."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self.path = path

    async def write(self, rows: Sequence[AuditRow]) -> None:
        """Add entries. Raises `SystemRefusal`; then some of them may have been added."""
        data = "".join(f"{line_of(row, with_hash=True)}\n" for row in rows).encode()
        try:
            with anyio.CancelScope(shield=True):  # who is stopped meanwhile would write it again
                await anyio.to_thread.run_sync(append, self.path, data)
        except OSError as error:
            raise SystemRefusal(error) from error


def append(path: Path, data: bytes) -> None:
    """Add lines to a file that is for its owner alone. A torn last line is ended first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b", buffering=0, opener=_for_owner) as file:
        if _is_torn(file):
            data = b"\n" + data
        while data:
            data = data[file.write(data) :]
        os.fsync(file.fileno())


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, OWNER_ONLY)


def _is_torn(file: FileIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"

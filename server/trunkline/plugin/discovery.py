"""
Which plugins there are: files and packages in the plugin folders, and entry points.

Nothing is imported here and nobody has to be named. In a folder, every `.py` file and every
package counts, except names that begin with `_` or `.` (shared code, drafts) and tests.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Final

ENTRY_POINTS: Final = "trunkline.plugins"
"""The entry point group in which an installed distribution offers plugins."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place that plugins come from. Equal sources are the same place."""

    name: str
    """The module's name, or the entry point's."""

    path: Path | None = None
    """The file, or the package's folder; None for an entry point."""

    entry_point: EntryPoint | None = None

    @property
    def origin(self) -> str:
        """Where it is, for a person."""
        if self.path is not None:
            return str(self.path)
        assert self.entry_point is not None
        return f"the entry point {self.entry_point.name} = {self.entry_point.value}"

    @property
    def identifier(self) -> str:
        """The name as it can stand in `register_<module>`."""
        return re.sub(r"\W", "_", self.name)


def find_sources(folders: Sequence[Path]) -> list[Source]:
    """
    Everything that may hold plugins: folders in the given order, names sorted, then entry points.

    Reads the disk. A folder that does not exist holds nothing.
    """
    found = [
        Source(path.name.removesuffix(".py"), path)
        for folder in folders
        for path in _modules(folder)
    ]
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    found += [Source(point.name, entry_point=point) for point in points]
    return list(dict.fromkeys(found))


def _modules(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return
    for path in paths:
        is_file = path.suffix == ".py" and path.is_file()
        is_module = is_file or (path / "__init__.py").is_file()
        if is_module and not path.name.startswith(("_", ".")) and not is_test(path):
            yield path


def is_test(path: Path) -> bool:
    """Whether a file or folder belongs to the tests of whoever wrote the plugins."""
    name = path.stem
    return (
        name in {"test", "tests", "conftest"} or name.startswith("test_") or name.endswith("_test")
    )


def digest_file(path: Path) -> str:
    """What stands in a file, as a short digest; "" if it cannot be read."""
    try:
        return digest(path.read_bytes())
    except OSError:
        return ""


def digest(content: bytes) -> str:
    return blake2b(content, digest_size=16).hexdigest()


def digest_around(path: Path) -> dict[Path, str]:
    """
    The state of every Python file that importing *path* may touch.

    That is the file or the package itself, and the shared code (`_*.py`, `_*/`) next to it.
    """
    tops = [path, *path.parent.glob("_*")]
    files = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*.py"))]
    return {file: digest_file(file) for file in files if file.suffix == ".py"}

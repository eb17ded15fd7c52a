"""
What each server offered when it was last seen, kept on disk.

So the lists are complete before a server has started. One file per server, readable for its owner
alone; it is taken only while the server's configuration is still the same.
"""

import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import TypeAdapter, ValidationError

from trunkline.models import KINDS, Json, Kind, Listing

log = structlog.get_logger(__name__)

FORMAT: Final = 1
_listing: Final = TypeAdapter(Listing)
_file: Final = TypeAdapter(dict[str, Any])


class LastKnown:
    """A folder of listings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._on_disk: dict[str, tuple[str, Listing]] = {}
        """What this process has read or written: it need not be written again."""

    def load(self, name: str, fingerprint: str) -> Listing | None:
        """The last listing of a server that is still configured the same; None if there is none."""
        path = self._path(name)
        self._on_disk.pop(name, None)
        try:
            content = _file.validate_json(path.read_bytes())
            if (content.get("format"), content.get("fingerprint")) != (FORMAT, fingerprint):
                return None
            listing = _listing.validate_python(content.get("listing"))
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.warning("last_known.unreadable", server=name, error=type(error).__name__)
            return None
        self._on_disk[name] = (fingerprint, listing)
        return listing

    def save(self, name: str, fingerprint: str, listing: Listing) -> None:
        """Keep a listing. A disk that cannot be written is logged; nothing depends on it."""
        if self._on_disk.get(name) == (fingerprint, listing):
            return
        try:
            content: Json = {
                "format": FORMAT,
                "server": name,
                "fingerprint": fingerprint,
                "listing": _listing.dump_python(_objects(listing), mode="json"),
            }
            text = _file.dump_json(content)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self._path(name), text)
            self._on_disk[name] = (fingerprint, listing)
        except (OSError, ValueError) as error:
            log.warning("last_known.not_saved", server=name, error=str(error))

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / f"{digest[:32]}.json"


def _objects(listing: Listing) -> Listing:
    """A listing without the items that are no objects: nobody could use them."""
    listed: dict[Kind, tuple[Any, ...]] = {kind: listing.of(kind) for kind in KINDS}
    usable = {
        kind: tuple(i for i in items if isinstance(i, dict)) for kind, items in listed.items()
    }
    return replace(listing, **usable)


def _replace(path: Path, text: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".new")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

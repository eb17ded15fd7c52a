"""
What the host remembers of a plugin: its versions, and why one is not served.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from trunkline.errors import PluginError
from trunkline.plugin.discovery import Source, digest_around
from trunkline.plugin.loading import Load
from trunkline.plugin.registration import LoadedPlugin


@dataclass(frozen=True, slots=True)
class PluginFailure:
    """Why a plugin, or its latest change, is not served."""

    name: str
    origin: str
    """The file, folder or entry point."""

    sentence: str
    code: str


@dataclass(eq=False)
class Version:
    """One version of a source, from its import to its end."""

    source: Source
    seen: dict[Path, str]
    """What stood in its files, and beside them, before it was imported."""

    load: Load
    task: asyncio.Task[None] | None = None
    plugins: list[LoadedPlugin] = field(default_factory=list[LoadedPlugin])
    served: bool = False
    settled: bool = False
    """Whether it serves or has served, or has failed."""

    retired: asyncio.Event = field(default_factory=asyncio.Event)

    def is_stale(self) -> bool:
        """Whether loading it again may give something else. Reads the disk."""
        if self.source.path is None:
            return False
        if self.served:
            return self.load.is_stale()
        return digest_around(self.source.path) != self.seen

    def end(self) -> None:
        """Stop serving, or stop trying to."""
        if self.served:
            self.retired.set()
        elif self.task is not None:
            self.task.cancel()


@dataclass(eq=False)
class Entry:
    """One source: its latest version, and the one that serves (an older one, if that failed)."""

    latest: Version
    serving: Version | None = None
    error: PluginError | None = None
    """Why the latest settled version does not serve."""

    def end(self) -> None:
        """Stop serving, or stop trying to."""
        self.latest.end()
        if self.serving is not None:
            self.serving.end()


def failure_of(source: Source, error: PluginError) -> PluginFailure:
    return PluginFailure(source.name, source.origin, str(error), error.code)

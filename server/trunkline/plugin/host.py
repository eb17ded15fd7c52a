"""
The plugins of this process: found, loaded, registered, watched, and kept apart.

Each source has a task of its own, which imports, registers, starts, serves and stops one version
of it, all in one place. A newer version is a newer task; the older one steps down only when the
newer one stands, so a change that fails changes nothing.

    folders ── refresh() ──┬── clock.py    v1 ── load ── register ── start ── serve ──────── stop
             (every change)│               v2             load ── register ── start ── serve ──
                           ├── broken.py   v1 ── load ── failed: reported by name, nothing else
                           └── hanging.py  v1 ── load ... deadline: reported by name

Nobody waits for plugins: `on_change` tells when there is something new in `plugins` or `failures`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Self

import structlog

from trunkline.errors import (
    PluginError,
    PluginFolderMissing,
    PluginNameTaken,
    PluginRegistrationFailed,
    PluginTimeout,
)
from trunkline.plugin.discovery import Source, digest_around, find_sources
from trunkline.plugin.loading import Load, in_own_thread
from trunkline.plugin.registration import LoadedPlugin, describe, register, started
from trunkline.plugin.version import Entry, PluginFailure, Version, failure_of
from trunkline.plugin.watch import watch

log = structlog.get_logger(__name__)

IMPORT_PATIENCE: Final = 0.5
"""Seconds that an import has to itself before the next one begins beside it."""

STOP_GRACE: Final = 5.0
"""Seconds that the stop hooks of a plugin may take."""

RETIRE_GRACE: Final = 5.0
"""Seconds for which a version that was replaced runs on, for the calls that are still in it."""


class PluginHost:
    """Every plugin of this process."""

    def __init__(
        self, folders: Sequence[Path], *, register_timeout: float, missing_ok: bool = False
    ) -> None:
        """
        *folders* are searched in this order; the first plugin of a name keeps it. With
        *missing_ok*, a folder that does not exist is no failure; it is picked up once it does.
        *register_timeout* is in seconds: what a plugin has to be imported, registered and started.
        """
        self.folders = list(dict.fromkeys(folder.absolute() for folder in folders))
        self.plugins: list[LoadedPlugin] = []
        """What can be served, in a stable order. Replaced, never changed in place."""

        self.failures: list[PluginFailure] = []
        self.on_change: Callable[[PluginHost], None] | None = None
        """Called (synchronously, cheaply) after `plugins` or `failures` became different."""

        self.settled = asyncio.Event()
        """Set once everything found at the start is loaded or has failed."""

        self._timeout, self._missing_ok = register_timeout, missing_ok
        self._order: list[Source] = []
        self._entries: dict[Source, Entry] = {}
        self._turn = asyncio.Lock()
        self._closing = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self]:
        """Find, serve and watch. Entering waits for no plugin; leaving stops them all."""
        async with asyncio.TaskGroup() as self._tasks:
            watching = self._tasks.create_task(self._watch())
            try:
                yield self
            finally:
                self._closing.set()
                watching.cancel()
                for entry in self._entries.values():
                    entry.end()

    async def _watch(self) -> None:
        await self._refresh()
        async for _ in watch(self.folders):
            await self._refresh()

    async def _refresh(self) -> None:
        """Load what is new or changed, and end what is gone."""
        try:
            sources, changed = await in_own_thread("discovery", self._look)
        except Exception as error:  # a folder that cannot be read must not end what serves
            log.exception("plugins.look_failed", error=str(error))
            return
        self._order = sources
        for source in set(self._entries) - set(sources):
            self._entries.pop(source).end()
            log.info("plugin.removed", plugin=source.name, origin=source.origin)
        for source, seen in changed.items():
            self._begin(source, seen)
        self._publish()

    def _look(self) -> tuple[list[Source], dict[Source, dict[Path, str]]]:
        """All sources, and those to be loaded with the state of their files."""
        sources = find_sources(self.folders)
        entries = dict(self._entries)
        changed = [
            source
            for source in sources
            if source not in entries or entries[source].latest.is_stale()
        ]
        return sources, {
            source: digest_around(source.path) if source.path is not None else {}
            for source in changed
        }

    def _begin(self, source: Source, seen: dict[Path, str]) -> None:
        version = Version(source, seen, Load(source))
        entry = self._entries.get(source)
        if entry is None:
            entry = self._entries[source] = Entry(version)
        elif entry.latest is not entry.serving:
            entry.latest.end()  # still being loaded, and already out of date
        entry.latest = version
        version.task = self._tasks.create_task(
            self._keep(entry, version), name=f"plugin {source.name}"
        )

    # -- one version --------------------------------------------------------------------------

    async def _keep(self, entry: Entry, version: Version) -> None:
        """Carry one version from its import to its end. Never raises."""
        service = AsyncExitStack()
        try:
            await self._prepare(version, service)
            self._serve(entry, version)
            await version.retired.wait()
            await self._let_calls_end()
        except PluginError as error:
            self._fail(entry, version, error)
        except asyncio.CancelledError:
            if not _is_cancelled():
                failed = PluginRegistrationFailed(
                    f"Async registration failed for {version.source.name}: it cancelled itself."
                )
                self._fail(entry, version, failed)
        except BaseException as error:  # noqa: BLE001 - the border of one plugin: the others go on
            failed = PluginRegistrationFailed(
                f"Registration failed for {version.source.name}: {describe(error)}"
            )
            failed.__cause__ = error
            self._fail(entry, version, failed)
        finally:
            await self._stop(version, service)
            version.load.forget()

    async def _prepare(self, version: Version, service: AsyncExitStack) -> None:
        """Import, register and start. Raises `PluginError`."""
        importing = await self._begin_import(version)
        doing = "being imported. Importing a plugin must not do any work: move it into a function"
        try:
            async with asyncio.timeout(self._timeout):
                await importing
                doing = "registering. Connect to the outside when a tool is called, not before"
                version.plugins = await register(version.load)
                doing = "starting. Let `on_start` return, and do long work in a task of its own"
                for plugin in version.plugins:
                    await service.enter_async_context(started(plugin))
        except TimeoutError:
            raise PluginTimeout(
                f"After {self._timeout:g} seconds the plugin {version.source.name!r} "
                f"({version.source.origin}) was still {doing}."
            ) from None

    async def _begin_import(self, version: Version) -> asyncio.Future[None]:
        """
        Import in turn: two imports that meet in one library can each see half of it.

        An import that takes long loses its turn, so that one that hangs holds nobody up.
        """
        async with self._turn:
            source = version.source
            importing = in_own_thread(source.name, version.load.run, source.path)
            try:
                await asyncio.wait({importing}, timeout=IMPORT_PATIENCE)
            except asyncio.CancelledError:
                importing.cancel()
                raise
        return importing

    def _serve(self, entry: Entry, version: Version) -> None:
        before, entry.serving, entry.error = entry.serving, version, None
        version.served = version.settled = True
        log.info(
            "plugin.changed" if before is not None else "plugin.loaded",
            plugin=version.source.name,
            origin=version.source.origin,
        )
        self._publish()
        if before is not None:
            before.end()

    def _fail(self, entry: Entry, version: Version, error: PluginError) -> None:
        """The error callback of every plugin's task: report by name, and go on."""
        entry.error, version.settled = error, True
        self._report(failure_of(version.source, error), error.__cause__)
        self._publish()

    async def _let_calls_end(self) -> None:
        try:
            async with asyncio.timeout(RETIRE_GRACE):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _stop(self, version: Version, service: AsyncExitStack) -> None:
        try:
            async with asyncio.timeout(STOP_GRACE):
                await service.aclose()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the border of one plugin: the others go on
            log.exception("plugin.stop_failed", plugin=version.source.name, error=describe(error))

    # -- what everybody sees ------------------------------------------------------------------

    def _publish(self) -> None:
        """Work out what is served and what is not, and tell if that is something new."""
        plugins: dict[str, LoadedPlugin] = {}
        keepers: dict[str, Source] = {}
        failed: list[PluginFailure] = []
        refused = [
            PluginFailure(folder.name, str(folder), str(error), error.code)
            for folder in self.folders
            if not (self._missing_ok or folder.is_dir()) and (error := PluginFolderMissing(folder))
        ]
        for source in self._order:
            entry = self._entries[source]
            if entry.error is not None:
                failed.append(failure_of(source, entry.error))
            for plugin in entry.serving.plugins if entry.serving is not None else []:
                keeper = keepers.setdefault(plugin.name, source)
                if plugins.setdefault(plugin.name, plugin) is not plugin:
                    error = PluginNameTaken(plugin.name, keeper=keeper.origin, other=source.origin)
                    refused.append(failure_of(source, error))
        for failure in refused:
            if failure not in self.failures:
                self._report(failure, None)
        self._tell(list(plugins.values()), failed + refused)

    def _tell(self, plugins: list[LoadedPlugin], failures: list[PluginFailure]) -> None:
        if (plugins, failures) != (self.plugins, self.failures):
            self.plugins, self.failures = plugins, failures
            if self.on_change is not None:
                self.on_change(self)
        if all(entry.latest.settled for entry in self._entries.values()):
            self.settled.set()

    def _report(self, failure: PluginFailure, cause: BaseException | None) -> None:
        log.error(
            "plugin.failed",
            plugin=failure.name,
            origin=failure.origin,
            code=failure.code,
            reason=failure.sentence,
            exc_info=cause,
        )


def _is_cancelled() -> bool:
    """Whether the running task is being cancelled, rather than having raised it itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0

"""
The composition root: everything is made and wired here, top to bottom, and nothing else happens.

    settings ─> mcp.json ─┐
                plugins ──┴─> roster ─> providers ─> sessions
                                │ listings
                                ▼
                             catalog ─> dispatch ─> adapter ─> FastMCP server ─> transports
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from fastmcp import FastMCP

from trunkline import __version__
from trunkline.catalog.catalog import Catalog
from trunkline.catalog.last_known import LastKnown
from trunkline.dispatch import Dispatch
from trunkline.downstream.config import (
    Config,
    ConfigProblem,
    ServerConfig,
    difference,
    read_config,
)
from trunkline.downstream.http import HttpClient
from trunkline.downstream.watch import watch_config
from trunkline.errors import RpcError
from trunkline.gateway.adapter import Adapter
from trunkline.gateway.announcements import Announcements
from trunkline.gateway.held import HeldCalls
from trunkline.models import Caller, Client, Era, Json, State
from trunkline.plugin.host import PluginHost
from trunkline.providers.downstream import DownstreamProvider
from trunkline.providers.health import look as look_at
from trunkline.providers.roster import Roster
from trunkline.providers.transports import connect_to, plugin_channel
from trunkline.settings import Settings
from trunkline.wire import LATEST_MODERN, METHOD_NOT_FOUND

log = structlog.get_logger(__name__)

SHARE: Final = Path(__file__).parent / "share"
"""What the wheel carries beside the code."""

CHECKOUT: Final = Path(__file__).parents[2]
"""The repository, when Trunkline runs from it."""

TAKEN: Final = "A server of mcp.json has this name. Give the plugin or the server another one."

PLUGIN_RANK: Final = 1_000_000
"""Plugins rank behind every server of mcp.json where two want one name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """One server or plugin, as `trunkline check` shows it."""

    name: str
    kind: str
    """`stdio`, `sse`, `streamable-http` or `plugin`."""

    state: State
    reason: str = ""
    last_error: str | None = None
    next_try: datetime | None = None
    tools: int = 0
    prompts: int = 0
    resources: int = 0
    problems: tuple[str, ...] = ()
    """Sentences about what it offers: left out, renamed, mended."""


class App:
    """The running program, for the faces that show it."""

    def __init__(
        self,
        settings: Settings,
        config_path: Path,
        server: FastMCP[Any],
        catalog: Catalog,
        dispatch: Dispatch,
        roster: Roster,
        plugins: PluginHost,
    ) -> None:
        self.settings, self.config_path, self.server = settings, config_path, server
        self.catalog, self.dispatch = catalog, dispatch
        self.config = Config()
        self._roster, self._plugins = roster, plugins

    def problems(self) -> list[ConfigProblem]:
        """What is wrong with mcp.json now."""
        return list(self.config.problems)

    def reports(self) -> list[ServerReport]:
        """How every server and plugin stands now."""
        known = [self._report(provider) for provider in self._roster.providers]
        names = {report.name for report in known}
        wrong = {
            problem.server: problem.message
            for problem in reversed(self.config.problems)
            if problem.server is not None and problem.server not in names
        }
        unstarted = [
            ServerReport(name=name, kind="", state=State.ERROR, reason=first, last_error=first)
            for name, first in reversed(wrong.items())
        ]
        failed = [
            ServerReport(
                name=failure.name,
                kind="plugin",
                state=State.ERROR,
                reason=failure.sentence,
                last_error=failure.sentence,
            )
            for failure in self._plugins.failures
            if failure.name not in names
        ]
        failed += [
            ServerReport(name=plugin.name, kind="plugin", state=State.ERROR, reason=TAKEN)
            for plugin in self._plugins.plugins
            if plugin.name in self._roster.servers()
        ]
        return [*known, *unstarted, *failed]

    async def settled(self, timeout: float) -> bool:
        """
        Wait until every server has connected and listed, or failed once.

        False after *timeout* seconds. Only for people who wait: no request ever does.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (  # noqa: ASYNC110 - people may wait inexactly
                    self._plugins.settled.is_set()
                    and all(provider.settled for provider in self._roster.providers)
                ):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True

    def local_caller(self, on_notice: Callable[[str, Json | None], None] | None = None) -> Caller:
        """A client that is this process itself: for calls from the command line."""
        return LocalCaller(on_notice)

    def _report(self, provider: DownstreamProvider) -> ServerReport:
        status = provider.status
        snapshot = self.catalog.snapshot
        return ServerReport(
            name=provider.name,
            kind="plugin" if provider.is_plugin else provider.config.transport,
            state=status.state,
            reason=status.reason,
            last_error=status.last_error,
            next_try=status.next_try,
            tools=snapshot.count(provider.name, "tools"),
            prompts=snapshot.count(provider.name, "prompts"),
            resources=snapshot.count(provider.name, "resources")
            + snapshot.count(provider.name, "templates"),
            problems=snapshot.problems(provider.name),
        )


class LocalCaller:
    """The command line as a client. It can be asked nothing."""

    def __init__(self, on_notice: Callable[[str, Json | None], None] | None) -> None:
        self.client = Client(
            id="command-line",
            era=Era.MODERN,
            protocol_version=LATEST_MODERN,
            info={"name": "trunkline-cli", "version": __version__},
        )
        self.log_level: str | None = None
        self._on_notice = on_notice

    @property
    def standing(self) -> None:
        return None

    async def ask(self, method: str, params: Json | None) -> Json:
        raise RpcError(METHOD_NOT_FOUND, f"The command line cannot answer {method}.")

    async def tell(self, method: str, params: Json | None) -> None:
        if self._on_notice is not None:
            self._on_notice(method, params)


def find_config(settings: Settings) -> Path:
    """The mcp.json to serve: the one that was named, or the nearest there is."""
    if settings.config is not None:
        return settings.config
    for folder in (Path.cwd(), settings.home):
        if (folder / "mcp.json").is_file():
            return folder / "mcp.json"
    packaged = SHARE / "mcp.json"
    return packaged if packaged.is_file() else CHECKOUT / "mcp.json"


@asynccontextmanager
async def open_app(settings: Settings, *, single_client: bool) -> AsyncGenerator[App]:
    """
    Open everything. Returns at once: servers connect in the background.

    *single_client* is the stdio face: the servers are told of that one client, so they start when
    it has introduced itself. Otherwise they start now.
    """
    config_path = find_config(settings)
    folders = settings.plugins.folders
    if folders is None:
        folders = (config_path.resolve().parent / "plugins",)
    last_known = LastKnown(settings.home / "catalog")
    catalog = Catalog()
    dispatch = Dispatch(catalog)
    announcements = Announcements(catalog, dispatch)

    def learned(provider: DownstreamProvider) -> None:
        if provider.listing is not None:
            catalog.put(provider)
            if not provider.is_plugin:
                last_known.save(provider.name, provider.config.fingerprint, provider.listing)

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(HttpClient())
        held = await stack.enter_async_context(HeldCalls().open())
        plugins = PluginHost(
            folders,
            register_timeout=settings.plugins.register_timeout,
            missing_ok=settings.plugins.folders is None,
        )
        # Entered before the roster, so that plugins stop after the sessions that use them.
        await stack.enter_async_context(plugins.open())
        roster = await stack.enter_async_context(
            Roster(
                settings.downstream,
                known=lambda config: last_known.load(config.name, config.fingerprint),
                on_listing=learned,
                on_gone=catalog.remove,
                on_updated=announcements.resource_updated,
            ).open()
        )
        server: FastMCP[Any] = FastMCP("trunkline", version=__version__)
        Adapter(
            catalog,
            dispatch,
            announcements,
            held,
            providers=lambda: roster.providers,
            on_client=roster.start if single_client else _ignore,
        ).install(server)
        app = App(settings, config_path, server, catalog, dispatch, roster, plugins)
        plugins.on_change = lambda host: _seat_plugins(roster, host)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        announcing = tasks.create_task(announcements.run())
        follower = ConfigFollower(app, roster, plugins, client)
        follower.apply()
        following = tasks.create_task(follower.run())
        if not single_client:
            roster.start(None)
        try:
            yield app
        finally:
            plugins.on_change = None
            announcements.close()
            following.cancel()
            announcing.cancel()


class ConfigFollower:
    """Keeps the roster as mcp.json says, while it changes."""

    def __init__(self, app: App, roster: Roster, plugins: PluginHost, client: HttpClient) -> None:
        self._app, self._roster, self._plugins, self._client = app, roster, plugins, client
        # Before the first reading, so that no change between the two is missed.
        self._changes = watch_config(app.config_path)

    def apply(self) -> None:
        """Read mcp.json and start, stop and rename what is different from before."""
        old = self._app.config
        new = self._app.config = read_config(self._app.config_path, os.environ).keeping(old)
        changes = difference(old, new)
        for name in changes.removed:
            self._roster.remove(name)
        for config in changes.added + changes.changed:
            self._put(config)
        for config in changes.renamed:
            self._roster.reconfigure(config)
        _seat_plugins(self._roster, self._plugins)  # a plugin's name may be free, or taken, now

    async def run(self) -> None:
        """Apply every change of the file."""
        async for _ in self._changes:
            before = self._app.problems()
            log.info("config.changed", path=str(self._app.config_path))
            self.apply()
            for problem in self._app.problems():
                if problem not in before:
                    log.warning("config.problem", code=problem.code, problem=str(problem))

    def _put(self, config: ServerConfig) -> None:
        settings = self._app.settings.downstream
        look = partial(look_at, self._client, config, timeout=settings.probe_timeout)
        connect = connect_to(config, settings, self._client)
        self._roster.put(config, connect, look=look if config.health_url is not None else None)


def _seat_plugins(roster: Roster, host: PluginHost) -> None:
    """Give every loaded plugin a provider, unless a server of mcp.json has its name."""
    servers = roster.servers()
    loaded = {one.name: one for one in host.plugins if one.name not in servers}
    for name in roster.plugins() - loaded.keys():
        roster.remove(name)
    for rank, plugin in enumerate(loaded.values(), PLUGIN_RANK):
        config = ServerConfig(
            name=plugin.name, transport="memory", namespace=plugin.namespace, position=rank
        )
        roster.put(config, plugin_channel(plugin.server, plugin.name), origin=plugin.server)


def _ignore(_caller: Caller) -> None:
    """Nobody has to know of a client where there may be many."""

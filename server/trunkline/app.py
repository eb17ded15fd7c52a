"""
The composition root: everything is made and wired here, top to bottom, and nothing else happens.

    settings ─> mcp.json ─┐
                plugins ──┼─> servers ─> roster ─> providers ─> sessions
           ┌──> added ────┘               │ listings
           │                              ▼
    database <── registry ───────────> catalog ─> dispatch ─> adapter ─> FastMCP ─> transports
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastmcp import FastMCP
from pydantic import SecretStr

from trunkline import __version__
from trunkline.cache.cache import Cache
from trunkline.cache.connection import open_cache
from trunkline.cache.failures import CacheFailure
from trunkline.catalog.added import AddedServers
from trunkline.catalog.administration import Administration
from trunkline.catalog.catalog import Catalog
from trunkline.catalog.registry import Registry
from trunkline.catalog.reports import Reports, ServerReport
from trunkline.catalog.statistics import CallStatistics
from trunkline.dispatch import Dispatch
from trunkline.downstream.config import ConfigProblem, ServerConfig
from trunkline.downstream.http import HttpClient
from trunkline.downstream.session import Connect
from trunkline.errors import RpcError, StorageUnavailable, TrunklineError
from trunkline.finding import Finding
from trunkline.gateway.adapter import Adapter, OwnTools
from trunkline.gateway.admin_tools import AdminTools
from trunkline.gateway.announcements import Announcements
from trunkline.gateway.exposure import Exposure
from trunkline.gateway.health import Trouble
from trunkline.gateway.held import HeldCalls
from trunkline.gateway.meta_tools import MetaTools
from trunkline.gateway.oauth_tool import LoginTool
from trunkline.kept_results import KeptResults
from trunkline.models import LOCAL, Caller, Client, Era, Json, State
from trunkline.plugin.host import PluginHost
from trunkline.providers.downstream import DownstreamProvider, Look
from trunkline.providers.health import look as look_at
from trunkline.providers.roster import Roster
from trunkline.providers.servers import Servers
from trunkline.providers.transports import connect_to
from trunkline.safeguards import Safeguards, open_safeguards
from trunkline.security.masking.masking import SECRETS
from trunkline.security.masking.sources import secrets_of_server, secrets_of_settings
from trunkline.security.outbound.guard import OutboundGuard
from trunkline.settings import Settings
from trunkline.storage.repositories.audit import AuditRepository
from trunkline.storage.repositories.statistics import StatisticsRepository
from trunkline.storage.standing import Standing, standing_database
from trunkline.wire import LATEST_MODERN, METHOD_NOT_FOUND

SHARE: Final = Path(__file__).parent / "share"
"""What the wheel carries beside the code."""

CHECKOUT: Final = Path(__file__).parents[2]
"""The repository, when Trunkline runs from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """The running program, for the faces that show it."""

    settings: Settings
    config_path: Path
    server: FastMCP[Any]
    catalog: Catalog
    dispatch: Dispatch
    servers: Servers
    reporter: Reports
    registry: Registry
    standing: Standing
    finding: Finding
    cache: Cache
    administration: Administration
    safeguards: Safeguards
    opened: asyncio.Event
    """Set once what was stored is being served, or cannot be."""

    @property
    def storage_trouble(self) -> TrunklineError | None:
        """Why nothing is being stored now; None while everything is."""
        return self.standing.reason or self.registry.trouble

    @property
    def cache_trouble(self) -> CacheFailure | None:
        """Why Redis is not used now; None while it is, is about to be, or was not asked for."""
        reason = self.cache.reason if self.settings.redis_url is not None else None
        return None if reason is None or reason.trouble == "starting" else reason

    def troubles(self) -> list[Trouble]:
        """What is not as it should be, for anybody to read: nothing of an organisation."""
        found: list[Trouble] = []
        gate = self.safeguards.gate
        named = {
            "database": self.storage_trouble,
            "cache": self.cache_trouble,
            "policy": gate.policies.problem,
            "audit": gate.audit.trouble if self.storage_trouble is None else None,
        }
        for what, error in named.items():
            if error is not None:
                found.append(Trouble(what, error.code, SECRETS.mask(str(error))))
        for report in self.reports():
            if report.org is None and report.state in (State.DEGRADED, State.ERROR):
                reason = report.last_error or report.reason
                found.append(Trouble(f"server {report.name}", report.state.lower(), reason))
        return found

    def problems(self) -> list[ConfigProblem]:
        """What is wrong with mcp.json, and with servers that were added, now."""
        return self.servers.problems()

    def reports(self) -> list[ServerReport]:
        """How every server and plugin stands now."""
        return self.reporter.all()

    async def wait_opened(self, seconds: float) -> None:
        """Wait until what was stored is being served, but no longer than so many *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                await self.opened.wait()
        except TimeoutError:
            pass

    async def settled(self, timeout: float) -> bool:
        """
        Wait until every server has connected and listed, or failed once.

        The database is waited for as well, as long as it may take to answer. False after *timeout*
        seconds. Only for people who wait: no request ever does.
        """
        now = asyncio.get_running_loop().time
        patience = now() + self.settings.database.connect_timeout

        def is_opened() -> bool:
            reason = self.standing.reason
            is_late = now() >= patience or not isinstance(reason, StorageUnavailable)
            return self.opened.is_set() or (reason is not None and is_late)

        try:
            async with asyncio.timeout(timeout):
                while not (  # noqa: ASYNC110 - people may wait inexactly
                    self.servers.plugins.settled.is_set()
                    and (self.safeguards.pins.loaded.is_set() or self.standing.reason is not None)
                    and not self.catalog.has_draft
                    and is_opened()
                    and all(provider.settled for provider in self.servers.roster.providers)
                ):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            return False
        return True

    def local_caller(self, on_notice: Callable[[str, Json | None], None] | None = None) -> Caller:
        """A client that is this process itself: for calls from the command line."""
        return LocalCaller(on_notice)


class LocalCaller:
    """The command line as a client. It can be asked nothing."""

    def __init__(self, on_notice: Callable[[str, Json | None], None] | None) -> None:
        self.client = Client(
            id="command-line",
            principal=LOCAL,
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
    SECRETS.learn("settings", secrets_of_settings(settings))
    catalog, opened = Catalog(), asyncio.Event()
    statistics = CallStatistics()
    dispatch = Dispatch(catalog, on_call=statistics.add)
    announcements = Announcements(catalog, dispatch)

    async with AsyncExitStack() as stack:
        standing = await stack.enter_async_context(
            standing_database(
                settings.database, _secret(settings.database_url), settings.home / "postgres"
            )
        )
        cache = await stack.enter_async_context(
            open_cache(_secret(settings.redis_url), settings.cache)
        )
        guard = OutboundGuard(settings.outbound)
        safeguards = await stack.enter_async_context(
            open_safeguards(
                settings,
                config_path,
                standing,
                catalog,
                cache,
                guard,
                face="stdio" if single_client else "http",
                registry=lambda: registry,
                find=lambda which: _config_of(roster.provider(which)),
            )
        )
        dispatch.gate = safeguards.gate
        client = await stack.enter_async_context(HttpClient(guard))
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
                known=lambda config: registry.known(config),  # noqa: PLW0108 - made below
                opened=opened,
                on_listing=catalog.put_known,
                on_gone=catalog.remove,
                on_updated=announcements.resource_updated,
            ).open()
        )

        def reach(config: ServerConfig) -> tuple[Connect, Look | None]:
            SECRETS.learn(f"server {config.id}", secrets_of_server(config))
            connect = connect_to(config, settings.downstream, client, safeguards.tokens)
            look = partial(look_at, client, config, timeout=settings.downstream.probe_timeout)
            return connect, look if config.health_url is not None else None

        servers = Servers(roster, plugins, config_path, reach)
        registry = Registry(catalog, servers, standing.database, opened)
        if standing.is_new:
            opened.set()  # there is nothing to wait for
        reports = Reports(catalog, servers)
        server: FastMCP[Any] = FastMCP("trunkline", version=__version__)
        administration = Administration(
            AddedServers(standing.database, config_path.absolute().parent),
            registry,
            servers,
            reports,
            guard=guard,
            patience=settings.downstream.connect_timeout,
        )
        results = dispatch.results = KeptResults(cache, settings.cache, registry.scope_of)
        catalog.listeners.append(results.follow)
        finding = Finding(settings, catalog, standing.database, registry, cache)
        exposure = Exposure(settings.exposure, settings.pinned, stands_in=lambda: roster.stands_in)
        admin = AdminTools(administration, exposure)
        login = LoginTool(safeguards.oauth, lambda: roster.providers, exposure)
        meta = MetaTools(catalog, exposure, finding.search, settings.search.strategy)
        if settings.admin_tools:
            meta.others = admin.usable
        own_tools: list[OwnTools] = [meta, login, *([admin] if settings.admin_tools else [])]
        Adapter(
            catalog,
            dispatch,
            announcements,
            held,
            providers=lambda: roster.providers,
            on_client=roster.start if single_client else roster.offer_credentials,
            opened=opened,
            own_tools=own_tools,
            exposure=exposure,
        ).install(server)
        plugins.on_change = lambda _: servers.seat_plugins()
        servers.read_file()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        background = [
            tasks.create_task(announcements.run()),
            tasks.create_task(servers.follow_file()),
            tasks.create_task(registry.run()),
            tasks.create_task(safeguards.run(registry, AuditRepository(standing.database))),
            tasks.create_task(
                statistics.keep_writing(
                    StatisticsRepository(standing.database),
                    registry.scope_made,
                    registry.tool_ids,
                    registry.is_usable,
                )
            ),
            tasks.create_task(results.run()),
            tasks.create_task(finding.run()),
        ]
        if not single_client:
            roster.start(None)
        try:
            yield App(
                settings=settings,
                config_path=config_path,
                server=server,
                catalog=catalog,
                dispatch=dispatch,
                servers=servers,
                reporter=reports,
                registry=registry,
                standing=standing,
                opened=opened,
                finding=finding,
                cache=cache,
                administration=administration,
                safeguards=safeguards,
            )
        finally:
            plugins.on_change = None
            announcements.close()
            for task in background:
                task.cancel()


def _secret(setting: SecretStr | None) -> str | None:
    return setting.get_secret_value() if setting is not None else None


def _config_of(provider: DownstreamProvider | None) -> ServerConfig | None:
    return None if provider is None else provider.config

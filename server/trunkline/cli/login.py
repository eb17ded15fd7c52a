"""
`trunkline login` and `logout`: the user of this machine logs in at a server, from a terminal.

The pages of a login are served on loopback for as long as it takes, so this works where no
Trunkline listens: at stdio, and before the first start. The terminal is a client like any other,
one that can show links. Whoever serves from the same database follows by itself.
"""

import asyncio
import os
import webbrowser
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import anyio
from cyclopts import Parameter

from trunkline import __version__
from trunkline.app import find_config
from trunkline.background import background
from trunkline.cli.database import opened
from trunkline.cli.options import ConfigOption, LogLevelOption, read_settings
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import put, say
from trunkline.downstream.config import ServerConfig, read_config, read_entry
from trunkline.errors import PortInUse, RpcError, ServerNotFound, UsageError
from trunkline.gateway.http import base_url, listen, serve_http
from trunkline.gateway.oauth_callback import pages_app
from trunkline.models import LOCAL, Client, Era, Json
from trunkline.security.oauth.oauth import OAuth, open_oauth
from trunkline.security.outbound.guard import OutboundGuard
from trunkline.security.vault.keys import KeyRing
from trunkline.security.vault.vault import Vault
from trunkline.settings import HttpSettings, Settings
from trunkline.storage.pool import Database
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.wire import LATEST_MODERN, METHOD_NOT_FOUND

PORT: Final = 33_427
"""Where the pages are, if it is free: the same each time, so that one registration serves them all.
Authorization servers compare the whole address."""

HOST: Final = "127.0.0.1"

ServerArgument = Annotated[
    str, Parameter(name="SERVER", help='A server with "auth" in mcp.json, or one that was added.')
]


def login(
    name: ServerArgument,
    /,
    *,
    browser: Annotated[
        bool, Parameter(name="--browser", help="Open the browser, beside showing the link.")
    ] = True,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """
    Log in at a server, as the user of this machine.

    Shows a link, and waits until the login is through.
    """
    settings = read_settings(config=config, log_level=log_level)
    log_briefly(settings)
    if run_async(_login(settings, name, opens_browser=browser)):
        put(f"You are logged in at {name}.")
    else:
        put(f"You were logged in at {name} before. For another login: `trunkline logout {name}`.")


def logout(
    name: ServerArgument, /, *, config: ConfigOption = None, log_level: LogLevelOption = None
) -> None:
    """Forget the login of the user of this machine at a server."""
    settings = read_settings(config=config, log_level=log_level)
    log_briefly(settings)
    was_there = run_async(_logout(settings, name))
    put(f"You are logged out at {name}." if was_there else f"You were not logged in at {name}.")


class Terminal:
    """The terminal as a client: it shows links."""

    def __init__(self, *, opens_browser: bool) -> None:
        self.client = Client(
            id="command-line",
            era=Era.MODERN,
            protocol_version=LATEST_MODERN,
            info={"name": "trunkline-cli", "version": __version__},
            capabilities={"elicitation": {"url": {}}},
            principal=LOCAL,
        )
        self.log_level: str | None = None
        self.has_shown = False
        self._opens_browser = opens_browser

    @property
    def standing(self) -> None:
        return None

    async def ask(self, method: str, params: Json | None) -> Json:
        url = (params or {}).get("url")
        if not isinstance(url, str):
            raise RpcError(METHOD_NOT_FOUND, f"The command line cannot answer {method}.")
        self.has_shown = True
        say("Open this link in a browser of this machine:")
        put(url)
        if self._opens_browser:
            await anyio.to_thread.run_sync(webbrowser.open, url)
        return {"action": "accept"}

    async def tell(self, method: str, params: Json | None) -> None:
        pass


async def _login(settings: Settings, name: str, *, opens_browser: bool) -> bool:
    """Log in; False if that was done before."""
    terminal = Terminal(opens_browser=opens_browser)
    async with _opened(settings, name) as (oauth, config), _served(oauth):
        await oauth.token(LOCAL.org, LOCAL.user, config, terminal)
    return terminal.has_shown


async def _logout(settings: Settings, name: str) -> bool:
    async with _opened(settings, name) as (oauth, config):
        return await oauth.log_out(LOCAL.org, LOCAL.user, config)


@asynccontextmanager
async def _served(oauth: OAuth) -> AsyncGenerator[None]:
    """The pages of a login, on loopback."""
    try:
        listeners = listen(HOST, PORT)
    except PortInUse:
        listeners = listen(HOST, 0)
    oauth.base = base_url(HOST, listeners[0].getsockname()[1])
    ready, stop = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        await serve_http(
            pages_app(oauth),
            HttpSettings(host=HOST, stop_grace=1.0),
            on_listening=lambda _: ready.set(),
            stop=stop,
            listeners=listeners,
        )

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve())
        await ready.wait()
        try:
            yield
        finally:
            stop.set()  # the last page is still sent


@asynccontextmanager
async def _opened(settings: Settings, name: str) -> AsyncGenerator[tuple[OAuth, ServerConfig]]:
    """Logins at the server of that name. Raises `ServerNotFound` and `UsageError`."""
    async with opened(settings) as database:
        config = await _find(settings, database, name)
        if config.oauth is None:
            raise UsageError(f'Nobody logs in at {name}: it has no "auth": "oauth".')
        vault = Vault(database, KeyRing(settings.vault, settings.home))
        own = settings.oauth.model_copy(update={"public_url": None})
        guard = OutboundGuard(settings.outbound)
        async with background() as tasks:
            tasks.start_soon(vault.run)
            async with open_oauth(database, vault, own, guard, find=lambda _: config) as oauth:
                yield oauth, config


async def _find(settings: Settings, database: Database, name: str) -> ServerConfig:
    """The server of that name: of mcp.json, else one that was added for everybody."""
    path = find_config(settings)
    known = list(read_config(path, os.environ).servers)
    for row in await ServerRepository(database).list_scope(None):
        if row.origin == "api":
            read = read_entry(row.name, row.config, os.environ, path.absolute().parent)
            known += read.servers
    found = next((one for one in known if one.name == name), None)
    if found is None:
        raise ServerNotFound(name, similar=[one.name for one in known if one.oauth is not None])
    return found

"""
Everything that a login takes, for real: a site to log in at, a database, our pages, a browser.
"""

import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
from starlette.applications import Starlette

from tests.databases import database_of
from tests.servers.authorization_server import Site, authorization_server, hosted
from trunkline.background import background
from trunkline.downstream.oauth_entry import OAuthConfig
from trunkline.downstream.server_config import ServerConfig
from trunkline.errors import RpcError
from trunkline.gateway.oauth_callback import oauth_routes
from trunkline.models import LOCAL, Client, Era, Json, Principal, ProviderId
from trunkline.security.oauth.oauth import OAuth, open_oauth
from trunkline.security.outbound.guard import OutboundGuard
from trunkline.security.vault.keys import KeyRing
from trunkline.security.vault.vault import Vault
from trunkline.settings import DatabaseSettings, OAuthSettings, OutboundSettings, VaultSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.orgs import OrgRepository


class Browser:
    """A person's browser: it keeps cookies, and stops at every page to be looked at."""

    def __init__(self) -> None:
        self.client = httpx.AsyncClient(timeout=20)

    async def open(self, url: str) -> httpx.Response:
        return await self.client.get(url)

    async def press(self, url: str) -> httpx.Response:
        """Press the button of the page at *url*."""
        return await self.client.post(url)

    async def set_out(self, link: str) -> str:
        """Press the button of our page; where that leads to."""
        response = await self.press(link)
        assert response.status_code == 303, response.text
        return response.headers["location"]

    async def allowed(self, link: str) -> str:
        """Go through the authorization server; where it sends the browser back to."""
        response = await self.open(await self.set_out(link))
        assert response.status_code == 302, response.text
        return response.headers["location"]

    async def log_in(self, link: str) -> httpx.Response:
        """The whole way; the last page."""
        return await self.open(await self.allowed(link))


class Asker:
    """A client whose person can be shown links, and is."""

    def __init__(
        self, principal: Principal = LOCAL, *, action: str = "accept", shows_links: bool = True
    ) -> None:
        self.client = Client(
            id=secrets.token_hex(4),
            era=Era.HANDSHAKE,
            protocol_version="2025-11-25",
            capabilities={"elicitation": {"url": {}} if shows_links else {"form": {}}},
            principal=principal,
        )
        self.action = action
        self.log_level: str | None = None
        self.standing = None
        self.asked: list[Json] = []
        self.told: list[tuple[str, Json | None]] = []
        self.was_asked = anyio.Event()

    async def ask(self, method: str, params: Json | None) -> Json:
        if method != "elicitation/create":
            raise RpcError(-32601, "Unknown.")
        self.asked.append(params or {})
        self.was_asked.set()
        return {"action": self.action}

    async def tell(self, method: str, params: Json | None) -> None:
        self.told.append((method, params))

    async def link(self) -> str:
        """The link it was shown last, as soon as it was."""
        with anyio.fail_after(20):
            await self.was_asked.wait()
        return self.asked[-1]["url"]


MUTE = Asker(shows_links=False)
"""A client whose person cannot be shown links."""


@dataclass
class Process:
    """What one process of Trunkline has of all this."""

    database: Database
    vault: Vault
    oauth: OAuth
    pages: str = ""


@dataclass
class World:
    site: Site
    home: Path
    configs: dict[ProviderId, ServerConfig] = field(default_factory=dict[ProviderId, ServerConfig])
    first: Process = field(init=False)
    browsers: list[Browser] = field(default_factory=list[Browser])

    @property
    def oauth(self) -> OAuth:
        return self.first.oauth

    def browser(self) -> Browser:
        """The browser of somebody who was never here before."""
        self.browsers.append(Browser())
        return self.browsers[-1]

    async def logged_in(self, config: ServerConfig, org: str | None = None) -> str:
        """The token of Ada, who has just logged in."""
        link = await self.oauth.begin(org, "ada", config)
        page = await self.browser().log_in(link)
        assert page.status_code == 200, page.text
        return await self.oauth.token(org, "ada", config, None)

    def server(self, name: str = "mail", *, org: str | None = None, **auth: Any) -> ServerConfig:
        """A server that people log in at, as mcp.json would have it."""
        config = ServerConfig(
            name=name,
            org=org,
            transport="streamable-http",
            url=self.site.mcp,
            oauth=OAuthConfig(**auth),
        )
        self.configs[config.id] = config
        return config

    def change(self, config: ServerConfig, **changes: Any) -> ServerConfig:
        self.configs[config.id] = changed = replace(config, **changes)
        return changed

    def process(self, **settings: Any) -> AbstractAsyncContextManager[Process]:
        """One more process, with pages of its own."""
        return process(database_of(self.home), self.home, self.configs, **settings)


@asynccontextmanager
async def process(
    dsn: str, home: Path, configs: Mapping[ProviderId, ServerConfig], **settings: Any
) -> AsyncGenerator[Process]:
    """What one process has."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        database = await enter(open_pool(dsn, DatabaseSettings()))
        vault = Vault(database, KeyRing(VaultSettings(), home))
        tasks = await enter(background())
        tasks.start_soon(vault.run)
        guard = OutboundGuard(OutboundSettings(allow=("127.0.0.1",)))
        oauth = await enter(
            open_oauth(database, vault, OAuthSettings(**settings), guard, find=configs.get)
        )
        pages = await enter(hosted(Starlette(routes=oauth_routes(oauth))))
        if oauth.base is None:
            oauth.base = pages
        yield Process(database, vault, oauth, pages)


@asynccontextmanager
async def world(home: Path, **settings: Any) -> AsyncGenerator[World]:
    async with authorization_server() as site:
        made = World(site, home)
        async with made.process(**settings) as made.first:
            await OrgRepository(made.first.database).put("acme")
            await OrgRepository(made.first.database).put("globex")
            try:
                yield made
            finally:
                for browser in made.browsers:
                    await browser.client.aclose()

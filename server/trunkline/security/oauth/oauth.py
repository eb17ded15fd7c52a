"""
Logins at the servers behind us, each person for themselves (`"auth": "oauth"` in mcp.json).

    token ── in memory and good ───────────────────────────────────────────> token
        ├─── about to end ──> refreshed behind the call (oauth_refresh) ──┘
        └─── none ──> a link (oauth_flows) ──> the person follows it ──> callback ──> vault ──┐
                └──> the call waits for that (oauth_waiting) <────────────────────────────────┘

Whoever has no way to show a link to a person gets the link in an error. RFC 6749 and OAuth 2.1, and
MCP, "Authorization" and "Elicitation" of 2025-11-25 and 2026-07-28.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from trunkline.background import background
from trunkline.downstream.server_config import ServerConfig
from trunkline.models import Caller, ProviderId
from trunkline.security.oauth.clients import OAuthClients
from trunkline.security.oauth.discovery import Challenge
from trunkline.security.oauth.failures import LoginRequired, PersonRequired
from trunkline.security.oauth.flows import Finished, Flows, Link, Offer
from trunkline.security.oauth.refresh import Refreshing
from trunkline.security.oauth.turns import LOGIN, Holder, Turns, holder_of
from trunkline.security.oauth.waiting import Waiting, can_be_sent
from trunkline.security.oauth.web import Web, open_web
from trunkline.security.outbound.guard import OutboundGuard
from trunkline.security.vault.vault import Secret, Vault
from trunkline.settings import OAuthSettings
from trunkline.storage.pool import Database
from trunkline.storage.repositories.oauth import (
    LoginRepository,
    OAuthRepository,
    RegistrationRepository,
)


class LoginState(StrEnum):
    """How somebody's login at a server is doing."""

    NONE = "none"
    """They have never logged in, or have logged out."""

    WAITING = "waiting"
    """They were sent a link."""

    VALID = "valid"
    REFRESHING = "refreshing"
    FAILED = "failed"
    """They have to log in again."""


@dataclass(frozen=True, slots=True)
class OAuthStatus:
    """The login of one person at one server."""

    state: LoginState
    until: datetime | None = None
    """When the token ends that there is; it is refreshed before. None if nobody said."""

    reason: str = ""
    """Why it failed: a sentence."""


class OAuth:
    """Tokens of people for servers. Every method raises `OAuthError` and `StorageError`."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        settings: OAuthSettings,
        web: Web,
        find: Callable[[ProviderId], ServerConfig | None],
    ) -> None:
        """See `open_oauth`."""
        self.base: str | None = settings.public_url
        """Under which URL browsers find our pages; None if they do not."""

        self._vault, self._web = vault, web
        rows, logins = OAuthRepository(database), LoginRepository(database)
        clients = OAuthClients(RegistrationRepository(database), vault)
        self._turns = Turns(database, rows, vault)
        self.refreshing = Refreshing(vault, self._turns, clients, self._web_for)
        self._flows = Flows(
            rows,
            logins,
            clients,
            self._turns,
            self.refreshing,
            web_for=self._web_for,
            find=find,
            lifetime=settings.link_lifetime,
        )
        self.waiting = Waiting(database, logins, patience=settings.login_patience)
        self._forced: dict[Holder, str] = {}
        """Tokens that were fetched because the one before was refused."""

        vault.listen(self._changed)

    # -- for calls ----------------------------------------------------------------------------

    def kept(self, org: str | None, user: str | None, config: ServerConfig) -> str | None:
        """The token in memory, if it needs no care: costs microseconds, waits for nothing."""
        if user is None or config.url is None:
            return None
        secret = self.refreshing.kept(holder_of(org, user, config), config.url)
        return None if secret is None else secret.access_token

    async def token(
        self, org: str | None, user: str | None, config: ServerConfig, caller: Caller | None
    ) -> str:
        """
        The token of a user for a server: from memory, refreshed, or after the person has logged in.

        *caller* is whose person may be sent to log in; None takes what can be had without. Raises
        `LoginRequired` where the person has to do something first, with the link where *caller*
        cannot show it.
        """
        if (token := self.kept(org, user, config)) is not None:
            return token
        holder = self._holder(org, user, config)
        secret = await self.refreshing.usable(holder, config)
        if secret is None:
            secret = await self._log_in(holder, config, caller, None)
        return secret.access_token

    async def renew(
        self,
        org: str | None,
        user: str | None,
        config: ServerConfig,
        caller: Caller | None,
        *,
        refused: str,
        challenge: str | None = None,
    ) -> str:
        """
        Another token in the place of one that the server has *refused*, with 401 or 403.

        *challenge* is its `WWW-Authenticate` header. A token that was itself fetched in the place
        of a refused one is not refreshed again: then the person has to log in. Raises as `token`.
        """
        holder = self._holder(org, user, config)
        asked = None if challenge is None else Challenge.of(challenge)
        secret = await self.refreshing.usable(holder, config)
        if secret is not None and secret.access_token != refused:
            return secret.access_token
        lacks = set(asked.scopes if asked else ()) - set(secret.scopes if secret else ())
        if secret is not None and lacks and secret.scopes and asked is not None:
            wider = replace(asked, scopes=(*secret.scopes, *sorted(lacks)))
            return (await self._log_in(holder, config, caller, wider, unlike=refused)).access_token
        if secret is None or not secret.refresh_token or self._forced.get(holder) == refused:
            await self.refreshing.forget(holder, f"The server {config.name!r} refuses the token.")
        elif fresh := await self.refreshing.renewed(holder, config, secret):
            self._forced[holder] = fresh.access_token
            return fresh.access_token
        return (await self._log_in(holder, config, caller, asked)).access_token

    # -- for people ---------------------------------------------------------------------------

    async def begin(
        self,
        org: str | None,
        user: str | None,
        config: ServerConfig,
        *,
        challenge: Challenge | None = None,
    ) -> str:
        """The URL to open in a browser to log in. Raises `LoginRequired` if there are no pages."""
        if self.base is None:
            raise LoginRequired(config.name)
        return (await self._begin(self._holder(org, user, config), config, challenge)).url

    async def show(self, link: str) -> Offer | None:
        """What the page behind a link says; None if the link is not good any more."""
        return await self._flows.show(link)

    async def leave(self, link: str, browser: str) -> str | None:
        """Where to send a browser; None if the link is not good, or another browser has it."""
        return await self._flows.leave(link, browser)

    async def finish(self, params: Mapping[str, str], browser: str | None) -> Finished:
        """Fetch the token for a browser that has come back. Raises `LoginFailed` as well."""
        return await self._flows.finish(params, browser)

    async def log_out(self, org: str | None, user: str | None, config: ServerConfig) -> bool:
        """Forget somebody's token for a server; whether there was one."""
        return await self.refreshing.forget(self._holder(org, user, config))

    async def status(self, org: str | None, user: str, config: ServerConfig) -> OAuthStatus:
        """How somebody's login at a server is doing, whichever process looks after it."""
        holder = holder_of(org, user, config)
        secret = await self.refreshing.stored(holder, config)
        grant = await self._turns.grant(holder)
        if secret is not None and (secret.lasts() or secret.refresh_token is not None):
            flying = grant.is_refreshing or self.refreshing.is_flying(holder)
            state = LoginState.REFRESHING if flying else LoginState.VALID
            return OAuthStatus(state, secret.expires_at)
        if grant.is_waiting or self.waiting.is_waited_for(holder):
            return OAuthStatus(LoginState.WAITING, None, grant.reason)
        if grant.reason or secret is not None:
            reason = grant.reason or "The token has ended, and cannot be refreshed."
            return OAuthStatus(LoginState.FAILED, None, reason)
        return OAuthStatus(LoginState.NONE)

    # -- inside -------------------------------------------------------------------------------

    async def _log_in(
        self,
        holder: Holder,
        config: ServerConfig,
        caller: Caller | None,
        challenge: Challenge | None,
        *,
        unlike: str | None = None,
    ) -> Secret:
        """Have the person log in, and return the token that comes of it."""
        if self.base is None or caller is None:
            raise LoginRequired(config.name)
        login = await self.waiting.join(
            holder, config.name, lambda: self._begin(holder, config, challenge)
        )
        if not can_be_sent(caller):
            raise LoginRequired(config.name, url=login.link.url)
        found: list[Secret] = []

        async def is_there() -> bool:
            secret = await self.refreshing.usable(holder, config)
            if secret is not None and secret.access_token != unlike:
                found.append(secret)
            return bool(found)

        await self.waiting.see_through(login, caller, is_there)
        return found[0]

    async def _begin(
        self, holder: Holder, config: ServerConfig, challenge: Challenge | None
    ) -> Link:
        assert self.base is not None, "asked before"
        return await self._flows.begin(holder, config, self.base.rstrip("/"), challenge)

    def _holder(self, org: str | None, user: str | None, config: ServerConfig) -> Holder:
        if user is None:
            raise PersonRequired(config.name)
        return holder_of(org, user, config)

    def _web_for(self, config: ServerConfig) -> Web:
        """What may be connected to for a server: what mcp.json names needs no guard."""
        if config.guarded or config.oauth is None:
            return self._web.trusting(())
        return self._web.trusting([url for url in (config.url, config.oauth.issuer) if url])

    def _changed(self, org: str | None, user: str, name: str) -> None:
        server = name.removeprefix(LOGIN)
        if server != name:
            holder = Holder(org, user, server)
            self._forced.pop(holder, None)
            self.waiting.stir(holder)


@asynccontextmanager
async def open_oauth(
    database: Database,
    vault: Vault,
    settings: OAuthSettings,
    guard: OutboundGuard,
    *,
    find: Callable[[ProviderId], ServerConfig | None],
) -> AsyncGenerator[OAuth]:
    """
    Logins, for the life of the block. *find* is how a server is configured now.

    Set `OAuth.base` once it is known where browsers find us, unless the settings say so.
    """
    async with open_web(guard, timeout=settings.timeout) as web:
        oauth = OAuth(database, vault, settings, web, find)
        async with oauth.refreshing.open(), background() as tasks:
            tasks.start_soon(oauth.waiting.run)
            yield oauth

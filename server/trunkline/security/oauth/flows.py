"""
A login on its way through a browser: from our link to the authorization server and back.

    link ──> our page ── continue ──> authorization server ──> callback ──> token in the vault
             (who asks)  (one browser, a state, a verifier)

Any process can serve any step, for all of it is a row. What a thief could use is in no one place:
the row has the SHA-256 of the link, the state and the browser's cookie; the PKCE verifier is an
HMAC of the state, which only the browser has, under a seed that only the row has. A browser comes
back once, in time, with the cookie it was sent off with, from the authorization server it was sent
to, or not at all.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final
from uuid import UUID

import structlog

from trunkline.downstream.server_config import ServerConfig
from trunkline.errors import StorageError, TrunklineError
from trunkline.models import Json, ProviderId
from trunkline.security.oauth.clients import OAuthClients
from trunkline.security.oauth.discovery import Challenge, discover
from trunkline.security.oauth.failures import LoginFailed, quoted
from trunkline.security.oauth.refresh import Refreshing
from trunkline.security.oauth.tokens import Terms, digest_of, exchange
from trunkline.security.oauth.turns import Holder, Turns
from trunkline.security.oauth.web import Web, origin, with_params
from trunkline.security.vault.vault import Secret
from trunkline.storage.repositories.oauth import (
    LoginRepository,
    OAuthRepository,
    Outcome,
    ReturnedLogin,
)

log = structlog.get_logger(__name__)

START: Final = "/oauth/start/"
CALLBACK: Final = "/oauth/callback"
DOCUMENT: Final = "/oauth/client.json"
"""Paths of our own pages."""

FORGED: Final = "This browser did not set out from here, or a login was opened in another one."


@dataclass(frozen=True, slots=True)
class Link:
    """A login that somebody can set out on."""

    id: UUID
    url: str


@dataclass(frozen=True, slots=True)
class Offer:
    """What the page behind a link tells whoever opens it."""

    org: str | None
    user: str
    server: str
    site: str
    """The origin of the authorization server."""

    is_taken: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """How a login ended."""

    id: UUID
    holder: Holder
    server: str


class Flows:
    """The logins of every process."""

    def __init__(
        self,
        rows: OAuthRepository,
        logins: LoginRepository,
        clients: OAuthClients,
        turns: Turns,
        refreshing: Refreshing,
        *,
        web_for: Callable[[ServerConfig], Web],
        find: Callable[[ProviderId], ServerConfig | None],
        lifetime: float,
    ) -> None:
        """*find* is how a server is configured now; *lifetime* is in seconds."""
        self._rows, self._logins, self._clients, self._turns = rows, logins, clients, turns
        self._refreshing, self._web_for = refreshing, web_for
        self._find, self._lifetime = find, lifetime

    async def begin(
        self, holder: Holder, config: ServerConfig, base: str, challenge: Challenge | None
    ) -> Link:
        """
        Begin a login that returns to *base*. Nobody has gone anywhere yet.

        Raises `OAuthError`, `StorageError` and what the guard raises.
        """
        assert config.url is not None
        assert config.oauth is not None
        web = self._web_for(config)
        server = await discover(web, config.url, config.oauth, challenge)
        back = base + CALLBACK
        document = base + DOCUMENT if base.startswith("https://") else None
        client = await self._clients.choose(
            web, server, config.oauth, redirect_uri=back, document=document
        )
        terms = Terms(
            server=digest_of(config.url),
            issuer=server.issuer,
            token_endpoint=server.token_endpoint,
            resource=server.resource,
            client_id=client.client_id,
            auth_method=client.auth_method,
        )
        request = {
            "server": [config.org, config.name],
            "terms": asdict(terms),
            "authorization_endpoint": server.authorization_endpoint,
            "names_itself": server.names_itself,
            "redirect_uri": back,
            "scopes": server.scopes,
        }
        link = secrets.token_urlsafe(32)
        login = await self._rows.begin(
            await self._turns.org_id(holder.org),
            holder.user,
            holder.server,
            link=_hash(link),
            request=request,
            seconds=self._lifetime,
        )
        log.info("oauth.login_begun", server=holder.server, org=holder.org, login=str(login))
        return Link(login, base + START + link)

    async def show(self, link: str) -> Offer | None:
        """What the page behind a link says; None if it is not good any more."""
        page = await self._logins.show(_hash(link))
        if page is None:
            return None
        site = origin(page.request["authorization_endpoint"])
        return Offer(page.org, page.user, page.request["server"][1], site, page.is_taken)

    async def leave(self, link: str, browser: str) -> str | None:
        """Where to send a *browser* off to; None if the link is not good, or another one's."""
        state, seed = secrets.token_urlsafe(32), secrets.token_bytes(32)
        request = await self._logins.leave(_hash(link), _hash(browser), _hash(state), seed)
        return None if request is None else _authorization_url(request, state, seed)

    async def finish(self, params: Mapping[str, str], browser: str | None) -> Finished:
        """
        A browser has come back with these parameters: fetch the token and keep it.

        Whatever comes of it, it comes of it once. Raises `LoginFailed`, `OAuthError`,
        `StorageError` and what the guard raises.
        """
        state = params.get("state", "")
        login = await self._logins.take(_hash(state))
        if login is None:
            raise LoginFailed(
                "This login is over: it took too long, or was finished before. Begin it again."
            )
        try:
            finished = await self._finish(login, params, state, browser)
        except TrunklineError as error:
            log.warning("oauth.login_failed", login=str(login.id), code=error.code)
            await self._tell_end(login, "failed", str(error))
            raise
        log.info("oauth.logged_in", server=login.server, org=login.org, login=str(login.id))
        await self._tell_end(login, "done")
        return finished

    async def _tell_end(self, login: ReturnedLogin, outcome: Outcome, reason: str = "") -> None:
        """Tell whoever waits. Where that fails, they find out, or their patience ends."""
        try:
            await self._logins.end(login.id, outcome, reason)
        except StorageError as error:
            log.warning("oauth.end_not_told", login=str(login.id), code=error.code)

    async def _finish(
        self, login: ReturnedLogin, params: Mapping[str, str], state: str, browser: str | None
    ) -> Finished:
        if browser is None or not hmac.compare_digest(_hash(browser), login.browser):
            raise LoginFailed(f"{FORGED} Begin again, and stay in one browser.")
        holder = Holder(login.org, login.user, login.server)
        code = _code(login.request, params)
        config = self._config(login.request)
        verifier = _verifier(login.seed, state)
        secret = await self._exchange(config, login.request, code, verifier)
        async with self._turns.take(holder) as turn:
            await self._refreshing.store(holder, secret, turn)
        return Finished(login.id, holder, config.name)

    async def _exchange(
        self, config: ServerConfig, request: Json, code: str, verifier: str
    ) -> Secret:
        assert config.oauth is not None
        terms = Terms(**request["terms"])
        client = await self._clients.recall(
            terms.issuer, terms.client_id, terms.auth_method, config.oauth
        )
        return await exchange(
            self._web_for(config),
            terms,
            client,
            code=code,
            verifier=verifier,
            redirect_uri=request["redirect_uri"],
            scopes=tuple(request["scopes"]),
        )

    def _config(self, request: Json) -> ServerConfig:
        """The server that the login is for, if it is still the one it was begun for."""
        org, name = request["server"]
        config = self._find(ProviderId(org, name))
        is_same = (
            config is not None
            and config.oauth is not None
            and config.url is not None
            and digest_of(config.url) == request["terms"]["server"]
        )
        if config is None or not is_same:
            raise LoginFailed(f"The server {name!r} was changed meanwhile. Begin the login again.")
        return config


def _authorization_url(request: Json, state: str, seed: bytes) -> str:
    """OAuth 2.1, section 4.1.1, with RFC 7636 and RFC 8707. The endpoint's own query stays."""
    challenge = hashlib.sha256(_verifier(seed, state).encode()).digest()
    params: dict[str, str] = {
        "response_type": "code",
        "client_id": request["terms"]["client_id"],
        "redirect_uri": request["redirect_uri"],
        "state": state,
        "code_challenge": _base64(challenge),
        "code_challenge_method": "S256",
        "resource": request["terms"]["resource"],
    }
    if request["scopes"]:
        params["scope"] = " ".join(request["scopes"])
        if "offline_access" in request["scopes"]:
            params["prompt"] = "consent"  # OpenID Connect Core, section 11
    return with_params(request["authorization_endpoint"], params)


def _code(request: Json, params: Mapping[str, str]) -> str:
    """The code of an answer from where the browser was sent to. Raises `LoginFailed`."""
    issuer, iss = request["terms"]["issuer"], params.get("iss")
    if iss != issuer and (iss is not None or request["names_itself"]):
        raise LoginFailed(
            "The answer does not come from the authorization server that was asked. Begin again; "
            "if this comes again, somebody may be trying to mix up two of them."
        )
    if "error" in params:
        said = quoted(params.get("error_description") or params["error"])
        if params["error"] == "access_denied":
            raise LoginFailed(f"The login was declined ({said}).")
        raise LoginFailed(f"The authorization server refuses the login: {said}.")
    code = params.get("code", "")
    if not code:
        raise LoginFailed("The authorization server answers without a code. Begin again.")
    return code


def _verifier(seed: bytes, state: str) -> str:
    """43 characters that take both the row and the browser to know (RFC 7636, section 4.1)."""
    return _base64(hmac.digest(seed, state.encode(), "sha256"))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()

"""
As whom Trunkline is known to an authorization server.

In the order of the MCP specification: as somebody registered by hand (mcp.json), as the document
behind a URL (client ID metadata), or as what it has registered itself (RFC 7591). A registration is
made once for each authorization server and place to return to, and used by every process; its
secret is in the vault.
"""

import hashlib
import time
from dataclasses import dataclass, field
from typing import Final

import structlog
from mcp.client.auth import OAuthRegistrationError
from mcp.client.auth.oauth2 import check_registration_usable
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import ValidationError

from trunkline.downstream.oauth_entry import OAuthConfig
from trunkline.models import Json
from trunkline.security.oauth.discovery import AuthorizationServer
from trunkline.security.oauth.failures import OAuthInvalid, OAuthRefused, quoted
from trunkline.security.oauth.web import Web, check_secure, is_loopback, origin, shown
from trunkline.security.vault.vault import Secret, Vault
from trunkline.storage.repositories.oauth import Registration, RegistrationRepository

log = structlog.get_logger(__name__)

NAME: Final = "Trunkline"
"""What people read when an authorization server asks whom they let in."""

OWNER: Final = "trunkline"
"""Whose the secrets of registrations are, in the vault."""

BASIC: Final = "client_secret_basic"
POST: Final = "client_secret_post"
NONE: Final = "none"


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """As whom to appear, and how to prove it."""

    client_id: str
    auth_method: str
    """One of RFC 7591: `none`, `client_secret_basic` or `client_secret_post`."""

    secret: str | None = field(default=None, repr=False)


class OAuthClients:
    """The identities that Trunkline has at authorization servers."""

    def __init__(self, rows: RegistrationRepository, vault: Vault) -> None:
        self._rows, self._vault = rows, vault

    async def choose(
        self,
        web: Web,
        server: AuthorizationServer,
        config: OAuthConfig,
        *,
        redirect_uri: str,
        document: str | None,
    ) -> OAuthClient:
        """
        As whom to send somebody to *server*, returning to *redirect_uri*.

        *document* is where our own metadata document is, if it can be read from outside. Raises
        `OAuthInvalid` where there is no way to be known, and what `Web` and `Vault` raise.
        """
        if config.client_id is not None:
            return _configured(config, server.auth_methods)
        document = config.client_metadata_url or document
        if server.takes_documents and document is not None:
            return OAuthClient(document, NONE)
        known = await self._rows.registration(server.issuer, redirect_uri)
        if known is not None and (client := await self._with_secret(server.issuer, known)):
            return client
        return await self._register(web, server, redirect_uri)

    async def recall(
        self, issuer: str, client_id: str, auth_method: str, config: OAuthConfig
    ) -> OAuthClient:
        """The client that a token was issued to. Raises `OAuthInvalid` if its secret is gone."""
        if client_id == config.client_id:
            return _configured(config, (auth_method,))
        client = await self._with_secret(issuer, Registration(client_id, auth_method))
        if client is None:
            raise OAuthInvalid("The secret of Trunkline's registration is gone from the vault.")
        return client

    async def forget(self, issuer: str, client_id: str) -> None:
        """The authorization server does not know that client any more: register anew next time."""
        await self._rows.unregister(issuer, client_id)
        await self._vault.forget(None, OWNER, _place(issuer, client_id))
        log.info("oauth.registration_forgotten", issuer=issuer)

    async def _with_secret(self, issuer: str, known: Registration) -> OAuthClient | None:
        if known.auth_method == NONE:
            return OAuthClient(known.client_id, NONE)
        secret = await self._vault.get(None, OWNER, _place(issuer, known.client_id))
        if secret is None:
            return None
        return OAuthClient(known.client_id, known.auth_method, secret.access_token)

    async def _register(
        self, web: Web, server: AuthorizationServer, redirect_uri: str
    ) -> OAuthClient:
        """Register, unless another process was quicker."""
        if server.registration_endpoint is None:
            raise OAuthInvalid(
                f"{shown(server.issuer)} knows only clients that were registered by hand. Register "
                f"one that returns to {redirect_uri}, and put its id into mcp.json: "
                '"auth": {"type": "oauth", "client_id": "..."}.'
            )
        check_secure(server.registration_endpoint, "registration endpoint")
        answer = await web.post(
            server.registration_endpoint, json=_application(server, redirect_uri)
        )
        made = _registered(answer.status, answer.body, server.issuer)
        client = OAuthClient(
            made.client_id, made.token_endpoint_auth_method or NONE, made.client_secret
        )
        if client.secret is not None and client.auth_method != NONE:
            secret = Secret(access_token=client.secret, token_type="client_secret")  # noqa: S106
            place = _place(server.issuer, client.client_id)
            await self._vault.put(None, OWNER, place, secret)
        ends = made.client_secret_expires_at
        new = Registration(client.client_id, client.auth_method)
        holds = await self._rows.register(
            server.issuer, redirect_uri, new, ends - time.time() if ends else None
        )
        log.info("oauth.registered", issuer=server.issuer, method=client.auth_method)
        return await self._with_secret(server.issuer, holds) or client


def metadata_document(url: str, redirect_uri: str) -> Json:
    """What the document at *url* says of us (draft-ietf-oauth-client-id-metadata-document)."""
    return {
        "client_id": url,
        "client_name": NAME,
        "client_uri": origin(url),
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": NONE,
        "application_type": "web",
    }


def _configured(config: OAuthConfig, methods: tuple[str, ...]) -> OAuthClient:
    assert config.client_id is not None
    if config.client_secret is None:
        return OAuthClient(config.client_id, NONE)
    # What a server does not say is `client_secret_basic` (RFC 8414, section 2).
    method = POST if POST in methods and BASIC not in methods else BASIC
    return OAuthClient(config.client_id, method, config.client_secret)


def _application(server: AuthorizationServer, redirect_uri: str) -> Json:
    """What is asked for when we register."""
    preferred = [one for one in (NONE, BASIC, POST) if one in server.auth_methods]
    host = origin(redirect_uri).partition("://")[2].rpartition(":")[0]
    is_native = is_loopback(host.strip("[]"))
    application: Json = {
        "client_name": NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": preferred[0] if preferred else BASIC,
        "application_type": "native" if is_native else "web",
    }
    return application | ({"scope": " ".join(server.scopes)} if server.scopes else {})


def _registered(status: int, body: Json, issuer: str) -> OAuthClientInformationFull:
    """What we were registered as. Raises `OAuthRefused` or `OAuthInvalid`."""
    if status not in (200, 201):
        why = quoted(body.get("error_description") or body.get("error") or f"status {status}")
        raise OAuthRefused(
            f"{shown(issuer)} does not register Trunkline ({why}). Register it there by hand, and "
            'put its id into mcp.json: "auth": {"type": "oauth", "client_id": "..."}.',
            error=quoted(body.get("error", "")),
        )
    try:
        body.pop("issuer", None)
        made = OAuthClientInformationFull.model_validate(body)
        check_registration_usable(made)
    except (ValidationError, OAuthRegistrationError) as error:
        raise OAuthInvalid(
            f"{shown(issuer)} registered Trunkline in a way that cannot be used: "
            "without an id, or with a method to prove itself that it does not have."
        ) from error
    return made


def _place(issuer: str, client_id: str) -> str:
    """The name of a registration's secret in the vault."""
    digest = hashlib.sha256(f"{issuer}\0{client_id}".encode()).hexdigest()
    return f"oauth client {digest[:32]}"

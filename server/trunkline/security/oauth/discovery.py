"""
Who gives out tokens for a server, found out from the server itself.

    401 ── WWW-Authenticate ──> protected resource metadata (RFC 9728)
                                    └─> authorization server metadata (RFC 8414, OpenID Connect)

MCP, "Authorization" (2025-11-25 and 2026-07-28). Every step is said by a stranger, so every step is
held against the one before: the metadata must be about this very server, the authorization server
must name itself as it was named, its endpoints must be secure, and it must take PKCE with S256.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
from httpx2 import Response
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    build_protected_resource_metadata_discovery_urls,
    extract_resource_metadata_from_www_auth,
    extract_scope_from_www_auth,
    issuers_match,
)
from mcp.shared.auth import OAuthMetadata, ProtectedResourceMetadata
from mcp.shared.auth_utils import check_resource_allowed, resource_url_from_server_url
from pydantic import BaseModel, ValidationError

from trunkline.downstream.oauth_entry import OAuthConfig
from trunkline.security.oauth.failures import OAuthInvalid
from trunkline.security.oauth.web import Web, check_secure, origin, shown

log = structlog.get_logger(__name__)

OFFLINE: Final = "offline_access"
"""The scope that some authorization servers want to hear before they give a refresh token."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What a 401 or 403 says about the token that it wants."""

    metadata_url: str | None = None
    scopes: tuple[str, ...] = ()

    @classmethod
    def of(cls, header: str | None) -> "Challenge":
        """The challenge in a `WWW-Authenticate` header."""
        if header is None:
            return cls()
        response = Response(401, headers={"WWW-Authenticate": header})
        scopes = extract_scope_from_www_auth(response) or ""
        return cls(
            metadata_url=extract_resource_metadata_from_www_auth(response),
            scopes=tuple(scopes.split()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationServer:
    """Who gives out tokens for a server, and how."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    registration_endpoint: str | None
    resource: str
    """What the tokens are to be for (RFC 8707)."""

    scopes: tuple[str, ...]
    """What to ask for; empty leaves it to the authorization server."""

    auth_methods: tuple[str, ...]
    """How clients may show who they are at the token endpoint; empty if it does not say."""

    names_itself: bool
    """Whether it puts `iss` into every response (RFC 9207)."""

    takes_documents: bool
    """Whether a client ID may be the URL of a metadata document."""


async def discover(
    web: Web, url: str, config: OAuthConfig, challenge: Challenge | None = None
) -> AuthorizationServer:
    """
    Find out who gives out tokens for the server at *url*.

    Without a *challenge* the server is asked for one. Raises `OAuthInvalid`, `OAuthUnavailable`,
    and what the guard raises.
    """
    if challenge is None:
        challenge = Challenge.of((await web.knock(url)).challenge)
    resource = await _protected_resource(web, url, challenge)
    named = [str(server) for server in resource.authorization_servers] if resource else []
    issuer = config.issuer or next(iter(named), None)
    metadata = await _metadata(web, issuer, url)
    check_secure(str(metadata.authorization_endpoint), "authorization endpoint")
    check_secure(str(metadata.token_endpoint), "token endpoint")
    if "S256" not in (metadata.code_challenge_methods_supported or ()):
        raise OAuthInvalid(
            f"{shown(str(metadata.issuer))} does not say that it takes PKCE with S256, without "
            "which a code that is caught on its way could be used by others."
        )
    registration = metadata.registration_endpoint
    return AuthorizationServer(
        issuer=str(metadata.issuer),
        authorization_endpoint=str(metadata.authorization_endpoint),
        token_endpoint=str(metadata.token_endpoint),
        registration_endpoint=None if registration is None else str(registration),
        resource=str(resource.resource) if resource else _canonical(url),
        scopes=_scopes(config, challenge, resource, metadata),
        auth_methods=tuple(metadata.token_endpoint_auth_methods_supported or ()),
        names_itself=metadata.authorization_response_iss_parameter_supported is True,
        takes_documents=metadata.client_id_metadata_document_supported is True,
    )


async def _protected_resource(
    web: Web, url: str, challenge: Challenge
) -> ProtectedResourceMetadata | None:
    """What the server says of itself, if it does. It has to be about this server."""
    for place in build_protected_resource_metadata_discovery_urls(challenge.metadata_url, url):
        found = await _read(web, place, ProtectedResourceMetadata)
        if found is None:
            continue
        wanted, said = _canonical(url), str(found.resource)
        if not check_resource_allowed(requested_resource=wanted, configured_resource=said):
            raise OAuthInvalid(
                f"{shown(place)} is about another server, {shown(said)}. "
                "A token for that one must not be asked for here."
            )
        return found
    return None


def _canonical(url: str) -> str:
    """The server as a resource (RFC 8707): without a query, which may hold a key."""
    return resource_url_from_server_url(url.partition("?")[0])


async def _metadata(web: Web, issuer: str | None, url: str) -> OAuthMetadata:
    """What an authorization server says of itself; without one, the server's own origin is it."""
    expected = issuer or origin(url)
    check_secure(expected, "authorization server")
    for place in build_oauth_authorization_server_metadata_discovery_urls(issuer, url):
        found = await _read(web, place, OAuthMetadata)
        if found is None:
            continue
        if not issuers_match(str(found.issuer), expected):
            raise OAuthInvalid(
                f"{shown(place)} should be about {shown(expected)} and is about "
                f"{shown(str(found.issuer))}. One of them pretends to be the other."
            )
        return found
    raise OAuthInvalid(
        f"It could not be found out who gives out tokens for {shown(url)}: "
        f"{shown(expected)} has no metadata that can be used. "
        'If it takes a token or key that you have, put that into "headers".'
    )


async def _read(web: Web, url: str, model: type[M]) -> M | None:
    """The metadata at a URL; None if there are none that can be understood."""
    answer = await web.get(url)
    if answer.status != 200:
        return None
    try:
        return model.model_validate(_without_placeholders(answer.body))
    except ValidationError as error:
        log.info("oauth.metadata_unusable", url=shown(url), flaws=error.error_count())
        return None


def _without_placeholders(body: dict[str, Any]) -> dict[str, Any]:
    """Some servers write null or "" for what they do not have."""
    return {key: value for key, value in body.items() if value is not None and value != ""}


def _scopes(
    config: OAuthConfig,
    challenge: Challenge,
    resource: ProtectedResourceMetadata | None,
    metadata: OAuthMetadata,
) -> tuple[str, ...]:
    """What to ask for: as configured, else as challenged, else as the server says it has."""
    if config.scopes:
        return config.scopes
    said = (resource.scopes_supported if resource else None) or ()
    scopes = challenge.scopes or tuple(said)
    offers_offline = OFFLINE in (metadata.scopes_supported or ())
    if scopes and offers_offline and OFFLINE not in scopes:
        return (*scopes, OFFLINE)
    return scopes

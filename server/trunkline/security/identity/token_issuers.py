"""
The issuers of tokens, each with a verifier of FastMCP's.

Three things are stricter or kinder here than FastMCP has them: a JWT has to expire, `nbf` counts,
and clocks may differ by the `skew`. So FastMCP's verifier finds the key, and joserfc, which it
uses for the rest as well, checks signature and claims. And an issuer that cannot be reached is told
from a token that is no good: the first says nothing about whoever asks.

This module takes half a second to import, and is imported when there is an issuer.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import httpx2
from fastmcp.server.auth import AccessToken
from fastmcp.server.auth.providers.introspection import IntrospectionTokenVerifier
from fastmcp.server.auth.providers.jwt import JWTVerifier
from joserfc import jwk, jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jws import JWSRegistry

from trunkline.models import Json
from trunkline.security.identity.credentials import (
    CredentialExpired,
    CredentialInvalid,
    IdentityUnavailable,
    ScopeInsufficient,
)
from trunkline.security.identity.token_claims import read_unverified
from trunkline.settings import TokenSettings

KEY_TYPES: Final[Mapping[str, Any]] = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class Issuer(Protocol):
    """Somebody whose tokens are trusted."""

    settings: TokenSettings

    async def claims(self, token: str) -> Json | None:
        """
        What a token says of its holder; None if it is not this issuer's.

        Raises `CredentialInvalid`, `CredentialExpired`, `ScopeInsufficient`, and
        `IdentityUnavailable` if the issuer cannot be reached.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections to it."""
        ...


def make_issuer(settings: TokenSettings, *, refresh: float) -> Issuer:
    """
    The issuer that these settings describe. Raises `ValueError` for a key that is none.

    *refresh* is how many seconds pass at least between two readings of its keys.
    """
    if settings.introspection_url is not None:
        return AskedIssuer(settings)
    return JwtIssuer(settings, refresh)


class JwtIssuer:
    """An issuer that signs: its keys are known, or listed where it says."""

    def __init__(self, settings: TokenSettings, refresh: float) -> None:
        self.settings = settings
        self._line = Line(settings.timeout)
        self._verifiers = {
            algorithm: _Verifier(settings, algorithm, self._line.client, refresh)
            for algorithm in settings.algorithms
        }

    async def claims(self, token: str) -> Json | None:
        header, claims = read_unverified(token)
        if claims.get("iss") != self.settings.issuer:
            return None
        verifier = self._verifiers.get(str(header.get("alg")))
        if verifier is None:
            raise CredentialInvalid("token")
        verified = await verifier.verify_token(token)
        if verified is None:
            raise _unavailable(self.settings) if self._line.is_down else CredentialInvalid("token")
        _require_scopes(self.settings, verified)
        return verified.claims

    async def aclose(self) -> None:
        await self._line.client.aclose()


class _Verifier(JWTVerifier):
    """FastMCP's verifier for one algorithm."""

    def __init__(
        self,
        settings: TokenSettings,
        algorithm: str,
        client: httpx2.AsyncClient,
        refresh: float,
    ) -> None:
        super().__init__(
            public_key=settings.public_key,
            jwks_uri=settings.jwks_url,
            algorithm=algorithm,
            http_client=client,
            jwks_refresh_interval=refresh,
        )
        if settings.public_key is not None:
            self._key(settings.public_key)
        self._registry = JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        self._rules = jwt.JWTClaimsRegistry(
            leeway=round(settings.skew),
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "values": list(settings.audience)},
            exp={"essential": True},
        )

    async def load_access_token(self, token: str) -> AccessToken | None:
        """None for a token that is no good. Raises `CredentialExpired`."""
        try:
            key = self._key(await self._get_verification_key(token))
            claims = jwt.decode(token, key, [self.algorithm], self._registry).claims
            self._rules.validate(claims)
        except ExpiredTokenError:
            raise CredentialExpired("token") from None
        except (JoseError, ValueError, TypeError, KeyError, RecursionError):
            return None
        scopes = self._extract_scopes(claims)
        return AccessToken(token=token, client_id="", scopes=scopes, claims=claims)

    def _key(self, text: str | bytes) -> jwk.Key:
        return jwk.import_key(text, KEY_TYPES[self.algorithm[:2]])


class AskedIssuer:
    """An issuer that is asked about every token (RFC 7662)."""

    def __init__(self, settings: TokenSettings) -> None:
        assert settings.introspection_url is not None
        assert settings.client_id is not None
        assert settings.client_secret is not None
        self.settings = settings
        self._line = Line(settings.timeout)
        self._verifier = IntrospectionTokenVerifier(
            introspection_url=settings.introspection_url,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            audience=list(settings.audience),
            http_client=self._line.client,
        )

    async def claims(self, token: str) -> Json | None:
        # What somebody else has signed is nothing for this issuer to see.
        if read_unverified(token)[1].get("iss", self.settings.issuer) != self.settings.issuer:
            return None
        verified = await self._verifier.verify_token(token)
        if verified is None:
            if self._line.is_down:
                raise _unavailable(self.settings)
            return None
        if verified.claims.get("iss", self.settings.issuer) != self.settings.issuer:
            return None
        _require_scopes(self.settings, verified)
        return verified.claims

    async def aclose(self) -> None:
        await self._line.client.aclose()


class Line(httpx2.AsyncBaseTransport):
    """The way to an issuer, which knows whether it leads there."""

    def __init__(self, timeout: float) -> None:
        self._transport = httpx2.AsyncHTTPTransport()
        self.client = httpx2.AsyncClient(transport=self, timeout=timeout)
        self.is_down = False
        """Whether the last request was not answered, or with a failure of the server's."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.is_down = True
        response = await self._transport.handle_async_request(request)
        self.is_down = response.status_code >= 400
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()


def _require_scopes(settings: TokenSettings, verified: AccessToken) -> None:
    if not set(settings.required_scopes) <= set(verified.scopes):
        raise ScopeInsufficient(settings.required_scopes)


def _unavailable(settings: TokenSettings) -> IdentityUnavailable:
    return IdentityUnavailable(
        f"The issuer {settings.issuer} cannot be reached, so its tokens cannot be checked. "
        "Try again in a moment."
    )

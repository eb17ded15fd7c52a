"""
Tokens of others: JWTs that their issuer has signed, and opaque ones that it is asked about.

FastMCP's verifiers find the keys and ask the issuers; this is where several of them stand side by
side, and where a verified token becomes a principal. A token is looked at once a minute at most:
in between it is known by its SHA-256.

Everything of FastMCP and joserfc is imported when there is an issuer, and not before: it takes
longer than the rest of the start.
"""

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trunkline.errors import SettingsInvalid
from trunkline.models import Json, Principal
from trunkline.security.identity.credentials import (
    Credential,
    CredentialInvalid,
    IdentityUnavailable,
    Refused,
)
from trunkline.security.identity.token_claims import principal_of
from trunkline.settings import TokenSettings

if TYPE_CHECKING:
    from trunkline.security.identity.token_issuers import Issuer

REMEMBERED: Final = 60.0
"""Seconds for which a token is not looked at again."""

REFRESH: Final = 5.0
"""Seconds between two readings of an issuer's keys, however many tokens name one that is new."""

MOST: Final = 10_000
"""Tokens that are remembered. The one that was not used for longest is forgotten first."""

LONGEST: Final = 16 * 1024
"""Characters that a token may have."""


@dataclass(slots=True)
class _Known:
    """A token that was verified."""

    credential: Credential
    until: float
    """When it is to be looked at again, in seconds since the epoch."""


class Tokens:
    """The tokens of every issuer that is trusted."""

    def __init__(
        self,
        issuers: Sequence[TokenSettings],
        *,
        remembered: float = REMEMBERED,
        refresh: float = REFRESH,
        most: int = MOST,
    ) -> None:
        self._settings = issuers
        self._remembered, self._refresh, self._most = remembered, refresh, most
        self._issuers: list[Issuer] | None = None
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    @property
    def are_taken(self) -> bool:
        """Whether there is an issuer at all."""
        return bool(self._settings)

    def known(self, token: str) -> Credential | None:
        """The credential that a token was a moment ago; None if it has to be looked at."""
        digest = _digest(token)
        known = self._known.get(digest)
        if known is None or known.until <= time.time():
            return None
        self._known.move_to_end(digest)
        return known.credential

    async def credential(self, token: str) -> Credential:
        """
        The credential that a token is, as its issuer says.

        Raises `CredentialInvalid`, `CredentialExpired`, `ScopeInsufficient`, and
        `IdentityUnavailable` if the issuer cannot be reached.
        """
        if (known := self.known(token)) is not None:
            return known
        if not self._settings or len(token) > LONGEST or not token.isascii():
            raise CredentialInvalid
        try:
            settings, claims = await self._verified(token)
            principal = principal_of(settings.issuer, settings.claims, claims, token)
        except IdentityUnavailable:
            raise
        except Refused:
            self._forget(token)
            raise
        return self._remember(token, principal, claims.get("exp", math.inf) + settings.skew)

    async def prepare(self) -> None:
        """Import what is needed, before somebody waits for it. Raises `SettingsInvalid`."""
        if self._settings:
            await self._made()

    async def aclose(self) -> None:
        """Close the connections to the issuers."""
        for issuer in self._issuers or ():
            await issuer.aclose()

    async def _verified(self, token: str) -> tuple[TokenSettings, Json]:
        """Whose it is, and what it says."""
        refusal: Refused | None = None
        for issuer in await self._made():
            try:
                claims = await _verify(issuer, token)
            except Refused as error:
                refusal = refusal or error  # another entry may take what this one does not
            else:
                if claims is not None:
                    return issuer.settings, claims
        raise refusal or CredentialInvalid("token")

    def _remember(self, token: str, principal: Principal, expires_at: float) -> Credential:
        digest = _digest(token)
        known = self._known.get(digest)
        if known is None or known.credential.principal != principal:
            self._forget(token)
            known = self._known[digest] = _Known(Credential(principal), 0)
        known.credential.expire_at(expires_at)
        known.until = min(expires_at, time.time() + self._remembered)
        self._known.move_to_end(digest)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return known.credential

    def _forget(self, token: str) -> None:
        """It was good, and is no more, or says something else now."""
        known = self._known.pop(_digest(token), None)
        if known is not None:
            known.credential.end()

    async def _made(self) -> "list[Issuer]":
        if self._issuers is None:
            self._issuers = await asyncio.to_thread(_make, self._settings, self._refresh)
        return self._issuers


async def _verify(issuer: "Issuer", token: str) -> Json | None:
    try:
        async with asyncio.timeout(issuer.settings.timeout):
            return await issuer.claims(token)
    except TimeoutError:
        raise IdentityUnavailable(
            f"The issuer {issuer.settings.issuer} takes too long, so its tokens cannot be checked. "
            "Try again in a moment."
        ) from None


def _make(issuers: Sequence[TokenSettings], refresh: float) -> "list[Issuer]":
    from trunkline.security.identity.token_issuers import make_issuer

    try:
        return [make_issuer(settings, refresh=refresh) for settings in issuers]
    except ValueError as error:
        raise SettingsInvalid(f"TRUNKLINE_AUTH__TOKENS cannot be used: {error}") from None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

"""
What somebody has proved to be, for as long as it holds, and what is said to whoever has not.

A `Credential` is a key or a token that was looked at. It can end at any moment: a key is revoked, a
token expires. Whoever goes on for long in its name asks to be told.
"""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from trunkline.errors import PublicAddress, TrunklineError
from trunkline.models import Principal

MOST_VARIANTS: Final = 256
"""Principals that are remembered of one credential: by organisation and passed-on header."""


class Credential:
    """A key or a token that is good, and who came with it."""

    def __init__(self, principal: Principal, *, expires_at: float = math.inf) -> None:
        """*expires_at* is in seconds since the epoch."""
        self.principal = principal
        """As whom it acts where it does not switch to another organisation."""

        self.expires_at = expires_at
        self.is_over = False
        """Whether it was revoked, or something about it has changed."""

        self._watchers: set[Callable[[], None]] = set()
        self._variants: dict[tuple[str | None, str | None], Principal] = {}

    def acting(self, org: str | None, authorization: str | None = None) -> Principal:
        """
        Who it is in an organisation (None: its own), with a header that it may pass on.

        The same question gets the same object. Raises `OrgRefused`.
        """
        if authorization == self.principal.authorization:
            authorization = None
        if org is None and authorization is None:
            return self.principal
        principal = self._variants.get((org, authorization))
        return principal or self._vary(org, authorization)

    def _vary(self, org: str | None, authorization: str | None) -> Principal:
        own = self.principal
        if org is not None and org != own.org and org not in own.orgs:
            raise OrgRefused(org)
        principal = replace(
            own,
            org=own.org if org is None else org,
            authorization=own.authorization if authorization is None else authorization,
        )
        if principal == own:
            principal = own
        if len(self._variants) >= MOST_VARIANTS:
            self._variants.pop(next(iter(self._variants)))
        self._variants[org, authorization] = principal
        return principal

    def end(self) -> None:
        """It is good no more, before its time. Whoever watches is told."""
        self.is_over = True
        self._tell()

    def expire_at(self, moment: float) -> None:
        """It is good until then (seconds since the epoch). Whoever watches is told."""
        if moment != self.expires_at:
            self.expires_at = moment
            self._tell()

    @contextmanager
    def watching(self, look: Callable[[], None]) -> Generator[None]:
        """For the life of the block, call *look* now and whenever its end has come or moved."""
        self._watchers.add(look)
        try:
            look()
            yield
        finally:
            self._watchers.discard(look)

    def _tell(self) -> None:
        for look in list(self._watchers):
            look()


class Refused(TrunklineError):
    """Somebody is not let in. `status` is the HTTP status that says so."""

    code = "refused"
    status = 401


class CredentialMissing(Refused):
    """Nothing was shown."""

    code = "identity_required"

    def __init__(self) -> None:
        super().__init__(
            "Say who you are: send a key or a token in the header 'Authorization: Bearer ...'. "
            "'trunkline key create' makes a key."
        )


class CredentialInvalid(Refused):
    """What was shown is not known here. It is not said what was nearly right about it."""

    code = "credential_invalid"

    def __init__(self, what: str = "key or token") -> None:
        super().__init__(
            f"This {what} is not known here: it is mistyped, was revoked, or is meant for somebody "
            "else. Get another one."
        )


class CredentialExpired(Refused):
    """It was good once."""

    code = "credential_expired"

    def __init__(self, what: str) -> None:
        super().__init__(f"This {what} has expired. Get another one.")


class CredentialMisplaced(Refused):
    """It came where it does not belong."""

    code = "credential_misplaced"
    status = 400

    def __init__(self) -> None:
        super().__init__(
            "A key or token came in the URL, where logs and histories keep it. Take it for known "
            "to others: revoke it, and send another in the header 'Authorization: Bearer ...'."
        )


class HeaderRepeated(Refused):
    """A header that says who asks came twice, and nobody can know which one counts."""

    code = "header_repeated"
    status = 400

    def __init__(self, header: str) -> None:
        super().__init__(f"The header {header} came more than once. Send it once.")


class ScopeInsufficient(Refused):
    """A token lacks an OAuth scope that its issuer's tokens are to have."""

    code = "scope_insufficient"
    status = 403

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(
            f"This token lacks a scope that is needed here. Ask for: {' '.join(scopes)}."
        )
        self.scopes = scopes


class OrgRefused(Refused):
    """Asked to act in an organisation that is not open to whoever asks."""

    code = "org_refused"
    status = 403

    def __init__(self, org: str) -> None:
        super().__init__(
            f"You cannot act for the organisation {org[:64]!r}. Leave X-Organization-Id out, or "
            "name one that your key or token is authorized for."
        )


class TooManyFailures(Refused):
    """From one address came too much that is not known here."""

    code = "too_many_failures"
    status = 429

    def __init__(self, retry_after: float) -> None:
        self.retry_after = max(1, math.ceil(retry_after))
        super().__init__(
            "Too many unknown keys and tokens came from your address. "
            f"Try again in {self.retry_after} seconds."
        )


class IdentityUnavailable(Refused):
    """It cannot be found out who somebody is."""

    code = "identity_unavailable"
    status = 503


class Unprotected(PublicAddress):
    """Asked to listen where strangers can connect, without a way to tell who they are."""

    def __init__(self, host: str, *, switched_off: bool = False) -> None:
        do = (
            "Take TRUNKLINE_AUTH__REQUIRED=false back"
            if switched_off
            else "Make a key first with `trunkline key create NAME`, name an issuer of tokens in "
            "TRUNKLINE_AUTH__TOKENS"
        )
        TrunklineError.__init__(
            self,
            f"{host!r} can be reached from other machines, and everybody there could call every "
            f"tool. {do}, or listen on 127.0.0.1.",
        )

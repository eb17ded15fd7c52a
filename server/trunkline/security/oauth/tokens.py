"""
Tokens as an authorization server issues them: the two requests for them, and what is kept.

Beside a token stands what it was issued under, so that it can be refreshed without asking anybody
else, and so that it is sent to nobody but the server that it was issued for: a server of the same
name at another URL is another server.
"""

import hashlib
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Self, TypeGuard
from urllib.parse import quote_plus

from trunkline.models import Json
from trunkline.security.oauth.clients import BASIC, POST, OAuthClient
from trunkline.security.oauth.failures import OAuthInvalid, OAuthRefused, quoted
from trunkline.security.oauth.web import Answer, Web, check_secure, shown
from trunkline.security.vault.vault import Secret

LONGEST_LIFE: Final = 366 * 86_400.0
"""Seconds. A token that is said to live longer is looked after as if it lived that long."""

LONGEST_TOKEN: Final = 64 * 1024
"""Characters."""

SHORTEST_SECRET: Final = 8
"""Characters of what is hidden where it is repeated. Less is a word that may stand there."""

_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What fits into a header without becoming another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a token was issued under."""

    server: str
    """The `digest_of` the URL of the server that it is for, and may be sent to."""

    issuer: str
    token_endpoint: str
    resource: str
    client_id: str
    auth_method: str

    @classmethod
    def of(cls, secret: Secret) -> Self | None:
        """The terms of a secret; None if it is no token of a login."""
        try:
            return cls(**secret.extra["oauth"])
        except (LookupError, TypeError):
            return None


@lru_cache(maxsize=1024)
def digest_of(url: str) -> str:
    """What tells one server's URL from another's. The URL itself may hold a key."""
    return hashlib.sha256(url.encode()).hexdigest()


def generation_of(secret: Secret | None) -> int:
    """How many tokens there have been, this one included."""
    generation = 0 if secret is None else secret.extra.get("generation", 0)
    return generation if isinstance(generation, int) else 0


def life_of(secret: Secret) -> float | None:
    """Seconds that the token was to live when it was issued; None if nobody said."""
    life = secret.extra.get("life")
    return float(life) if isinstance(life, int | float) else None


async def exchange(
    web: Web,
    terms: Terms,
    client: OAuthClient,
    *,
    code: str,
    verifier: str,
    redirect_uri: str,
    scopes: tuple[str, ...],
) -> Secret:
    """
    Exchange an authorization code for a token (OAuth 2.1, section 4.1.3).

    Raises `OAuthRefused`, `OAuthInvalid`, `OAuthUnavailable` and what the guard raises.
    """
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "code_verifier": verifier,
        "redirect_uri": redirect_uri,
    }
    return await _ask(web, terms, client, form, None, scopes)


async def refresh(web: Web, terms: Terms, client: OAuthClient, old: Secret) -> Secret:
    """A new token for an old one (OAuth 2.1, section 4.3). Raises what `exchange` raises."""
    assert old.refresh_token is not None
    form = {"grant_type": "refresh_token", "refresh_token": old.refresh_token}
    return await _ask(web, terms, client, form, old.refresh_token, old.scopes)


async def _ask(
    web: Web,
    terms: Terms,
    client: OAuthClient,
    form: dict[str, str],
    old_refresh: str | None,
    old_scopes: tuple[str, ...],
) -> Secret:
    check_secure(terms.token_endpoint, "token endpoint")
    asked_at = datetime.now(UTC)  # what it says of its life is about some moment after this one
    form["resource"] = terms.resource
    answer = await _post(web, terms.token_endpoint, client, form)
    if answer.status != 200:
        raise _refusal(answer, terms.issuer, [*form.values(), client.secret or ""])
    body = answer.body
    token, again = body.get("access_token"), body.get("refresh_token")
    if not _is_token(token) or str(body.get("token_type", "Bearer")).lower() != "bearer":
        raise OAuthInvalid(
            f"{shown(terms.issuer)} answers with something that is no bearer token. "
            "Whoever runs it has to look into that."
        )
    life = _seconds(body.get("expires_in"))
    scope = body.get("scope")
    return Secret(
        access_token=token,
        refresh_token=again if _is_token(again) else old_refresh,
        expires_at=None if life is None else asked_at + timedelta(seconds=life),
        scopes=tuple(scope.split()) if isinstance(scope, str) else old_scopes,
        extra={"oauth": asdict(terms), "life": life},
    )


async def _post(web: Web, endpoint: str, client: OAuthClient, form: dict[str, str]) -> Answer:
    if client.auth_method == BASIC and client.secret is not None:
        return await web.post(endpoint, form=form, auth=_basic(client.client_id, client.secret))
    form["client_id"] = client.client_id
    if client.auth_method == POST and client.secret is not None:
        form["client_secret"] = client.secret
    return await web.post(endpoint, form=form)


def numbered(secret: Secret, generation: int) -> Secret:
    """The same token as the one of that number."""
    return replace(secret, extra={**secret.extra, "generation": generation})


def _basic(client_id: str, secret: str) -> tuple[str, str]:
    """Both form-encoded first (RFC 6749, section 2.3.1)."""
    return quote_plus(client_id), quote_plus(secret)


def _refusal(answer: Answer, issuer: str, sent: list[str]) -> OAuthRefused | OAuthInvalid:
    """What a refusal says, without what was *sent*: some repeat that."""
    body: Json = answer.body
    error = body.get("error")
    if not isinstance(error, str) or not error:
        return OAuthInvalid(
            f"{shown(issuer)} answers to the request for a token with status {answer.status} "
            "and no reason. Whoever runs it has to look into that."
        )
    said = str(body.get("error_description") or error)
    for secret in sent:
        said = said.replace(secret, "***") if len(secret) >= SHORTEST_SECRET else said
    said = quoted(said)
    return OAuthRefused(f"{shown(issuer)} gives no token: {said}", error=quoted(error))


def _is_token(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= LONGEST_TOKEN and bool(_TOKEN.fullmatch(value))


def _seconds(value: object) -> float | None:
    """`expires_in` as some write it: a number, a number as text, or nonsense."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return min(seconds, LONGEST_LIFE) if seconds > 0 else None

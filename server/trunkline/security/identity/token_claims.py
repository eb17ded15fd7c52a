"""
What a token says, and whom that makes.

Only claims that the settings name are looked at: what an issuer means by `role` is its own affair
until somebody has said that it is ours as well. A claim that is named and missing lets nobody in,
or nothing through; it never means everything.
"""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

from trunkline.models import Json, Principal, Role, Scope
from trunkline.security.identity.credentials import CredentialInvalid
from trunkline.settings import ClaimSettings
from trunkline.wire import decode


def read_unverified(token: str) -> tuple[Json, Json]:
    """Header and claims of a JWT as they claim to be; empty for what is no JWT. Proves nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}, {}
    try:
        header, claims = (decode(urlsafe_b64decode(part + "==")) for part in parts[:2])
    except (ValueError, binascii.Error):
        return {}, {}
    return (header, claims) if isinstance(header, dict) and isinstance(claims, dict) else ({}, {})


def principal_of(
    issuer: str, names: ClaimSettings, claims: Mapping[str, Any], token: str
) -> Principal:
    """Who holds a token with these claims, which were verified. Raises `CredentialInvalid`."""
    subject = claims.get("sub") or claims.get("client_id")
    if not isinstance(subject, str):
        raise CredentialInvalid("token")
    name = f"{issuer}#{subject}"
    return Principal(
        subject=f"token:{name}",
        org=None if names.org is None else _text(claims, names.org),
        user=name if names.user is None else _text(claims, names.user),
        role=Role.USER if names.role is None else _role(claims.get(names.role)),
        scope=Scope(
            ("*",) if names.allow is None else _texts(claims.get(names.allow)),
            () if names.deny is None else _texts(claims.get(names.deny)),
        ),
        orgs=frozenset() if names.orgs is None else frozenset(_texts(claims.get(names.orgs))),
        authorization=f"Bearer {token}",
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise CredentialInvalid("token")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _role(value: Any) -> Role:
    """The highest role among what a claim says."""
    said = _texts(value)
    return next((role for role in reversed(Role) if role in said), Role.USER)

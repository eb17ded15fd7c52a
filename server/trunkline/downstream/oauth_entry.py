"""
`auth` in mcp.json: a server where every person logs in for themselves.

    "auth": "oauth"
    "auth": {"type": "oauth", "client_id": "…", "client_secret": "${SECRET}", "scopes": ["read"]}

Everything but the type is for servers that cannot find it out by themselves.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from trunkline.downstream.entry import Entry

OAUTH: Final = "oauth"
KEYS: Final = ("type", "client_id", "client_secret", "scopes", "client_metadata_url", "issuer")

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749, appendix A.4: no blank, quotation mark or backslash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthConfig:
    """How people log in at a server. What is None or empty is found out."""

    client_id: str | None = None
    """As whom Trunkline is known there; None has it register itself."""

    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ()
    """What to ask for; empty asks for what the server says it needs."""

    client_metadata_url: str | None = None
    """Where a document describes Trunkline to authorization servers (client ID metadata)."""

    issuer: str | None = None
    """The authorization server; None takes the one that the server names."""


def read_oauth(entry: Entry) -> OAuthConfig | None:
    """How people log in at the server of an entry; None if they do not, or it is wrong."""
    member = entry.node.member("auth")
    if member is None:
        return None
    if not entry.has("url") and not entry.has("serverUrl") and not entry.has("httpUrl"):
        entry.complain(
            "config_invalid",
            'has "auth" but no "url". Programs are given what they need in "env".',
            member,
        )
        return None
    if isinstance(member.value.value, str):
        return OAuthConfig() if entry.choice("auth", (OAUTH,)) else None
    inner = entry.inner("auth", expand=True)
    return None if inner is None else _read(inner)


def _read(auth: Entry) -> OAuthConfig | None:
    auth.refuse_unknown(KEYS, within="auth.")
    if auth.choice("type", (OAUTH,)) is None and not auth.has("type"):
        auth.complain("config_invalid", 'has an "auth" without a type. Write "type": "oauth".')
    config = OAuthConfig(
        client_id=auth.text("client_id"),
        client_secret=auth.text("client_secret"),
        scopes=auth.texts("scopes"),
        client_metadata_url=auth.text("client_metadata_url"),
        issuer=auth.text("issuer"),
    )
    if config.client_secret is not None and config.client_id is None:
        auth.complain("config_invalid", 'has a "client_secret" in "auth" but no "client_id".')
    for scope in config.scopes:
        if not _SCOPE.fullmatch(scope):
            auth.complain(
                "config_invalid", f'has {scope!r} in "scopes": one scope each, without blanks.'
            )
    _check_url(auth, "client_metadata_url", config.client_metadata_url, path_needed=True)
    _check_url(auth, "issuer", config.issuer, path_needed=False)
    return config


def _check_url(auth: Entry, key: str, url: str | None, *, path_needed: bool) -> None:
    """Client ID metadata documents are at https URLs with a path; issuers are URLs."""
    if url is None:
        return
    pattern = r"https://[^/\s?#]+/[^\s#]+" if path_needed else r"https?://[^/\s?#]+[^\s?#]*"
    if not re.fullmatch(pattern, url):
        auth.complain(
            "config_invalid",
            f'has a "{key}" in "auth" that cannot be one: '
            + ("it begins with https:// and has a path." if path_needed else "it is a URL."),
            auth.node.member(key),
        )

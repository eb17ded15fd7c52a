"""
Names that every client accepts and that stay the same.

Model APIs accept `^[A-Za-z0-9_-]{1,64}$`; MCP servers call their tools what they like. A name here
depends on the provider and its own name alone, never on who connected first.
"""

import hashlib
import re
from typing import Final

MAX_LENGTH: Final = 64
SEPARATOR: Final = "__"
MARK_LENGTH: Final = 6

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_UNFIT_SCHEME = re.compile(r"[^A-Za-z0-9.-]")


def fit(text: str) -> str:
    """*text* with every character that clients refuse replaced by an underscore."""
    return _UNFIT.sub("_", text)


def mark(provider: str, own: str) -> str:
    """Six hex digits that tell this provider's *own* name from everybody else's."""
    digest = hashlib.sha256(f"{provider}\0{own}".encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:MARK_LENGTH]


def exposed(prefix: str, provider: str, shown: str, own: str) -> str:
    """
    The name under which a provider's item is served.

    *shown* is its own name, or the one a rule gives it. A name that is too long is cut and marked.
    """
    name = f"{fit(prefix)}{SEPARATOR}{fit(shown)}" if prefix else fit(shown)
    return name if len(name) <= MAX_LENGTH else marked(name, provider, own)


def marked(name: str, provider: str, own: str) -> str:
    """*name* with the mark of its owner at the end, cut to fit."""
    tail = f"_{mark(provider, own)}"
    return name[: MAX_LENGTH - len(tail)] + tail


def namespaced_uri(prefix: str, provider: str, uri: str) -> str:
    """
    The form of a URI that says whose it is: `github+file:///readme`.

    The namespace becomes part of the scheme, so its characters are those a scheme may have, and it
    begins with a letter (RFC 3986, section 3.1).
    """
    scheme = _UNFIT_SCHEME.sub("-", prefix or provider)
    if not scheme[:1].isalpha():
        scheme = f"s{scheme}"
    return f"{scheme}+{uri}"

"""
Names that every client accepts and that stay the same.

Model APIs accept `^[A-Za-z0-9_-]{1,64}$`; MCP servers call their tools what they like. A name here
depends on the provider and its own name alone, never on who connected first.
"""

import hashlib
import itertools
import re
from collections.abc import Container
from typing import Final

MAX_LENGTH: Final = 64
SEPARATOR: Final = "__"
MARK_LENGTH: Final = 6

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_UNFIT_SCHEME = re.compile(r"[^a-z0-9.-]")


def fit(text: str) -> str:
    """*text* with every character that clients refuse replaced by an underscore."""
    return _UNFIT.sub("_", text)


def exposed(prefix: str, provider: str, shown: str, own: str) -> str:
    """
    The name under which a provider's item is to be served.

    *shown* is its own name, or the one a rule gives it. A name that is too long is cut and marked.
    """
    name = f"{fit(prefix)}{SEPARATOR}{fit(shown)}" if prefix else fit(shown)
    return name if len(name) <= MAX_LENGTH else _marked(name, provider, own, 0)


def free_name(name: str, provider: str, own: str, taken: Container[str]) -> str:
    """*name* if it is free; else with a mark of its owner that is. Cut to fit."""
    if name not in taken:
        return name
    marked = (_marked(name, provider, own, turn) for turn in itertools.count())
    return next(one for one in marked if one not in taken)


def scheme_of(prefix: str, provider: str) -> str:
    """
    What stands in front of a URI to say whose it is: the `github` of `github+file:///readme`.

    It becomes part of the URI's scheme: it begins with a letter, its characters are those a scheme
    may have, and it is in lower case, because clients that parse URIs put schemes in lower case
    (RFC 3986, section 3.1).
    """
    scheme = _UNFIT_SCHEME.sub("-", (prefix or provider).lower())
    return scheme if scheme[:1].isalpha() else f"s{scheme}"


def free_scheme(scheme: str, provider: str, taken: Container[str]) -> str:
    """*scheme* if it is free; else with a mark of its provider that is."""
    if scheme not in taken:
        return scheme
    marked = (f"{scheme}-{_mark(provider, '', turn)}" for turn in itertools.count())
    return next(one for one in marked if one not in taken)


def _mark(provider: str, own: str, turn: int) -> str:
    """Six hex digits that tell this *own* name from others; each *turn* gives other ones."""
    text = f"{provider}\0{own}\0{turn or ''}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:MARK_LENGTH]


def _marked(name: str, provider: str, own: str, turn: int) -> str:
    tail = f"_{_mark(provider, own, turn)}"
    return name[: MAX_LENGTH - len(tail)] + tail

"""
Which secrets the configuration and the settings hold, for `masking` to know.

What is not obviously harmless counts as secret: a hole in a log line too many costs nobody
anything.
"""

import base64
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    # Commands that only read settings come here, too, and need not wait for it.
    from trunkline.downstream.config import ServerConfig

_TELLING_NAME = re.compile(
    r"key|token|secret|pass|pwd|auth|credential|cookie|session|private|dsn|signature", re.IGNORECASE
)
"""What the name of a header or variable has that holds a secret, whatever the value looks like."""

_HARMLESS_NAMES: Final = frozenset(
    {
        *("accept", "accept-encoding", "accept-language", "cache-control", "content-type", "host"),
        *("mcp-protocol-version", "origin", "referer", "user-agent", "path", "home", "lang"),
    }
)
_HARMLESS_VALUE = re.compile(
    r"[\d.:,-]+|(?-i:[a-z]{1,16}(-[a-z]{1,16})*)|true|false|(~?/[\w .-]*)+|https?://[^\s@?#]+",
    re.IGNORECASE,
)
"""Numbers, versions, words, switches, paths, and URLs that have no room for a secret."""

_NAMED = re.compile(r"([^=:]+)[=:]\s*(.+)")
"""A name and its value in one argument."""


def secrets_of_server(config: "ServerConfig") -> list[str]:
    """What may be secret of a server of mcp.json."""
    named = [*config.headers.items(), *config.env.items()]
    found = [value for name, value in named if not _is_harmless(name, value)]
    found += [text for text in _written_beside_references(config) if not _is_harmless("", text)]
    found += [inner for value in found for inner in secrets_of_text(value)]
    found += [inner for argument in config.args for inner in _secrets_of_argument(argument)]
    found += _secrets_after_options(config.args)
    return [*found, *secrets_of_text(config.url or ""), *secrets_of_text(config.health_url or "")]


def secrets_of_settings(settings: BaseModel) -> list[str]:
    """What is secret of the settings: what they keep as such, and what is within their URLs."""
    return [secret for value in _values(settings) for secret in _secrets_of_setting(value)]


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _values(getattr(value, name))
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _values(inner)
    else:
        yield value


def _secrets_of_setting(value: Any) -> list[str]:
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return [text, *secrets_of_text(text)]
    return secrets_of_text(value) if isinstance(value, str) else []


def _written_beside_references(config: "ServerConfig") -> list[str]:
    """The fixed parts of what is told of callers."""
    mapped = config.mapped
    templates = (*mapped.headers.values(), *mapped.env.values(), *mapped.args.values())
    return [part.strip() for one in templates for part in one.parts if isinstance(part, str)]


def _secrets_after_options(args: tuple[str, ...]) -> list[str]:
    """`--api-key VALUE`."""
    return [
        value
        for option, value in pairwise(args)
        if option.startswith("-") and "=" not in option and _TELLING_NAME.search(option)
    ]


def secrets_of_text(text: str) -> list[str]:
    """The credentials within a text: behind the name of a scheme, and those of a URL."""
    scheme, _, rest = text.partition(" ")
    if scheme.isalpha() and rest:
        return [rest.strip()]
    if "://" not in text:
        return []
    try:
        parts = urlsplit(text)
        user, password = parts.username or "", parts.password
    except ValueError:
        return [text]
    query = [pair.partition("=") for pair in parts.query.split("&")]
    found = [value for name, _, value in query if not _is_harmless(name, value)]
    if password is not None:
        pair = f"{unquote(user)}:{unquote(password)}"
        found += [password, base64.b64encode(pair.encode()).decode()]
    return found


def _secrets_of_argument(argument: str) -> list[str]:
    """`--api-key=VALUE`, `Authorization: VALUE`, and what is within a URL."""
    if "://" in argument:
        return secrets_of_text(argument)
    named = _NAMED.fullmatch(argument)
    if named is None or not _TELLING_NAME.search(named[1]):
        return []
    return [named[2], *secrets_of_text(named[2])]


def _is_harmless(name: str, value: str) -> bool:
    if _TELLING_NAME.search(name):
        return False
    return name.lower() in _HARMLESS_NAMES or bool(_HARMLESS_VALUE.fullmatch(value))

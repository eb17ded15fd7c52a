"""
A server in the words of mcp.json: put together from a command line or a file, and shown again.

It will run elsewhere than here, so folders are made absolute. Texts stay as they are written:
${NAME} is replaced where the server runs. What is shown holds no value of `env` or `headers`, and
nothing of a URL that tends to be secret.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeGuard
from urllib.parse import urlsplit

from cyclopts import Parameter

from trunkline.downstream.config import Sharing
from trunkline.errors import ConfigError, ConfigSyntaxError, UsageError
from trunkline.jsonc import JsonSyntaxError, parse
from trunkline.models import Json

TABLES: Final = ("mcpServers", "servers")
URLS: Final = ("url", "serverUrl", "httpUrl", "health_url")
SECRETS: Final = ("env", "headers")

HIDDEN: Final = "***"

_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_REFERENCE = re.compile(r"(\$\{(?:env:)?[A-Za-z_][A-Za-z0-9_]*\})")
"""One without a default, which might be secret."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What the command line says of a server, besides the command that starts it."""

    url: Annotated[
        str | None, Parameter(name="--url", help="The URL of a server that is running.")
    ] = None
    env: Annotated[
        tuple[str, ...] | None,
        Parameter(
            name="--env",
            negative="",
            help="NAME=VALUE in the environment of the command; may be given several times.",
        ),
    ] = None
    header: Annotated[
        tuple[str, ...] | None,
        Parameter(
            name="--header",
            negative="",
            help='"NAME: VALUE" to send to the URL; may be given several times.',
        ),
    ] = None
    cwd: Annotated[
        str | None,
        Parameter(
            name="--cwd",
            help="The folder the command runs in. Otherwise this one, if the command names "
            "something in it; else the one that Trunkline runs in.",
        ),
    ] = None
    transport: Annotated[
        Literal["stdio", "sse", "streamable-http"] | None,
        Parameter(name="--transport", help="Only needed where the URL does not tell."),
    ] = None
    namespace: Annotated[
        str | None,
        Parameter(name="--namespace", help="What stands before its names instead of NAME."),
    ] = None
    sharing: Annotated[
        Sharing | None, Parameter(name="--sharing", help="Who shares one connection to it.")
    ] = None
    timeout: Annotated[
        float | None, Parameter(name="--timeout", help="Seconds one request may take.")
    ] = None
    lazy: Annotated[
        bool,
        Parameter(name="--lazy", negative="", help="Connect when it is first needed."),
    ] = False


NOTHING: Final = ServerOptions()


def described(options: ServerOptions, command: Sequence[str]) -> Json:
    """The entry of a server that a command line describes. Raises `UsageError`."""
    if (options.url is None) == (not command):
        raise UsageError(
            "Say what to connect to, and one thing only: --url URL, or -- COMMAND [ARGS...]."
        )
    if command and options.header:
        raise UsageError("A command is sent no headers: --header goes with --url.")
    if not command and (options.env or options.cwd is not None):
        raise UsageError("A URL has no environment and no folder: they go with a command.")
    if command and _ASSIGNMENT.match(command[0]):
        raise UsageError("The command begins with NAME=VALUE: that is --env, once for each.")
    if options.timeout is not None and not isfinite(options.timeout):
        raise UsageError("--timeout needs a number of seconds.")
    entry: Json = {
        "command": command[0] if command else None,
        "args": list(command[1:]) or None,
        "url": options.url,
        "env": _pairs(options.env, "=", "--env NAME=VALUE"),
        "headers": _pairs(options.header, ":", '--header "NAME: VALUE"'),
        "cwd": options.cwd,
        "transport": options.transport,
        "namespace": options.namespace,
        "sharing": options.sharing,
        "timeout": options.timeout,
        "lazy": options.lazy or None,
    }
    return {key: value for key, value in entry.items() if value is not None}


def read_entry_file(source: str, name: str) -> tuple[Json, Path]:
    """
    The entry in a file, or "-" for stdin, and the folder that its relative paths begin at.

    In a whole mcp.json it is the entry under *name*. Raises `ConfigError`, and `OSError`.
    """
    if source == "-":
        return _entry_in(sys.stdin.buffer.read(), "stdin", name), Path.cwd()
    path = Path(source)
    return _entry_in(path.read_bytes(), source, name), path.absolute().parent


def placed(entry: Json, folder: Path) -> Json:
    """
    The entry for a process that runs in another folder than *folder*.

    A command that names something in *folder*, such as `python server.py`, is run there.
    """
    cwd = entry.get("cwd")
    if cwd is None:
        is_about = any(_is_in(folder, word) for word in _words(entry))
        return {**entry, "cwd": str(folder)} if is_about else entry
    # One that begins with a reference or ~ is a whole path where the server runs.
    return entry if cwd.startswith(("${", "~")) else {**entry, "cwd": str(folder / cwd)}


def masked(entry: Json) -> Json:
    """The entry as it may be shown."""
    shown = dict(entry)
    for key in SECRETS:
        if key in entry:
            shown[key] = {name: _masked_text(value) for name, value in entry[key].items()}
    for key in URLS:
        if key in entry:
            shown[key] = shown_url(entry[key])
    return shown


def shown_place(entry: Mapping[str, Any]) -> str:
    """Where a server is: its program, without arguments, which people put keys into, or its URL."""
    url = next((entry[key] for key in URLS if key in entry), None)
    return str(entry.get("command", "-")) if url is None else shown_url(str(url))


def shown_url(url: str) -> str:
    """A URL without its user and password, and without its query."""
    try:
        parts = urlsplit(url)
        # A password that was not quoted for a URL ends the host too early, and the port is none.
        _ = urlsplit(re.sub(r"\$\{[^{}]*\}", "0", url)).port
    except ValueError:
        return HIDDEN
    query = f"?{HIDDEN}" if parts.query or parts.fragment else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def _entry_in(data: bytes, called: str, name: str) -> Json:
    try:
        value = parse(data.decode("utf-8-sig")).value
    except UnicodeDecodeError:
        raise ConfigError(f"{called} is not UTF-8 text. Save it again as UTF-8.") from None
    except JsonSyntaxError as error:
        raise ConfigSyntaxError(
            f"{called} is not JSON, line {error.line}, column {error.column}: {error}"
        ) from None
    tables = [value[key] for key in TABLES if key in value] if _is_object(value) else []
    if tables and _is_object(tables[0]):
        if name not in tables[0]:
            there = ", ".join(tables[0]) or "none"
            raise ConfigError(f"{called} has no server {name!r}. Those it has: {there}.")
        value = tables[0][name]
    if not _is_object(value):
        raise ConfigError(
            f'{called} holds no entry of mcp.json. That is an object: {{"command": "..."}}.'
        )
    return value


def _pairs(texts: Sequence[str] | None, mark: str, form: str) -> dict[str, str] | None:
    """Names and values; None for none. What cannot be told apart is not shown: it may be secret."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, there, value = (
            part.strip() if mark == ":" else part for part in text.partition(mark)
        )
        if not there or not name:
            raise UsageError(f"Something else is given than {form}.")
        if name in found:
            raise UsageError(f"{name!r} is given twice: {form} is for one value each.")
        found[name] = value
    return found or None


def _words(entry: Json) -> list[str]:
    """What may be paths in a command; a bare name is looked up elsewhere."""
    command, arguments = entry.get("command", ""), entry.get("args", ())
    return [*arguments, *([command] if Path(command).name != command else ())]


def _is_in(folder: Path, word: str) -> bool:
    """Whether a word, or what it says behind a =, names something by a path that begins here."""
    path = word.rpartition("=")[2]
    # It may be no path at all, which `Path.exists` would raise for.
    return path != "" and not Path(path).is_absolute() and os.path.exists(folder / path)  # noqa: PTH110 - see above


def _masked_text(text: str) -> str:
    """References alone."""
    parts = _REFERENCE.split(text)
    return "".join(part if _REFERENCE.fullmatch(part) else HIDDEN for part in parts if part)


def _is_object(value: Any) -> TypeGuard[Json]:
    return isinstance(value, dict)

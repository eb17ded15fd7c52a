"""
The options commands share, and the settings they come to.

The command line wins over the environment, and the environment over the default.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from cyclopts import Parameter
from pydantic import ValidationError
from pydantic_settings import SettingsError

from trunkline.errors import SettingsInvalid, UsageError
from trunkline.models import Json
from trunkline.security.masking.masking import SECRETS
from trunkline.security.masking.sources import secrets_of_settings
from trunkline.settings import Settings

LogLevel = Literal["debug", "info", "warning", "error", "critical"]

ConfigOption = Annotated[
    Path | None,
    Parameter(
        name="--config",
        help="The mcp.json to use. Otherwise ./mcp.json, then the one in TRUNKLINE_HOME, "
        "then the one that comes with Trunkline.",
    ),
]
PluginsOption = Annotated[
    tuple[Path, ...] | None,
    Parameter(
        name="--plugins",
        negative="",
        help="A folder of plugins; may be given several times. "
        "Otherwise the folder `plugins` beside the mcp.json.",
    ),
]
LogLevelOption = Annotated[
    LogLevel | None, Parameter(name="--log-level", help="The least important events to log.")
]
JsonOption = Annotated[
    bool, Parameter(name="--json", negative="", help="Print JSON, for other programs.")
]
TimeoutOption = Annotated[
    float | None,
    Parameter(
        name="--timeout",
        help="Seconds the servers may take to start; otherwise the setting connect_timeout.",
    ),
]
DryRunOption = Annotated[
    bool, Parameter(name="--dry-run", negative="", help="Show what would be done, and do nothing.")
]

ADDRESS: Final = re.compile(
    r"""
    ( \[ (?P<ipv6> [^\]\s]+ ) \] | (?! [0-9]+ $ ) (?P<host> [^:\[\]\s/]+ ) )?
    ( ( ^ | : ) (?P<port> [0-9]{1,5} ) )?
    """,
    re.VERBOSE,
)
"""An IPv6 address in brackets or another host, a port, or both."""


def read_settings(
    *,
    config: Path | None = None,
    plugins: tuple[Path, ...] | None = None,
    log_level: LogLevel | None = None,
    http: str | None = None,
) -> Settings:
    """
    The settings of one command.

    Raises `UsageError` for an address that is none, and `SettingsInvalid` for a value from the
    environment that cannot be used.
    """
    given: dict[str, Any] = {"config": config, "log_level": log_level}
    given = {name: value for name, value in given.items() if value is not None}
    if plugins is not None:
        given["plugins"] = {"folders": plugins}
    if http is not None:
        given["http"] = parse_address(http)
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise SettingsInvalid(_explain(error)) from error
    except SettingsError as error:
        # It names the field it could not read; its cause is about JSON.
        raise SettingsInvalid(f'{error}. Lists are written as JSON: \'["a", "b"]\'.') from error
    if settings.log_level.lower() not in get_args(LogLevel):
        raise SettingsInvalid(
            f"TRUNKLINE_LOG_LEVEL is {settings.log_level!r}; "
            f"choose one of {', '.join(get_args(LogLevel))}."
        )
    SECRETS.learn("settings", secrets_of_settings(settings))
    return settings


def parse_address(text: str) -> Json:
    """
    What `HOST:PORT`, `HOST`, `:PORT`, `PORT` or `[IPv6]:PORT` says of `host` and `port`.

    Raises `UsageError`.
    """
    match = ADDRESS.fullmatch(text)
    if match is None or int(match["port"] or 0) > 65535:
        raise UsageError(
            f"--http {text!r} is no address to listen on. "
            "Write 127.0.0.1:8080, :8080, 8080 or [::1]:8080."
        )
    host = match["ipv6"] or match["host"]
    named = {"host": host, "port": int(match["port"]) if match["port"] else None}
    return {name: value for name, value in named.items() if value is not None}


def _explain(error: ValidationError) -> str:
    """The first complaint, under the name the operator knows the setting by."""
    complaint = error.errors(include_url=False)[0]
    variable = "TRUNKLINE_" + "__".join(str(part).upper() for part in complaint["loc"])
    if complaint["type"] == "extra_forbidden":
        return f"There is no setting {variable}. docs/settings.md lists them all."
    given, sentence = complaint["input"], complaint["msg"].lower()
    # Whole sections, and what is named like a secret, may hold one.
    is_shown = isinstance(given, str) and not re.search("SECRET|KEY|PASSWORD|URL$", variable)
    return f"{variable} is {given!r}: {sentence}." if is_shown else f"{variable}: {sentence}."

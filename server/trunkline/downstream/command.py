"""
What to run for a stdio server: its program, its environment, its directory.

A child gets little of our environment, because the rest may hold secrets that are none of its
business. Its program is looked up on its own PATH, then beside the Python that runs Trunkline, so
that servers installed together with Trunkline are found when it is started by its absolute path.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from trunkline.downstream.config import ServerConfig
from trunkline.errors import DownstreamUnavailable

INHERITED: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "SHELL", "TERM", "TMPDIR", "TZ"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES", "SYSTEMROOT", "SYSTEMDRIVE"),
        *("USERNAME", "USERPROFILE", "HOMEDRIVE", "HOMEPATH", "TEMP", "TMP", "COMSPEC", "PATHEXT"),
        *("WINDIR", "PROCESSOR_ARCHITECTURE"),
    }
)
INHERITED_PREFIXES: Final = ("LC_", "XDG_")

PACKAGES: Final = {
    "npx": "Node.js",
    "node": "Node.js",
    "uvx": "uv",
    "uv": "uv",
    "docker": "Docker",
    "deno": "Deno",
    "bunx": "Bun",
    "mcp-server-time": "trunkline[servers]",
    "mcp-server-git": "trunkline[servers]",
    "mcp-server-fetch": "trunkline[servers]",
}
"""What to install for the commands that are missing most often."""


@dataclass(frozen=True, slots=True)
class Command:
    """Everything the start of a process needs."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None

    @classmethod
    def of(cls, config: ServerConfig) -> Self:
        """
        The command of a configured server, found on this machine.

        Raises `DownstreamUnavailable` that says what is missing.
        """
        env = {**inherited_environment(os.environ), **config.env}
        cwd = None if config.cwd is None else Path(config.cwd).expanduser()
        if cwd is not None and not cwd.is_dir():
            raise DownstreamUnavailable(
                config.name,
                f'its working directory {cwd} does not exist: check its "cwd" in mcp.json.',
            )
        program = find_program(config.command or "", env.get("PATH"), cwd or Path())
        if program is None:
            raise DownstreamUnavailable(config.name, _not_found(config.command or ""))
        return cls((program, *config.args), env, None if cwd is None else str(cwd))


def inherited_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of our environment that every child gets."""
    return {
        name: value
        for name, value in environment.items()
        if name.upper() in INHERITED or name.upper().startswith(INHERITED_PREFIXES)
    }


def find_program(command: str, search_path: str | None, cwd: Path) -> str | None:
    """The executable file that *command* means; one with a slash is relative to *cwd*."""
    if not command:
        return None
    if Path(command).name != command:
        return shutil.which((cwd / Path(command).expanduser()).absolute())
    beside_us = str(Path(sys.executable).parent)
    return shutil.which(command, path=search_path) or shutil.which(command, path=beside_us)


def _not_found(command: str) -> str:
    package = PACKAGES.get(command, "it")
    return (
        f"its command {command!r} was not found, or may not be executed. "
        f'Install {package}, or give its full path as "command" in mcp.json.'
    )

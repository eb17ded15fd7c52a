"""How each kind of server is reached: from its configuration to a way to open a channel."""

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from fastmcp import FastMCP

from trunkline.downstream.config import ServerConfig
from trunkline.downstream.http import HttpClient
from trunkline.downstream.session import Connect
from trunkline.downstream.sse import open_sse
from trunkline.downstream.stdio import open_stdio
from trunkline.downstream.streamable_http import open_streamable_http
from trunkline.models import Era
from trunkline.providers.memory import open_memory
from trunkline.providers.personal import NoTokens, PersonalConnect, Tokens
from trunkline.settings import DownstreamSettings

log = structlog.get_logger(__name__)


def connect_to(
    config: ServerConfig,
    settings: DownstreamSettings,
    client: HttpClient,
    tokens: Tokens | None = None,
) -> Connect:
    """How to open a channel to a server of mcp.json. *tokens* are those of people."""
    reach = partial(_connect_to, settings=settings, client=client)
    return PersonalConnect(config, reach, tokens or NoTokens()) if config.mapped else reach(config)


def plugin_channel(server: FastMCP[Any], name: str) -> Connect:
    """
    How to open a channel to a plugin.

    Plugins are spoken to in the handshake era alone: there FastMCP's `ctx.elicit` and sampling
    work, and modern clients are bridged to them as to any handshake server.
    """
    return lambda: open_memory(server, name, eras={Era.HANDSHAKE})


def _connect_to(
    config: ServerConfig, *, settings: DownstreamSettings, client: HttpClient
) -> Connect:
    if config.transport == "stdio":
        return lambda: open_stdio(config, settings, on_log=_log_of(config.name))
    if config.transport == "sse":
        return lambda: open_sse(config, settings, client)
    return lambda: open_streamable_http(config, settings, client)


def _log_of(server: str) -> Callable[[str], None]:
    """Where a server's own log lines go: our log, at a level one has to ask for."""
    return lambda line: log.debug("server.logged", server=server, line=line)

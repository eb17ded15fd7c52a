"""
The first exchange with a server: which era it speaks, what it can do.

A server of both eras is spoken to in the era that was asked for, so that nothing needs bridging.
A server of one era is found out by its answer (protocol.md, duty 2; SEP-2575):

    modern first      server/discover ── result with 2026-07-28 ─────────> modern
                                     └─ anything else, or silence ─> initialize ──> handshake
    handshake first   initialize ────── result ───────────────────────────> handshake
                                └─ -32022 or method unknown ─> server/discover ──> modern
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from trunkline.downstream.channel import Channel, ChannelLost
from trunkline.errors import DownstreamUnavailable, RpcError
from trunkline.models import Era, Json
from trunkline.wire import (
    HANDSHAKE_VERSIONS,
    INVALID_REQUEST,
    LATEST_HANDSHAKE,
    LATEST_MODERN,
    META_CLIENT_CAPABILITIES,
    META_CLIENT_INFO,
    META_PROTOCOL_VERSION,
    META_SERVER_INFO,
    METHOD_NOT_FOUND,
    UNSUPPORTED_VERSION,
)

PROBE_PATIENCE: Final = 5.0
"""Seconds a server may leave `server/discover` unanswered before it counts as handshake-only."""


class NoCommonEra(DownstreamUnavailable):
    """The server refused both openings, or had been put off the second one by the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a server said of itself."""

    era: Era
    protocol_version: str
    capabilities: Json
    server_info: Json
    instructions: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What we say of the client, or of the clients, that a session is for."""

    info: Json
    capabilities: Json


async def greet(channel: Channel, identity: Identity, first: Era) -> Greeting:
    """
    Find the era and do its opening, trying *first* first. The channel is usable afterwards.

    The caller bounds the time. Raises `DownstreamUnavailable` or `ChannelLost`.
    """
    if first is Era.MODERN:
        greeting = await _discover(channel, identity, patience=PROBE_PATIENCE)
        if greeting is None:
            greeting = await _initialize(channel, identity)
        if greeting is None:
            # It took the late answer to our probe as the opening: it is modern after all.
            greeting = await _discover(channel, identity, patience=None)
    else:
        greeting = await _initialize(channel, identity)
        if greeting is None:
            greeting = await _discover(channel, identity, patience=None)
    if greeting is None:
        raise NoCommonEra(channel.server, "it speaks no protocol version that Trunkline knows.")
    return greeting


def envelope(identity: Identity) -> Json:
    """The `_meta` every modern request carries."""
    return {
        META_PROTOCOL_VERSION: LATEST_MODERN,
        META_CLIENT_INFO: identity.info,
        META_CLIENT_CAPABILITIES: identity.capabilities,
    }


def modern_headers(method: str) -> dict[str, str]:
    """The routing headers of a modern request over HTTP, without a name (SEP-2243)."""
    return {"mcp-protocol-version": LATEST_MODERN, "mcp-method": method}


async def _discover(
    channel: Channel, identity: Identity, *, patience: float | None
) -> Greeting | None:
    """Ask for the modern era; None says that the server does not speak it."""
    try:
        async with asyncio.timeout(patience):
            result = await channel.request(
                "server/discover",
                {"_meta": envelope(identity)},
                headers=modern_headers("server/discover"),
            )
    except TimeoutError:
        return None
    except RpcError:
        return None
    except ChannelLost:
        # A handshake-only HTTP server may refuse the request in any way it likes (400 with a
        # text, a page); as long as the connection lives, that is an answer: not modern.
        if channel.closed.is_set():
            raise
        return None
    versions = result.get("supportedVersions")
    if not isinstance(versions, list) or LATEST_MODERN not in versions:
        return None
    channel.protocol_version = LATEST_MODERN
    await channel.ready(Era.MODERN)
    return Greeting(
        era=Era.MODERN,
        protocol_version=LATEST_MODERN,
        capabilities=_object(result.get("capabilities")),
        server_info=_object(_object(result.get("_meta")).get(META_SERVER_INFO)),
        instructions=_text(result.get("instructions")),
    )


async def _initialize(channel: Channel, identity: Identity) -> Greeting | None:
    """Do the handshake; None says that the server is modern and has none."""
    params = {
        "protocolVersion": LATEST_HANDSHAKE,
        "capabilities": identity.capabilities,
        "clientInfo": identity.info,
    }
    try:
        result = await channel.request("initialize", params)
    except RpcError as error:
        if error.rpc_code in (UNSUPPORTED_VERSION, METHOD_NOT_FOUND, INVALID_REQUEST):
            return None
        raise DownstreamUnavailable(
            channel.server, f"it refused to initialize: {error.message}"
        ) from error
    version = result.get("protocolVersion")
    if version not in HANDSHAKE_VERSIONS:
        raise DownstreamUnavailable(
            channel.server,
            f"it answered initialize with the protocol version {version!r}, which is unknown here.",
        )
    channel.protocol_version = version
    await channel.notify("notifications/initialized")
    await channel.ready(Era.HANDSHAKE)
    return Greeting(
        era=Era.HANDSHAKE,
        protocol_version=version,
        capabilities=_object(result.get("capabilities")),
        server_info=_object(result.get("serverInfo")),
        instructions=_text(result.get("instructions")),
    )


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

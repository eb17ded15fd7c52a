"""
JSON on the wire, and the few protocol constants every layer needs.

`pydantic_core` parses and prints: it is as fast as the specialised libraries, is here anyway with
the MCP package, and keeps integers beyond 64 bits, which a lossless gateway must.
"""

from typing import Any, Final

from pydantic_core import from_json, to_json

from trunkline.models import Json

HANDSHAKE_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
LATEST_HANDSHAKE: Final = HANDSHAKE_VERSIONS[-1]
LATEST_MODERN: Final = "2026-07-28"

# The reserved keys of a modern request's `_meta` (2026-07-28, basic/index: "_meta").
META_PROTOCOL_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
META_CLIENT_INFO: Final = "io.modelcontextprotocol/clientInfo"
META_CLIENT_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
META_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"
META_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
META_SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"
ENVELOPE_KEYS: Final = frozenset(
    {META_PROTOCOL_VERSION, META_CLIENT_INFO, META_CLIENT_CAPABILITIES, META_LOG_LEVEL}
)

# JSON-RPC and MCP error codes.
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
RESOURCE_NOT_FOUND_HANDSHAKE: Final = -32002
MISSING_CLIENT_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022

LOG_LEVELS: Final = (
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
)
"""RFC 5424 severities, ascending."""


def encode(message: Json) -> bytes:
    """One message as compact UTF-8 JSON, without a trailing newline."""
    return to_json(message)


def decode(data: bytes | str) -> Any:
    """Parse one JSON text. Raises `ValueError` that says where it is broken."""
    return from_json(data)


def wants_level(wanted: str | None, level: str) -> bool:
    """Whether a client that asked for *wanted* and above is to see a message of *level*."""
    if wanted is None or level not in LOG_LEVELS or wanted not in LOG_LEVELS:
        return True
    return LOG_LEVELS.index(level) >= LOG_LEVELS.index(wanted)

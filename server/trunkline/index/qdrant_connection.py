"""
The client that speaks to a Qdrant server, as Trunkline wants it: over REST, and quiet.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from math import ceil
from typing import Final
from urllib.parse import urlsplit

import httpx
import structlog
from qdrant_client import AsyncQdrantClient

from trunkline.errors import ConfigError

log = structlog.get_logger(__name__)

LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20)
"""Connections are kept on loopback too, where the client by itself makes one for each request."""


@asynccontextmanager
async def connect(
    url: str, *, api_key: str | None = None, timeout: float = 5.0
) -> AsyncGenerator[AsyncQdrantClient]:
    """
    A client for the life of the block. Nothing is asked of the server yet.

    *timeout* is in seconds, for each wait on the network. Raises `ConfigError` for an address or a
    key that cannot be used.
    """
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise ConfigError("QDRANT_API_KEY has characters that no key has. Was it copied in full?")
    try:
        client = AsyncQdrantClient(
            url=url,
            timeout=ceil(timeout),
            # Not `api_key=`, which would warn of every key that is sent without TLS.
            headers={"api-key": api_key} if api_key else None,
            limits=LIMITS,
            check_compatibility=False,  # it would ask the server from a thread of its own, now
        )
    except ValueError as error:
        raise ConfigError(
            "QDRANT_URL is no address of a server. It looks like http://127.0.0.1:6333."
        ) from error
    if api_key and not _is_private(url):
        log.warning("qdrant.key_in_the_clear", hint="Use an https:// address in QDRANT_URL.")
    try:
        yield client
    finally:
        await client.close()


def _is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    try:
        is_loopback = ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_loopback = parts.hostname == "localhost"
    return parts.scheme == "https" or is_loopback

"""
The client that speaks to a Qdrant server, as Trunkline wants it: over REST, and quiet.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import ceil

import httpx
from qdrant_client import AsyncQdrantClient

from trunkline.errors import ConfigError


@asynccontextmanager
async def connect(
    url: str, *, api_key: str | None = None, timeout: float = 5.0
) -> AsyncGenerator[AsyncQdrantClient]:
    """
    A client for the life of the block. Nothing is asked of the server yet.

    *timeout* is in seconds, per request. Raises `ConfigError` for an address that is none.
    """
    try:
        client = AsyncQdrantClient(
            url=url,
            timeout=ceil(timeout),
            # Not `api_key=`, which would warn of every key sent without TLS, on loopback too.
            headers={"api-key": api_key} if api_key else None,
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=20),
            check_compatibility=False,  # it would ask the server from a thread of its own, now
        )
    except ValueError as error:
        raise ConfigError(
            f"QDRANT_URL is no address of a Qdrant server: {error}. "
            f"It looks like http://127.0.0.1:6333."
        ) from error
    try:
        yield client
    finally:
        await client.close()

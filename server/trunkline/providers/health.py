"""
A server's own health page: `health_url` in mcp.json.

It says more than a probe inside the session can (a database behind the server that is away, say),
so its word only degrades the server's state; calls go on.
"""

import asyncio
from dataclasses import replace

from trunkline.downstream.channel import ChannelLost
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.http import HttpClient
from trunkline.errors import DownstreamUnavailable

BAD: int = 400
"""The first HTTP status that means trouble."""


async def look(client: HttpClient, config: ServerConfig, *, timeout: float) -> str | None:
    """What the health page of a server complains of; None if it is well. *timeout* in seconds."""
    try:
        async with asyncio.timeout(timeout):
            endpoint = await client.endpoint(replace(config, url=config.health_url))
            response = await endpoint.send("GET", endpoint.headers)
            response.close()
    except TimeoutError:
        return f"Its health_url did not answer within {timeout:g} seconds."
    except ChannelLost as error:
        return f"Its health_url cannot be reached: {error}"
    except DownstreamUnavailable as error:
        return f"Its health_url cannot be used: {error.reason}"
    if response.status >= BAD:
        return f"Its health_url answers {response.status}."
    return None

"""
What an HTTP response of a server means: its body, and the sentence when it is a refusal.

A response is read to its end whenever that is cheap, because only then its connection can be used
for the next request.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any, Final

import aiohttp

from trunkline.downstream.channel import ChannelLost
from trunkline.downstream.http import Endpoint
from trunkline.models import Json
from trunkline.wire import METHOD_NOT_FOUND, decode

DRAIN_TIMEOUT: Final = 1.0
"""Seconds spent on the rest of a response, so that its connection can be used again."""

BODY_LIMIT: Final = 256 * 1024 * 1024
"""Bytes a response may have: far beyond any real result, and short of exhausting memory."""

REFUSAL_LIMIT: Final = 1024 * 1024
"""Bytes of an error response that are read in search of its reason."""

JSON_TYPE: Final = "application/json"
EVENTS_TYPE: Final = "text/event-stream"

NO_SESSION: Final = re.compile(
    r"session.*(not found|not exist|expired|unknown|invalid|terminated)"
    r"|(no|no valid|invalid|unknown|expired|missing|unrecognized) (mcp.)?session",
    re.IGNORECASE | re.DOTALL,
)
"""How servers say in a 4xx, other than by 404, that they do not know our session."""


def media_type(response: aiohttp.ClientResponse) -> str:
    """The content type without parameters, in lower case; "" if there is none."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


async def read_chunk(response: aiohttp.ClientResponse) -> bytes:
    """The next bytes of a stream. Empty at its end, and where it broke off."""
    try:
        return await response.content.readany()
    except (aiohttp.ClientError, OSError):
        return b""


async def read_body(response: aiohttp.ClientResponse, limit: int = BODY_LIMIT) -> bytes:
    """A whole body. Raises `ChannelLost` when it breaks off or is longer than *limit* bytes."""
    parts: list[bytes] = []
    size = 0
    try:
        while part := await response.content.readany():
            parts.append(part)
            size += len(part)
            if size > limit:
                raise ChannelLost(f"it sent a response of more than {limit} bytes.", sent=True)
    except (aiohttp.ClientError, OSError) as error:
        raise ChannelLost("its response broke off.", sent=True) from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def read_json(response: aiohttp.ClientResponse, body: bytes) -> Any:
    """Parse a JSON body in the character set its header names. Raises `ValueError`."""
    charset = response.charset
    if charset is not None and charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        try:
            return decode(body.decode(charset))
        except LookupError:
            pass  # a character set nobody knows: most likely it is UTF-8 all the same
    return decode(body.removeprefix(b"\xef\xbb\xbf"))


async def drain(response: aiohttp.ClientResponse) -> None:
    """
    Read what is left and release the response.

    Closing early would throw the connection away, and the next request would need a new one.
    """
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            while await read_chunk(response):
                pass
    except TimeoutError:
        pass
    finally:
        response.close()


async def read_refusal(response: aiohttp.ClientResponse) -> tuple[str, Json | None]:
    """What an error response says: its text, and its JSON-RPC error if that is what it holds."""
    body = b""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            body = await read_body(response, REFUSAL_LIMIT)
    except (TimeoutError, ChannelLost):
        pass
    finally:
        response.close()
    try:
        message = read_json(response, body)
    except ValueError:
        return body.decode("utf-8", "replace"), None
    error = message.get("error") if isinstance(message, dict) else None
    if isinstance(error, dict):
        return str(error.get("message", "")), error
    return body.decode("utf-8", "replace"), None


class Unauthorized(ChannelLost):
    """The server does not take our credentials (401). Nothing has run."""

    def __init__(self, challenge: str | None) -> None:
        super().__init__(
            'it refused our credentials (401): check its "headers" in mcp.json.', sent=False
        )
        self.challenge = challenge
        """Its `WWW-Authenticate` header: what it wants instead (RFC 9110, 11.6.1)."""


def refusal(endpoint: Endpoint, response: aiohttp.ClientResponse, text: str) -> ChannelLost:
    """Why a request was refused, as a sentence. *text* is what the server said to it."""
    status = response.status
    match status:
        case 401:
            return Unauthorized(response.headers.get("WWW-Authenticate"))
        case 403:
            reason = 'it refused us access (403): check its "headers" in mcp.json.'
        case 404 | 410:
            reason = (
                f"there is no MCP endpoint at {endpoint.shown} ({status}): "
                'check its "url" in mcp.json.'
            )
        case 405:
            reason = (
                f"{endpoint.shown} does not take {response.method} requests (405): check its "
                '"url" in mcp.json, and whether its "transport" is "sse" or "streamable-http".'
            )
        case 429:
            reason = f"it is asked too often (429).{_try_again(response)}"
        case 503:
            reason = f"it is overloaded or restarting (503).{_try_again(response)}"
        case _:
            reason = f"it answered with the HTTP status {_named(status)}{_quoted(response, text)}."
    return ChannelLost(reason, sent=status not in (403, 404, 405, 410, 429, 503))


def wrong_type(endpoint: Endpoint, response: aiohttp.ClientResponse) -> ChannelLost:
    """The complaint about a response that is neither JSON nor events."""
    kind = media_type(response) or "no content type"
    return ChannelLost(
        f"{endpoint.shown} answers with {kind} instead of JSON or events: "
        'is the "url" in mcp.json that of an MCP server?',
        sent=True,
    )


def _try_again(response: aiohttp.ClientResponse) -> str:
    after = response.headers.get("Retry-After", "").strip()[:40]
    if not after:
        return " Try again later."
    return f" Try again in {after} seconds." if after.isdigit() else f" Try again after {after}."


def _named(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def _quoted(response: aiohttp.ClientResponse, text: str) -> str:
    text = " ".join(text.split())
    if not text or media_type(response) not in (JSON_TYPE, "text/plain"):
        return ""
    return f": {text[:300].rstrip('.')}"


def is_gone(status: int, text: str, error: Json | None) -> bool:
    """Whether a refusal, of a request that named a session, says that there is no such session."""
    if status == 404:
        return error is None or error.get("code") != METHOD_NOT_FOUND
    return status == 400 and NO_SESSION.search(text[:300]) is not None


def says_session_not_found(error: Any) -> bool:
    """The same, in an ordinary answer. Exact, for a tool may have sessions of its own to miss."""
    if not isinstance(error, dict) or error.get("code") not in (-32600, -32001, -32000):
        return False
    return str(error.get("message")).strip(" .").lower() == "session not found"

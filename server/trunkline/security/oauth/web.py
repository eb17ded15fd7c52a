"""
HTTP to servers that strangers name: metadata, registration and token endpoints.

A server says which authorization server to ask, so every address here may be a trap. Each goes
through the outbound guard, and the address that was checked is the one that is connected to.
Redirects are not followed, proxies of the environment are not used, an answer may be so long and
may take so long. What goes wrong leaves as a sentence.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from trunkline import __version__
from trunkline.models import Json
from trunkline.security.oauth.failures import OAuthInvalid, OAuthUnavailable
from trunkline.security.outbound.guard import OutboundGuard
from trunkline.wire import LATEST_HANDSHAKE, decode

if TYPE_CHECKING:
    # Imported where it is used, as stamina is: most processes log nobody in.
    import httpx

LONGEST_ANSWER: Final = 256 * 1024
"""Bytes."""

ATTEMPTS: Final = 3
PAUSE: Final = 0.5
"""Seconds before the second attempt; doubled for the third."""

PATIENCE: Final = 45.0
"""Seconds a request may take with all its attempts and pauses."""

_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})

_HEADERS: Final = {
    "Accept": "application/json",
    "User-Agent": f"trunkline/{__version__}",
    "MCP-Protocol-Version": LATEST_HANDSHAKE,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: below 400 what was asked for, else a refusal."""

    status: int
    body: Json
    """Empty where it is no JSON object."""

    challenge: str | None = None
    """The `WWW-Authenticate` header."""


@asynccontextmanager
async def open_web(guard: OutboundGuard, *, timeout: float) -> "AsyncGenerator[Web]":
    """The HTTP clients of logins. *timeout* is how many seconds one attempt may take."""
    async with AsyncExitStack() as stack:

        @cache
        def client(*, guarded: bool) -> "httpx.AsyncClient":
            # Made when first needed: reading the certificates of the world takes a while.
            import httpx

            from trunkline.security.outbound.http import GuardedTransport

            made = httpx.AsyncClient(
                headers=_HEADERS,
                timeout=timeout,
                trust_env=False,
                transport=GuardedTransport(guard) if guarded else None,
            )
            stack.push_async_callback(made.aclose)
            return made

        yield Web(lambda guarded: client(guarded=guarded), timeout)


class Web:
    """Requests that go where they may."""

    def __init__(
        self,
        client: "Callable[[bool], httpx.AsyncClient]",
        timeout: float,
        own: Collection[str] = (),
    ) -> None:
        """See `open_web` and `trusting`. *client* is asked for one that is guarded, or is not."""
        self._client, self._timeout = client, timeout
        self._own = frozenset(origin(url) for url in own)

    def trusting(self, own: Collection[str]) -> "Web":
        """The same, that also goes to the origins of these URLs: the operator wrote them."""
        return Web(self._client, self._timeout, own)

    async def get(self, url: str) -> Answer:
        """Read a document. Raises what the guard raises, `OAuthUnavailable` and `OAuthInvalid`."""
        return await self._persistently("GET", url)

    async def post(
        self,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        json: Json | None = None,
        auth: tuple[str, str] | None = None,
    ) -> Answer:
        """Send a form or a JSON object; *auth* goes as HTTP Basic. Raises as `get` does."""
        return await self._persistently("POST", url, data=form, json=json, auth=auth)

    async def knock(self, url: str) -> Answer:
        """
        Ask an MCP server something harmless without any credential, to be told who to ask first.

        Only the head of the answer is read. Raises as `get` does.
        """
        accept = {"Accept": "application/json, text/event-stream"}
        if url.partition("?")[0].rstrip("/").endswith("/sse"):
            return await self._once("GET", url, head_only=True, headers=accept)
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        return await self._once("POST", url, head_only=True, json=ping, headers=accept)

    async def _persistently(self, method: str, url: str, **options: Any) -> Answer:
        """One request, tried again while it may help."""
        import stamina

        try:
            async with asyncio.timeout(PATIENCE):
                async for attempt in stamina.retry_context(
                    on=OAuthUnavailable,
                    attempts=ATTEMPTS,
                    timeout=None,
                    wait_initial=PAUSE,
                    wait_max=4 * PAUSE,
                    wait_jitter=PAUSE / 2,
                ):
                    with attempt:
                        return await self._once(method, url, **options)
        except TimeoutError as error:
            raise OAuthUnavailable(f"{shown(url)} did not answer in time. Try again.") from error
        raise AssertionError  # the last attempt returns or raises

    async def _once(
        self, method: str, url: str, *, head_only: bool = False, **options: Any
    ) -> Answer:
        import httpx

        try:
            async with asyncio.timeout(self._timeout):
                response, body = await self._send(method, url, head_only=head_only, **options)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise OAuthUnavailable(
                f"{shown(url)} did not answer within {self._timeout:g} seconds. Try again."
            ) from error
        except (httpx.TransportError, OSError) as error:
            raise OAuthUnavailable(
                f"{shown(url)} cannot be reached ({type(error).__name__}). Try again."
            ) from error
        except httpx.DecodingError as error:
            raise OAuthInvalid(f"{shown(url)} answers with bytes that cannot be read.") from error
        if response.status_code in _PASSING and not head_only:
            raise OAuthUnavailable(
                f"{shown(url)} is not able to answer now (status {response.status_code}). "
                "Try again later."
            )
        challenge = ", ".join(response.headers.get_list("WWW-Authenticate")) or None
        return Answer(response.status_code, _object(body), challenge)

    async def _send(
        self, method: str, url: str, *, head_only: bool, **options: Any
    ) -> "tuple[httpx.Response, bytes]":
        client = self._client(origin(url) not in self._own)
        async with client.stream(method, url, follow_redirects=False, **options) as response:
            return response, b"" if head_only else await _read(response, url)


def origin(url: str) -> str:
    """Scheme, host and port of a URL: what decides who is spoken to."""
    parsed = _parsed(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def shown(url: str) -> str:
    """A URL for people: without what may be a secret in it."""
    try:
        parsed = _parsed(url)
    except OAuthInvalid:
        return "an address that cannot be read"
    return str(parsed.copy_with(username=None, password=None, query=None, fragment=None))


def check_secure(url: str, what: str) -> None:
    """
    Let nothing secret go over a network in the clear: https, or this machine.

    OAuth 2.1, section 1.5. Raises `OAuthInvalid`.
    """
    parsed = _parsed(url)
    local = parsed.scheme == "http" and is_loopback(parsed.host)
    if parsed.userinfo or parsed.fragment or not (parsed.scheme == "https" or local):
        raise OAuthInvalid(
            f"The {what} {shown(url)} is not secure: it has to begin with https:// and to have no "
            "user name and no fragment."
        )


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine, by what it says and not by what it resolves to."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def with_params(url: str, params: Mapping[str, str]) -> str:
    """*url* with these parameters beside its own."""
    return str(_parsed(url).copy_merge_params(params))


def _parsed(url: str) -> "httpx.URL":
    """As the client reads it: two readers of one URL can be told different things."""
    import httpx

    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise OAuthInvalid("A server names a URL that cannot be read.") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise OAuthInvalid("A server names a URL that is none of http or https.")
    return parsed


async def _read(response: "httpx.Response", url: str) -> bytes:
    """The body. Raises `OAuthInvalid` if it does not come to an end."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > LONGEST_ANSWER:
            raise OAuthInvalid(
                f"{shown(url)} answers with more than {LONGEST_ANSWER} bytes, "
                "which no answer of its kind has."
            )
    return bytes(body)


def _object(body: bytes) -> Json:
    try:
        value = decode(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

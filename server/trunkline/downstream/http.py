"""
HTTP to the servers behind us: one client for all of them, and one endpoint for each.

aiohttp is the client because it is the cheapest that keeps connections alive (a third of httpx's
CPU for each request). What goes wrong leaves here as `ChannelLost` with a sentence, so that the
transports do not know the library's errors. Header values are secrets: they go on every request
and nowhere else. Cookies are not kept, because one client serves every organisation.

Servers whose URLs are guarded (`ServerConfig.guarded`) have connections of their own: each address
is checked when it is connected to, no proxy stands between, and no redirect is followed.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from io import BytesIO
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesIOPayload
from yarl import URL

from trunkline import __version__
from trunkline.downstream.channel import ChannelLost
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.guarded import Closed, Guard, GuardedResolver
from trunkline.errors import DownstreamUnavailable, TrunklineError

KEEP_ALIVE: Final = 4.0
"""
Seconds an idle connection is kept. Node and uvicorn close theirs after five, and a request that
crosses such a close is lost and must not be repeated blindly: so we let go first.
"""

CONNECT_TIMEOUT: Final = 15.0
"""Seconds a connection may take to be made, TLS and proxy included."""

DELIVERY_TIMEOUT: Final = 30.0
"""Seconds a server may take to accept a message that has no answer."""

MAX_REDIRECTS: Final = 3


class Unreachable(ChannelLost):
    """No connection could be made, so nothing was sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, sent=False)


class Body(BytesIOPayload):
    """A request body that tells when its first byte is about to leave, after the headers."""

    def __init__(self, data: bytes, *, on_leaving: Callable[[], None] | None = None) -> None:
        super().__init__(BytesIO(data))
        self._on_leaving = on_leaving

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        if self._on_leaving is not None:
            self._on_leaving()
        await super().write_with_length(writer, content_length)


class HttpClient:
    """The one HTTP client. An async context manager; costs nothing until the first use."""

    def __init__(self, guard: Guard | None = None) -> None:
        """Without a *guard*, nothing is sent to a server that is guarded."""
        self._guard: Guard = Closed() if guard is None else guard
        self._session: aiohttp.ClientSession | None = None
        self._guarded_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for session in (self._session, self._guarded_session):
            if session is not None:
                await session.close()
        self._session = self._guarded_session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """
        The aiohttp session.

        The number of connections is not limited: every request in flight and every open stream
        needs one of its own, and with a common limit one server that hangs would starve the rest.
        The environment is not trusted, because aiohttp would read it, and .netrc, for every
        request in a thread; `endpoint` looks up the proxy once.
        """
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
            self._session = _session(connector)
        return self._session

    @property
    def guarded_session(self) -> aiohttp.ClientSession:
        """The aiohttp session of guarded servers: it resolves anew for every connection."""
        if self._guarded_session is None:
            connector = aiohttp.TCPConnector(
                resolver=GuardedResolver(self._guard),
                use_dns_cache=False,
                limit=0,
                keepalive_timeout=KEEP_ALIVE,
            )
            self._guarded_session = _session(connector)
        return self._guarded_session

    async def endpoint(self, config: ServerConfig) -> "Endpoint":
        """
        The endpoint of one server. Nothing is sent yet.

        Raises `DownstreamUnavailable` when its URL or headers cannot be used.
        """
        try:
            url = URL(config.url or "").with_fragment(None)
        except ValueError:
            url = URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise DownstreamUnavailable(
                config.name, 'its "url" in mcp.json is not a URL that begins with http or https.'
            )
        if config.guarded:
            self._check(config.name, url)
        headers = {"user-agent": f"trunkline/{__version__}"}
        if url.user is not None:
            headers["authorization"] = aiohttp.encode_basic_auth(url.user, url.password or "")
            url = url.with_user(None)
        for name, value in config.headers.items():
            if re.search(r"[\r\n\0]", name + value):
                raise DownstreamUnavailable(
                    config.name, f"the value of its header {name!r} in mcp.json has a line break."
                )
            headers[name.lower()] = value
        if config.guarded:
            return Endpoint(self.guarded_session, url, headers, None, follows=False)
        proxy = await asyncio.to_thread(find_proxy, url)
        return Endpoint(self.session, url, headers, proxy, follows=True)

    def _check(self, server: str, url: URL) -> None:
        """Refuse the URL of a guarded server, in the form that aiohttp will go by."""
        try:
            self._guard.check_url(str(url))
        except (TrunklineError, ChannelLost) as error:
            raise DownstreamUnavailable(server, str(error)) from error


class Endpoint:
    """One server's URL, and what every request to it needs."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        headers: Mapping[str, str],
        proxy: URL | None,
        *,
        follows: bool,
    ) -> None:
        self.url = url
        """Where requests go. Where it *follows*, a redirect within the origin changes it."""

        self.headers = headers
        """What goes on every request, by lower-case name."""

        self._session, self._proxy, self._follows = session, proxy, follows

    def at(self, url: URL) -> "Endpoint":
        """Another URL of the same server. It gets the same headers: check its origin first."""
        return Endpoint(self._session, url, self.headers, self._proxy, follows=self._follows)

    async def send(
        self, method: str, headers: Mapping[str, str], body: Body | None = None
    ) -> aiohttp.ClientResponse:
        """
        Send one request and return the response as soon as its headers are in.

        *headers* are complete: start from `Endpoint.headers`. The caller bounds the time and has
        to read the response to its end or close it. Raises `Unreachable`, or `ChannelLost`.
        """
        for _ in range(MAX_REDIRECTS + 1):
            try:
                response = await self._session.request(
                    method,
                    self.url,
                    headers=headers,
                    data=body,
                    proxy=self._proxy,
                    allow_redirects=False,
                )
            except (
                aiohttp.ClientConnectorError,
                aiohttp.ClientConnectorCertificateError,
                aiohttp.ConnectionTimeoutError,
                aiohttp.ClientHttpProxyError,
            ) as error:
                raise Unreachable(self._why_unreachable(error)) from error
            except aiohttp.ClientResponseError as error:
                flaw = error.message.partition("\n")[0].rstrip(".: ")
                reason = f"{self.shown} does not speak HTTP as it should: {flaw}."
                raise ChannelLost(reason, sent=True) from error
            except ValueError as error:  # what aiohttp finds wrong with the request itself
                reason = f"the request to {self.shown} could not be written."
                raise ChannelLost(reason, sent=False) from error
            except (aiohttp.ClientError, OSError) as error:
                reason = f"the connection to {self.shown} broke before the response came."
                raise ChannelLost(reason, sent=True) from error
            except TrunklineError as error:  # the guard's
                raise Unreachable(str(error)) from error
            if response.status not in (301, 302, 303, 307, 308):
                return response
            response.close()
            self._redirect(response)
        raise ChannelLost(f"{self.shown} redirects in circles.", sent=False)

    @property
    def shown(self) -> str:
        """The URL for people."""
        return shown(self.url)

    def _redirect(self, response: aiohttp.ClientResponse) -> None:
        try:
            target = self.url.join(URL(response.headers.get("Location", "")))
            same = target.origin() == self.url.origin()
        except ValueError:
            raise ChannelLost(f"{self.shown} redirects to no valid URL.", sent=False) from None
        if not same or not self._follows or response.status not in (307, 308):
            raise ChannelLost(
                f"{self.shown} redirects to {shown(target)}. "
                'If that is the server you mean, make it the "url" in mcp.json.',
                sent=False,
            )
        self.url = target.with_fragment(None)

    def _why_unreachable(self, error: Exception) -> str:
        origin = self.url.origin()
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return f"{origin} did not accept a connection within {CONNECT_TIMEOUT:g} seconds."
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return f"the proxy refused to connect to {origin} ({error.status})."
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return "the proxy of the environment (HTTP_PROXY, HTTPS_PROXY) cannot be reached."
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return f'the host {self.url.host!r} is not known. Check its "url" in mcp.json.'
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return f"the certificate of {origin} is not trusted: {error.certificate_error}."
        if isinstance(error, aiohttp.ClientSSLError):
            return f"no secure connection to {origin} could be made: {error.os_error}."
        return f'nothing answers at {origin}. Start the server, or check its "url" in mcp.json.'


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT),
        read_bufsize=256 * 1024,
    )


def find_proxy(url: URL) -> URL | None:
    """The proxy that the environment (or the system) names for *url*. May block."""
    assert url.host is not None
    proxy = getproxies().get(url.scheme)
    if not proxy or is_loopback(url.host):
        return None
    if proxy_bypass(f"{url.host}:{url.port}") or proxy_bypass(url.host):
        return None
    return URL(proxy if "://" in proxy else f"http://{proxy}")


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine, which no proxy can reach for us."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def shown(url: URL) -> str:
    """A URL for people: a query may hold a key."""
    return str(url.with_user(None).with_query(None).with_fragment(None))

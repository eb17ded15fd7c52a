"""
An httpx client for URLs that people enter: it connects to the addresses that were checked.

The host is resolved and checked for every request, and the request then goes to the address
itself, with the host's name in `Host` and in the TLS handshake. Connections are not kept: a
connection to an address belongs to the name that its certificate was checked for.
"""

import asyncio
from typing import Final

import httpx

from trunkline.security.outbound.guard import DEFAULT_PORTS, RESOLVE_TIMEOUT, OutboundGuard

TIMEOUT: Final = 10.0
"""Seconds that one wait on the other side may take."""


class GuardedTransport(httpx.AsyncHTTPTransport):
    """Sends a request only to where the guard lets it. Raises `OutboundRefused`."""

    def __init__(self, guard: OutboundGuard) -> None:
        super().__init__(trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
        self._guard = guard

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        self._guard.check_url(str(url))
        host = url.raw_host.decode()
        addresses = await self._resolve(host, url.port or DEFAULT_PORTS[url.scheme])
        request.extensions = {**request.extensions, "sni_hostname": host}
        failure: httpx.TransportError | None = None
        for address in addresses:
            request.url = url.copy_with(host=address)
            try:
                return await super().handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            finally:
                request.url = url
        assert failure is not None, "a host that resolves has an address"
        raise failure

    async def _resolve(self, host: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                return await self._guard.resolve(host, port)
        except OSError as error:
            raise httpx.ConnectError(f"The host {host!r} is not known.") from error


def guarded_client(guard: OutboundGuard, *, timeout: float = TIMEOUT) -> httpx.AsyncClient:
    """
    A client that follows no redirect and uses no proxy. *timeout* is in seconds.

    Its requests raise `OutboundRefused` beside httpx's own errors.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(guard),
        timeout=timeout,
        follow_redirects=False,
        trust_env=False,
    )

"""
Connections to servers whose URLs were entered by people who may not choose freely.

What may be connected to is decided elsewhere (`Guard`); here the decision is taken at the last
moment, on the addresses that are connected to.
"""

import socket
from collections.abc import Iterable
from typing import Protocol

from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from trunkline.downstream.channel import ChannelLost


class Guard(Protocol):
    """Says where guarded URLs may lead. Raises a `TrunklineError` that says why one may not."""

    def check_url(self, url: str) -> None:
        """Refuse a URL that must not be requested, whatever its host resolves to."""
        ...

    def check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse a host by what it has just resolved to."""
        ...


class Closed:
    """The guard of a client that was given none: it lets nothing through."""

    def check_url(self, url: str) -> None:
        raise ChannelLost("no URLs that people enter are connected to here.", sent=False)

    def check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        self.check_url(host)


class GuardedResolver(ThreadedResolver):
    """
    The system's resolver, which hands out only addresses that the guard lets through.

    aiohttp connects to what it is handed, so a name that means something else a moment later (DNS
    rebinding) changes nothing. It asks no resolver about a host that is an address already: those
    are checked with the URL.
    """

    def __init__(self, guard: Guard) -> None:
        super().__init__()
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        self._guard.check_addresses(host, [result["host"] for result in found])
        return found

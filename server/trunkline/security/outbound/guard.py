"""
The outbound guard: where Trunkline connects to on behalf of people who may not choose freely.

Whoever may enter a URL could make the gateway knock on doors inside the network it runs in: the
metadata page of a cloud, a database, a neighbour's console (server-side request forgery). So such
a URL has to lead to public addresses. A name proves nothing, and may lead elsewhere a second later
(DNS rebinding): what counts is every address it resolves to, checked by whoever connects, at each
connect, and the address that was checked is the one that is connected to.

    allow_url ── when a URL is entered ──────> a sentence at once
    resolve ──── when a connection is made ──> addresses that may be connected to

No name is refused for what it is: `localhost`, `metadata.google.internal`, and 127.0.0.1 written
as 2130706433 or 0x7f.1, all resolve to addresses that are.
"""

import asyncio
import re
import socket
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import ClassVar, Final
from urllib.parse import urlsplit

import structlog

from trunkline.errors import TrunklineError
from trunkline.security.outbound.addresses import (
    Address,
    Network,
    embodied,
    parse_address,
    parse_network,
    special_kind,
)
from trunkline.settings import OutboundSettings

log = structlog.get_logger(__name__)

RESOLVE_TIMEOUT: Final = 5.0
"""Seconds the name of a host may take to be resolved when a URL is entered."""

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_AMBIGUOUS: Final = re.compile(r"[\x00-\x20\x7f\\]")
"""Characters in a URL that parsers disagree about."""


class OutboundRefused(TrunklineError):
    """A URL leads, or could lead, to where it must not."""

    code: ClassVar[str] = "outbound_refused"


class OutboundGuard:
    """Decides which URLs and addresses may be connected to. Knows nothing of HTTP clients."""

    def __init__(self, settings: OutboundSettings) -> None:
        networks = [parse_network(entry) for entry in settings.allow]
        self._networks: list[Network] = [one for one in networks if one is not None]
        self._hosts = [
            _plain(entry)
            for entry, network in zip(settings.allow, networks, strict=True)
            if network is None
        ]
        self._ports = frozenset(settings.ports)

    def check_url(self, url: str) -> None:
        """
        Refuse a URL that must not be connected to, whatever its host resolves to.

        Raises `OutboundRefused`.
        """
        host, port = self._parts(url)
        if self._ports and port not in self._ports:
            raise OutboundRefused(
                f"The URL names port {port}, and only some ports are connected to. "
                "Whoever runs Trunkline can add it to TRUNKLINE_OUTBOUND__PORTS."
            )
        if (address := parse_address(host)) is not None:
            self.check_address(host, address)

    def check_address(self, host: str, address: Address) -> None:
        """Refuse an address that *host* leads to, unless it may be. Raises `OutboundRefused`."""
        kind = special_kind(address)
        if kind is None or self._allows(host, address):
            return
        log.warning("outbound.refused", host=host, address=str(address))
        # The address stays in the log: it may tell a stranger how the network is laid out.
        raise OutboundRefused(
            f"The host {host!r} leads to {kind} address, and URLs that people enter may lead to "
            "public ones only. If it is meant, whoever runs Trunkline can add the host or its "
            "network to TRUNKLINE_OUTBOUND__ALLOW."
        )

    async def allow_url(self, url: str) -> None:
        """
        Refuse a URL that does not lead to where it may, as things are now.

        For whoever enters it, who learns at once; connecting has to check again. A host that is
        not known now is not refused. Raises `OutboundRefused`.
        """
        self.check_url(url)
        host, port = self._parts(url)
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT):
                await self.resolve(host, port)
        except OSError:  # TimeoutError is one
            log.info("outbound.unresolved", host=host)

    async def resolve(self, host: str, port: int) -> list[str]:
        """
        The addresses of a host, in the order to try them, each of them checked.

        Raises `OutboundRefused` if one of them may not be connected to, `OSError` if there are
        none. The caller bounds the time.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        self.check_addresses(host, addresses)
        return addresses

    def check_addresses(self, host: str, addresses: Iterable[str]) -> None:
        """Refuse *host* if one of its addresses may not be connected to."""
        for text in addresses:
            address = parse_address(text)
            assert address is not None, "resolvers answer with addresses"
            self.check_address(host, address)

    def _parts(self, url: str) -> tuple[str, int]:
        """The host and port of a URL that has a form every parser reads alike."""
        if _AMBIGUOUS.search(url):
            raise OutboundRefused("The URL has a blank or a backslash in it. Write it without.")
        try:
            parts = urlsplit(url)
            host, port = _plain(parts.hostname or ""), parts.port
        except ValueError:
            raise OutboundRefused("That is no URL: its host or port cannot be read.") from None
        if parts.scheme not in DEFAULT_PORTS:
            raise OutboundRefused("The URL has to begin with http:// or https://.")
        if not host or "%" in host or port == 0:
            raise OutboundRefused("That is no URL: its host or port cannot be read.")
        if "@" in parts.netloc:
            raise OutboundRefused(
                "The URL has a user name or password in it. Put credentials into a header."
            )
        return host, port or DEFAULT_PORTS[parts.scheme]

    def _allows(self, host: str, address: Address) -> bool:
        name, actual = _plain(host), embodied(address)
        return any(fnmatchcase(name, pattern) for pattern in self._hosts) or any(
            one in network for network in self._networks for one in (address, actual)
        )


def _plain(host: str) -> str:
    """A host as it is compared: lower case, without brackets and the dot of the root."""
    return host.lower().removeprefix("[").removesuffix("]").rstrip(".")

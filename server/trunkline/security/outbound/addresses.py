"""
Which IP addresses are public: those that anybody on the Internet could connect to just as well.

The tables follow the IANA registries of special-purpose addresses (RFC 6890 and what was added
since). They stand here because `ipaddress` changes its mind about them between Python versions.
"""

from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_RANGES: Final = {
    "an unspecified": ("0.0.0.0/8", "::/128"),
    "a loopback": ("127.0.0.0/8", "::1/128"),
    "a private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    "a carrier's private": ("100.64.0.0/10",),
    "a link-local": ("169.254.0.0/16", "fe80::/10"),
    "a multicast": ("224.0.0.0/4", "ff00::/8"),
    "a cloud provider's internal": ("168.63.129.16/32",),
    "a tunnel's": ("192.88.99.0/24", "2001::/32", "2002::/16", "64:ff9b:1::/48"),
    "a reserved": (
        *("192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
    ),
}
"""What an address is, as an adjective -> the networks it is in. The first that fits counts."""

_SPECIAL: Final[list[tuple[Network, str]]] = [
    (ip_network(network), kind) for kind, networks in _RANGES.items() for network in networks
]

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""The only part of IPv6 that is given out for public use."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
"""RFC 6052: how an IPv6-only network reaches an IPv4 address."""


def parse_address(text: str) -> Address | None:
    """The address that *text* is, in the one way it is properly written; None if it is a name."""
    try:
        return ip_address(text)
    except ValueError:
        return None


def parse_network(text: str) -> Network | None:
    """The network or single address that *text* is; None if it is a name."""
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def embodied(address: Address) -> Address:
    """The address that packets end up at: the IPv4 one where IPv6 only carries it."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def special_kind(address: Address) -> str | None:
    """What a special address is, with its article (`a private`); None for a public one."""
    actual = embodied(address)
    for network, kind in _SPECIAL:
        if actual in network:
            return kind
    if isinstance(actual, IPv6Address) and actual not in _GLOBAL_UNICAST:
        return "a reserved"
    return None

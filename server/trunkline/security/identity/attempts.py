"""
How often something unknown came from an address.

No key or token can be guessed, but trying costs: a signature to check, a line in the audit. Whoever
fails too often waits. What is good is not held up, whatever else its address sends: behind one
address there may be a whole office.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from trunkline.security.identity.credentials import TooManyFailures

ALLOWED: Final = 20
"""Failures that an address may have within a `WINDOW`."""

WINDOW: Final = 60.0
"""Seconds."""

MOST: Final = 10_000
"""Addresses that are remembered. The one that failed first is forgotten first."""


@dataclass(slots=True)
class _Failures:
    count: int
    until: float
    """When they are forgotten, in seconds of the monotonic clock."""


class Attempts:
    """The failures of every address."""

    def __init__(self, *, allowed: int = ALLOWED, window: float = WINDOW, most: int = MOST) -> None:
        self._allowed, self._window, self._most = allowed, window, most
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises `TooManyFailures` for an address that has to wait."""
        if not self._failures:
            return
        failures = self._failures.get(_place(address))
        if failures is not None and failures.count >= self._allowed:
            remaining = failures.until - time.monotonic()
            if remaining > 0:
                raise TooManyFailures(remaining)

    def add(self, address: str) -> None:
        """Something unknown has come. Raises `TooManyFailures` if that was once too often."""
        self.check(address)
        now, place = time.monotonic(), _place(address)
        failures = self._failures.get(place)
        if failures is None or failures.until <= now:
            self._failures.pop(place, None)
            failures = self._failures[place] = _Failures(0, now + self._window)
            if len(self._failures) > self._most:
                self._failures.popitem(last=False)
        failures.count += 1


def _place(address: str) -> str:
    """The address, or its /64 for IPv6: whoever has one of those has them all."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False))

"""Whoever shows too much that is not known waits, and costs no more memory than anybody."""

import pytest

from trunkline.security.identity.attempts import Attempts
from trunkline.security.identity.credentials import TooManyFailures


def fail(attempts: Attempts, address: str, times: int) -> None:
    for _ in range(times):
        attempts.add(address)


def waits(attempts: Attempts, address: str) -> bool:
    try:
        attempts.check(address)
    except TooManyFailures:
        return True
    return False


def test_an_address_waits_after_its_last_failure_and_no_other_does() -> None:
    attempts = Attempts(allowed=3)
    fail(attempts, "203.0.113.9", 2)
    before = waits(attempts, "203.0.113.9")
    fail(attempts, "203.0.113.9", 1)

    assert not before
    assert waits(attempts, "203.0.113.9")
    assert not waits(attempts, "203.0.113.10")
    with pytest.raises(TooManyFailures) as refused:
        attempts.add("203.0.113.9")
    assert 0 < refused.value.retry_after <= 60


def test_waiting_ends() -> None:
    attempts = Attempts(allowed=1, window=0)

    fail(attempts, "203.0.113.9", 5)

    assert not waits(attempts, "203.0.113.9")


@pytest.mark.parametrize(
    ("other", "is_held"),
    [
        ("2001:db8:0:1::2", True),
        ("2001:0db8:0000:0001:ffff::", True),
        ("2001:db8:0:1::1%eth0", True),
        ("2001:db8:0:2::1", False),
        ("no:address", False),
    ],
)
def test_a_whole_network_of_ipv6_is_one_address(other: str, is_held: bool) -> None:
    attempts = Attempts(allowed=1)
    attempts.add("2001:db8:0:1::1")

    assert waits(attempts, other) is is_held


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    attempts = Attempts(allowed=1, most=10)
    for number in range(100):
        attempts.add(f"192.0.2.{number}")

    assert len(attempts._failures) == 10  # pyright: ignore[reportPrivateUsage]
    assert waits(attempts, "192.0.2.99")
    assert not waits(attempts, "192.0.2.0")

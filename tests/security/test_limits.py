"""Who calls how often, how many at a time and with how much: let in, refused, let in again."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from trunkline.models import LOCAL, Json, Principal
from trunkline.security.limits.buckets import Bucket
from trunkline.security.limits.limits import ArgumentsTooLarge, LimitReached, Limits
from trunkline.security.limits.rules import LimitsInvalid, Rule, Rules
from trunkline.settings import LimitSettings

ADA = Principal(subject="key:ada", org="acme", user="ada")
ADA_ELSEWHERE = Principal(subject="key:ada", org="globex", user="ada")
BOB = Principal(subject="key:bob", org="acme", user="bob")
EVE = Principal(subject="key:eve", org="globex", user="eve")


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limits_of(clock: Clock, table: Mapping[str, Any], **options: Any) -> Limits:
    """Limits with one policy for everybody, and nothing from the settings."""
    return Limits(Rules(), lambda _: table, clock=clock, **options)


def calls(limits: Limits, who: Principal, most: int, tool: str = "search") -> int:
    """How many calls, one after the other, are let in before one is refused."""
    for number in range(most):
        try:
            with limits.admit(who, "github", tool):
                pass
        except LimitReached:
            return number
    return most


def test_the_local_user_has_no_limits(clock: Clock) -> None:
    limits = limits_of(clock, {"key": {"calls_per_minute": 1, "concurrent": 1, "result_bytes": 1}})

    with limits.admit(LOCAL, "github", "search", "x" * 1000) as first:
        with limits.admit(LOCAL, "github", "search", "x" * 1000):
            assert calls(limits, LOCAL, 1000) == 1000

    assert first.result_bytes is None
    assert len(limits.buckets) == 0


def test_a_burst_is_let_in_and_then_calls_come_at_the_rate(clock: Clock) -> None:
    limits = limits_of(clock, {"key": {"calls_per_minute": 60, "burst": 5}})

    assert calls(limits, ADA, 100) == 5
    clock.now += 3
    assert calls(limits, ADA, 100) == 3
    clock.now += 3600
    assert calls(limits, ADA, 100) == 5


def test_a_refusal_says_when_to_come_back_and_that_is_when_it_is_let_in(clock: Clock) -> None:
    limits = limits_of(clock, {"key": {"calls_per_minute": 12, "burst": 1}})
    assert calls(limits, ADA, 1) == 1

    with pytest.raises(LimitReached, match=r"12 calls a minute.* Try again in 5 seconds") as raised:
        limits.admit(ADA, "github", "search")

    assert raised.value.code == "rate_limited"
    clock.now += raised.value.retry_after - 0.001
    assert calls(limits, ADA, 1) == 0
    clock.now += 0.002
    assert calls(limits, ADA, 1) == 1


def test_credentials_organisations_and_tools_each_have_their_own(clock: Clock) -> None:
    table = {
        "key": {"calls_per_minute": 600, "burst": 10},
        "org": {"calls_per_minute": 600, "burst": 15},
        "tool": {"github/delete_*": {"calls_per_minute": 600, "burst": 2}},
    }
    limits = limits_of(clock, table)

    assert calls(limits, ADA, 100, "delete_repo") == 2
    assert calls(limits, BOB, 100, "delete_repo") == 0
    assert calls(limits, BOB, 100, "delete_file") == 2
    assert calls(limits, EVE, 100, "delete_repo") == 2
    assert calls(limits, ADA, 100) == 8
    assert calls(limits, BOB, 100) == 3
    assert calls(limits, EVE, 100) == 8


def test_a_credential_is_counted_within_the_organisation_it_acts_in(clock: Clock) -> None:
    limits = limits_of(clock, {"key": {"calls_per_minute": 60, "burst": 3}})

    assert calls(limits, ADA, 100) == calls(limits, ADA_ELSEWHERE, 100) == 3


def test_a_refused_call_uses_nothing_up(clock: Clock) -> None:
    limits = limits_of(
        clock,
        {"key": {"calls_per_minute": 60, "burst": 9}, "tool": {"github/slow": {"concurrent": 1}}},
    )

    with limits.admit(ADA, "github", "slow"):
        for _ in range(50):
            with pytest.raises(LimitReached, match="'slow' of the server 'github'"):
                limits.admit(ADA, "github", "slow")

    assert calls(limits, ADA, 100) == 8


def test_calls_under_way_are_limited_and_their_places_come_back(clock: Clock) -> None:
    limits = limits_of(clock, {"key": {"concurrent": 3}})

    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(limits.admit(ADA, "github", "search"))
        with pytest.raises(LimitReached, match=r"3 calls under way") as raised:
            limits.admit(ADA, "github", "search")
        assert calls(limits, BOB, 2) == 2

    assert raised.value.retry_after > 0
    assert calls(limits, ADA, 100) == 100


def test_a_call_that_fails_gives_its_place_back_once(clock: Clock) -> None:
    limits = limits_of(clock, {"key": {"concurrent": 1}})

    for _ in range(3):
        with pytest.raises(ZeroDivisionError), limits.admit(ADA, "github", "search") as admission:
            _ = 1 / 0
        admission.__exit__(None, None, None)

    with limits.admit(ADA, "github", "search"), pytest.raises(LimitReached):
        limits.admit(ADA, "github", "search")


def test_sizes_are_the_strictest_that_are_said(clock: Clock) -> None:
    table = {
        "key": {"request_bytes": 1000, "result_bytes": 500},
        "org": {"result_bytes": 400},
        "tool": {"github": {"request_bytes": 100}},
    }
    limits = limits_of(clock, table)

    def arguments(size: int) -> Json:
        return {"q": "x" * (size - len('{"q":""}'))}

    assert limits.admit(ADA, "github", "search", arguments(100)).result_bytes == 400
    assert limits.admit(ADA, "jira", "search", arguments(1000)).result_bytes == 400
    with pytest.raises(ArgumentsTooLarge, match=r"101 bytes and may have 100"):
        limits.admit(ADA, "github", "search", arguments(101))
    with pytest.raises(ArgumentsTooLarge):
        limits.admit(ADA, "github", "search", {"half": "\ud800" * 200})


def test_what_the_policy_does_not_say_the_settings_do() -> None:
    defaults = Rules.of_settings(LimitSettings(calls_per_minute=100, burst=90, concurrent=7))

    rules = Rules.of({"key": {"calls_per_minute": 60, "result_bytes": 9}}, defaults)

    assert (rules.key.calls_per_minute, rules.key.concurrent, rules.key.result_bytes) == (60, 7, 9)
    assert (rules.key.at_once, defaults.key.at_once) == (10, 90)


@pytest.mark.parametrize(("rate", "at_once"), [(1, 1), (6, 6), (60, 10), (600, 100)])
def test_where_no_burst_is_said_it_is_ten_seconds_worth_or_ten(rate: int, at_once: int) -> None:
    assert Rule(calls_per_minute=rate).at_once == at_once


def test_the_settings_as_they_come_count_no_calls(clock: Clock) -> None:
    limits = Limits(Rules.of_settings(LimitSettings()), clock=clock)

    assert calls(limits, ADA, 20_000) == 20_000


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"keys": {}}, r"limits has no key 'keys'. Did you mean 'key'\?"),
        ({"key": {"call_per_minute": 5}}, r"limits.key has no key .* mean 'calls_per_minute'\?"),
        ({"org": {"burst": 0}}, r"limits.org.burst is 0; write a whole number from 1 up"),
        ({"org": {"burst": True}}, r"limits.org.burst is True"),
        ({"key": 7}, r"limits.key is 7; it has to be a table"),
        ({"tool": {"github/*": {"concurrent": 1.5}}}, r"limits.tool.'github/\*'.concurrent is 1.5"),
    ],
)
def test_limits_that_cannot_be_used_are_a_sentence(table: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(LimitsInvalid, match=sentence):
        Rules.of(table)


def test_a_changed_policy_holds_at_once_and_a_broken_one_changes_nothing(clock: Clock) -> None:
    table: dict[str, Any] = {"key": {"calls_per_minute": 60, "burst": 20}}
    policy = [table]
    limits = Limits(Rules(), lambda _: policy[0], clock=clock)
    assert calls(limits, ADA, 15) == 15

    policy[0] = {"key": {"calls_per_minute": 60, "burst": 4}}
    assert calls(limits, ADA, 100) == 0
    policy[0] = {"key": {"calls_per_minute": 60, "burst": 30}}
    assert calls(limits, ADA, 100) == 15
    clock.now += 60
    with capture_logs() as logs:
        policy[0] = {"key": {"calls_per_minute": "many"}}
        assert calls(limits, ADA, 100) == 30
        assert calls(limits, ADA, 100) == 0

    assert [one["event"] for one in logs] == ["limits.invalid"]


def test_a_hundred_thousand_credentials_are_remembered_and_forgotten_when_full(
    clock: Clock,
) -> None:
    limits = limits_of(clock, {"key": {"calls_per_minute": 60, "burst": 2}})
    for number in range(100_000):
        who = Principal(subject=f"key:{number}", org="acme", user=None)
        with limits.admit(who, "github", "search"):
            pass
    assert len(limits.buckets) == 100_000

    for bucket in limits.buckets.take_used().values():
        bucket.settle(bucket.used, None, clock.now)
    clock.now += 61
    for _ in range(50):
        limits.drop_idle()

    assert len(limits.buckets) == 0


def test_what_is_not_full_again_or_under_way_is_not_forgotten(clock: Clock) -> None:
    limits = limits_of(clock, {"key": {"calls_per_minute": 1, "burst": 2}})
    assert calls(limits, ADA, 9) == 2

    with limits.admit(BOB, "github", "search"):
        clock.now += 100
        for bucket in limits.buckets.take_used().values():
            bucket.settle(bucket.used, None, clock.now)
        limits.drop_idle()
        assert len(limits.buckets) == 2
        clock.now += 200
        limits.drop_idle()
        assert len(limits.buckets) == 1

    limits.drop_idle()
    assert len(limits.buckets) == 0


def test_what_is_taken_while_replicas_are_being_told_is_told_the_next_time() -> None:
    bucket = Bucket(Rule(calls_per_minute=60, burst=20), 0.0)

    def take(count: int) -> None:
        for _ in range(count):
            assert bucket.wait(0.0) == 0
            bucket.take()

    take(5)
    told = bucket.used
    take(3)
    bucket.settle(told, total=5, now=0.0)
    assert bucket.used == 3
    bucket.settle(3, total=5 + 3 + 4, now=0.0)
    assert bucket.used == 0

    take(20 - 5 - 3 - 4)
    assert bucket.wait(0.0) == 1.0


def test_there_are_never_more_buckets_than_may_be(clock: Clock) -> None:
    limits = limits_of(clock, {"key": {"calls_per_minute": 60}}, capacity=100)

    for number in range(1000):
        who = Principal(subject=f"key:{number}", org="acme", user=None)
        with limits.admit(who, "github", "search"):
            pass

    assert len(limits.buckets) == 100


@settings(max_examples=200, deadline=None)
@given(
    rate=st.integers(1, 6000),
    burst=st.integers(1, 100),
    steps=st.lists(st.tuples(st.floats(0, 120), st.integers(0, 50)), max_size=30),
)
def test_over_any_time_no_more_is_let_in_than_rate_and_burst(
    rate: int, burst: int, steps: list[tuple[float, int]]
) -> None:
    clock = Clock()
    limits = limits_of(clock, {"key": {"calls_per_minute": rate, "burst": burst}})
    let_in: list[float] = []

    for pause, wanted in steps:
        clock.now += pause
        let_in += [clock.now] * calls(limits, ADA, wanted)

    for first in range(len(let_in)):
        for last in range(first, len(let_in)):
            seconds = let_in[last] - let_in[first]
            assert last - first + 1 <= seconds * rate / 60 + burst + 1e-6


@pytest.mark.anyio
async def test_ten_thousand_calls_at_once_are_counted_one_by_one() -> None:
    limits = limits_of(Clock(), {"key": {"calls_per_minute": 60, "burst": 500, "concurrent": 900}})
    let_in = refused = 0

    async def call() -> None:
        nonlocal let_in, refused
        try:
            with limits.admit(ADA, "github", "search"):
                let_in += 1
                await asyncio.sleep(0)
        except LimitReached:
            refused += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(10_000):
            tasks.create_task(call())

    assert (let_in, refused) == (500, 9_500)

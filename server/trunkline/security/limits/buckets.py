"""
Token buckets: how much somebody may still do now, in a few numbers.

A bucket fills at its rate up to its burst, and a call takes one token out. Nothing ticks: how full
it is follows from when it was last looked at. There are as many buckets as there are credentials,
organisations and limited tools in use; one that is full again is the same as none, and goes.

What other replicas took is subtracted later, when it has been heard (see `shares`). Then a bucket
may hold less than nothing, and what was too much is waited off.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from trunkline.security.limits.rules import Rule

CAPACITY: Final = 300_000
"""Buckets at a time: a hundred thousand credentials, their organisations and tools, and room."""

SWEEP: Final = 2_000
"""Buckets that are looked at in one go, when those that are full again are dropped."""

Key = tuple[str | None, ...]
"""(org, subject), (org,) or (org, server, tool)."""


class Bucket:
    """What is left of one rule for one holder."""

    __slots__ = (
        "_at",
        "_base",
        "_level",
        "_settled_at",
        "burst",
        "in_flight",
        "rate",
        "rule",
        "total",
        "used",
    )

    def __init__(self, rule: Rule, now: float) -> None:
        self.in_flight = 0
        """Calls under way."""

        self.used = 0
        """Tokens taken that other replicas have not been told of."""

        self.total: int | None = None
        """What all replicas had taken when last heard; None while nothing has been."""

        self._at = self._settled_at = now
        self._level = self._base = float(rule.at_once)
        self._apply(rule)

    def apply(self, rule: Rule) -> None:
        """Go by another rule from now on. What was used up stays used up."""
        missing = self.burst - self._level
        self._apply(rule)
        self._level = self.burst - missing
        self._base, self._settled_at = self._level + self.used, self._at

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0 if there is one."""
        if not self.rate:
            return 0.0
        level = self._level + (now - self._at) * self.rate
        self._level, self._at = min(level, self.burst), now
        return 0.0 if level >= 1.0 else (1.0 - level) / self.rate

    def take(self) -> None:
        """Take a token, after `wait` has said that there is one."""
        if self.rate:
            self._level -= 1.0
            self.used += 1

    def settle(self, told: int, total: int | None, now: float) -> None:
        """
        Replicas have heard of *told* of our tokens, and together have taken *total*.

        What the others took since we last heard is ours no more, less what has come in meanwhile.
        None, or a total that has shrunk (it was lost), says nothing about the others.
        """
        self.wait(now)
        self.used -= told
        before, self.total = self.total, total
        if before is not None and total is not None:
            others = max(0, total - told - before)
            refilled = self._base + (now - self._settled_at) * self.rate - told - self.used
            self._level = min(self._level, refilled - others)
        self._base, self._settled_at = self._level + self.used, now

    def is_idle(self, now: float) -> bool:
        """Whether it is as good as new."""
        self.wait(now)
        return not self.in_flight and not self.used and self._level >= self.burst

    def _apply(self, rule: Rule) -> None:
        self.rule = rule
        self.rate = (rule.calls_per_minute or 0) / 60.0
        self.burst = float(rule.at_once)


class Buckets:
    """Those in use, in the order of their last use."""

    def __init__(self, clock: Callable[[], float], capacity: int = CAPACITY) -> None:
        """*clock* tells seconds, and never goes back."""
        self._clock, self._capacity = clock, capacity
        self._buckets: OrderedDict[Key, Bucket] = OrderedDict()
        self._touched: dict[Key, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def get(self, key: Key, rule: Rule) -> Bucket:
        """The bucket of a holder, full if it is new. Beyond the capacity the oldest goes."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._capacity:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = Bucket(rule, self._clock())
        else:
            self._buckets.move_to_end(key)
            if bucket.rule is not rule:
                bucket.apply(rule)
        self._touched[key] = bucket
        return bucket

    def take_used(self) -> dict[Key, Bucket]:
        """Those that tokens were taken from since this was last asked."""
        touched, self._touched = self._touched, {}
        return {key: bucket for key, bucket in touched.items() if bucket.used}

    def drop_idle(self) -> None:
        """Let go of buckets that are full again, those unused for longest first."""
        now = self._clock()
        for _ in range(min(SWEEP, len(self._buckets))):
            key, bucket = next(iter(self._buckets.items()))
            if bucket.is_idle(now):
                del self._buckets[key]
            else:
                self._buckets.move_to_end(key)

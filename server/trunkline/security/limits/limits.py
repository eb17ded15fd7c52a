"""
Limits: how often, how many at a time and how large, asked for every call.

    dispatch ── admit ──> the credential's bucket ┐
                          its organisation's      ├ all have room: the call runs, and gives its
                          the tool's there        ┘ places back when it has ended

A call looks into memory and waits for nothing; a refused one costs nobody anything. Credentials and
tools are counted within the organisation that is acted in, as the policy is that organisation's.
What replicas let in is added up behind the calls: see `shares`.

The local user has no limits.
"""

import math
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Final

import structlog
from prometheus_client import Counter

from trunkline.errors import TrunklineError
from trunkline.models import Principal
from trunkline.security.limits.buckets import CAPACITY, Bucket, Buckets
from trunkline.security.limits.oversize import json_size
from trunkline.security.limits.rules import LimitsInvalid, Rules

log = structlog.get_logger(__name__)

LIMITED: Final = Counter(
    "trunkline_limited", "Calls that were refused, and by which limit.", ["limit"]
)

SOON: Final = 1.0
"""Seconds after which it is worth trying again when too many calls are under way."""

NO_TABLES: Final[Mapping[str, Any]] = {}

RulesOf = Callable[[str | None], Mapping[str, Any]]
"""The `limits` of an organisation's policy: the same object for as long as nothing changes."""


class LimitReached(TrunklineError):
    """
    There were as many calls as there may be. Nothing has run, and nothing was used up.

    `retry_after` is how many seconds later it is worth trying again.
    """

    code = "rate_limited"
    audit_outcome: ClassVar = "denied"

    def __init__(self, message: str, retry_after: float) -> None:
        seconds = math.ceil(retry_after)
        unit = "second" if seconds == 1 else "seconds"
        super().__init__(f"{message} Try again in {seconds} {unit}.")
        self.retry_after = retry_after


class ArgumentsTooLarge(TrunklineError):
    """The arguments of a call have more bytes than they may."""

    code = "arguments_too_large"
    audit_outcome: ClassVar = "denied"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The arguments of this call have {size:,} bytes and may have {limit:,}. Send less."
        )


class Admission:
    """A call that may run. As a context manager it gives its places back at the end."""

    __slots__ = ("_buckets", "result_bytes")

    def __init__(self, buckets: tuple[Bucket, ...], result_bytes: int | None) -> None:
        self._buckets = buckets
        self.result_bytes = result_bytes
        """Bytes its result may have; None is any number."""

    def __enter__(self) -> "Admission":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for bucket in self._buckets:
            bucket.in_flight -= 1
        self._buckets = ()


UNLIMITED: Final = Admission((), None)
"""The local user's: it holds nothing, so it can be everybody's."""


class Limits:
    """What everybody may still do, in this process."""

    def __init__(
        self,
        defaults: Rules,
        policy: RulesOf = lambda _: NO_TABLES,
        *,
        clock: Callable[[], float] = time.monotonic,
        capacity: int = CAPACITY,
    ) -> None:
        """*policy* says more than the *defaults*; *clock* tells seconds and never goes back."""
        self._defaults, self._policy, self._clock = defaults, policy, clock
        self._rules: dict[str | None, tuple[Mapping[str, Any], Rules]] = {}
        """By organisation: a policy's tables as they are, and as rules."""

        self.buckets = Buckets(clock, capacity)

    def rules_of(self, org: str | None) -> Rules:
        """The limits in force in an organisation. Unusable ones leave the last good ones be."""
        table = self._policy(org)
        known = self._rules.get(org)
        if known is not None and known[0] is table:
            return known[1]
        try:
            rules = Rules.of(table, self._defaults)
        except LimitsInvalid as error:
            log.warning("limits.invalid", org=org, reason=str(error))
            rules = known[1] if known is not None else self._defaults
        self._rules[org] = table, rules
        return rules

    def admit(
        self, principal: Principal, server: str, own_name: str, arguments: Any = None
    ) -> Admission:
        """
        Let a call run, by its server's and its own name, or say why not.

        Enter what it returns, in the same step, and leave it when the call has ended. Raises
        `LimitReached` or `ArgumentsTooLarge`.
        """
        if principal.is_local:
            return UNLIMITED
        org = principal.org
        rules = self.rules_of(org)
        tool = rules.of_tool(server, own_name)
        most = rules.request_bytes(tool)
        if most is not None and arguments and (size := json_size(arguments)) > most:
            LIMITED.labels("request").inc()
            raise ArgumentsTooLarge(size, most)
        get = self.buckets.get
        held: tuple[Bucket, ...] = ()
        if rules.key.counts:
            held = (get((org, principal.subject), rules.key),)
        if org is not None and rules.org.counts:
            held = (*held, get((org,), rules.org))
        if tool.counts:
            held = (*held, get((org, server, own_name), tool))
        now = self._clock()
        for bucket in held:
            limit = bucket.rule.concurrent
            if (limit is not None and bucket.in_flight >= limit) or bucket.wait(now):
                raise self._refusal(held, now, rules, server, own_name)
        for bucket in held:
            bucket.take()
            bucket.in_flight += 1
        return Admission(held, rules.result_bytes(tool))

    def drop_idle(self) -> None:
        """Let go of what is as good as new. To be called now and then."""
        self.buckets.drop_idle()

    def _refusal(
        self, held: tuple[Bucket, ...], now: float, rules: Rules, server: str, own_name: str
    ) -> LimitReached:
        """Why a call may not run: by whom it would have to wait for longest."""
        waits = [(_wait(bucket, now), bucket) for bucket in held]
        seconds, bucket = max(waits, key=lambda one: one[0])
        if bucket.rule is rules.key:
            kind, who = "key", "This credential"
        elif bucket.rule is rules.org:
            kind, who = "org", "This organisation"
        else:
            kind, who = "tool", f"The tool {own_name!r} of the server {server!r}"
        rule = bucket.rule
        LIMITED.labels(kind).inc()
        if bucket.wait(now):
            what = f"{rule.calls_per_minute:,} calls a minute"
        else:
            what = f"{rule.concurrent:,} calls under way at a time"
        return LimitReached(f"{who} is limited to {what}, and that is reached.", seconds)


def _wait(bucket: Bucket, now: float) -> float:
    """Seconds until a bucket lets another call in, as far as that can be known."""
    limit = bucket.rule.concurrent
    crowded = limit is not None and bucket.in_flight >= limit
    return max(bucket.wait(now), SOON if crowded else 0.0)

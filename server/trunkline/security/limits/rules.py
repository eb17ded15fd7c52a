"""
What a policy says about limits, read once and asked for every call.

    [org.acme.limits.key]                     each credential
    calls_per_minute = 600
    burst = 60
    concurrent = 20

    [org.acme.limits.org]                     all of them together
    [org.acme.limits.tool."github/*"]         each tool that fits; the first such pattern counts

Every table may have `calls_per_minute`, `burst`, `concurrent`, `request_bytes` and `result_bytes`.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from trunkline.errors import ConfigError
from trunkline.settings import LimitSettings

BURST_SECONDS: Final = 10
"""The calls of so many seconds may come at once, where nothing else is said."""

LEAST_BURST: Final = 10
"""But this many in any case, unless not even a minute allows them."""

REMEMBERED: Final = 20_000
"""Tools whose rule is kept in mind; then it begins anew."""


class LimitsInvalid(ConfigError):
    """The limits of a policy cannot be used as they are."""

    code = "limits_invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one credential, one organisation or one tool may use. None is without limit."""

    calls_per_minute: int | None = None
    burst: int | None = None
    """How many calls may come at once; None says it by the rate."""

    concurrent: int | None = None
    request_bytes: int | None = None
    result_bytes: int | None = None

    @property
    def at_once(self) -> int:
        """How many calls may come at once, where there is a rate."""
        rate = self.calls_per_minute or 0
        return self.burst or min(rate, max(LEAST_BURST, rate * BURST_SECONDS // 60))

    @property
    def counts(self) -> bool:
        """Whether anything has to be counted for it."""
        return self.calls_per_minute is not None or self.concurrent is not None


NO_RULE: Final = Rule()
KEYS: Final = tuple(one.name for one in fields(Rule))


@dataclass(frozen=True)
class Rules:
    """The limits in force in one organisation."""

    key: Rule = NO_RULE
    org: Rule = NO_RULE
    tools: tuple[tuple[str, Rule], ...] = ()
    """Patterns `server/tool`, and the rule for each tool that fits."""

    _by_tool: dict[tuple[str, str], Rule] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def request_bytes(self, tool: Rule) -> int | None:
        """Bytes the arguments of a call may have, of a tool with this rule."""
        return _least(self.key.request_bytes, self.org.request_bytes, tool.request_bytes)

    def result_bytes(self, tool: Rule) -> int | None:
        """Bytes its result may have."""
        return _least(self.key.result_bytes, self.org.result_bytes, tool.result_bytes)

    @classmethod
    def of(cls, table: Mapping[str, Any], defaults: "Rules | None" = None) -> Self:
        """
        The `limits` of a policy: tables `key`, `org` and `tool`, the last by pattern.

        Where they do not say, *defaults* do. Raises `LimitsInvalid`.
        """
        defaults = defaults or cls()
        _check_keys(table, ("key", "org", "tool"), "limits")
        tools = _table(table.get("tool", {}), "limits.tool")
        return cls(
            _rule(table.get("key", {}), "limits.key", defaults.key),
            _rule(table.get("org", {}), "limits.org", defaults.org),
            tuple((name, _rule(one, f"limits.tool.{name!r}")) for name, one in tools.items()),
        )

    @classmethod
    def of_settings(cls, settings: LimitSettings) -> Self:
        """The limits where no policy says anything."""
        return cls(
            Rule(
                calls_per_minute=settings.calls_per_minute,
                burst=settings.burst,
                concurrent=settings.concurrent,
                request_bytes=settings.request_bytes,
                result_bytes=settings.result_bytes,
            ),
            Rule(
                calls_per_minute=settings.org_calls_per_minute,
                burst=settings.org_burst,
                concurrent=settings.org_concurrent,
            ),
        )

    def of_tool(self, server: str, own_name: str) -> Rule:
        """The rule for one tool, by its server's and its own name."""
        if not self.tools:
            return NO_RULE
        known = self._by_tool.get((server, own_name))
        if known is None:
            known = self._first_fitting(f"{server}/{own_name}")
            if len(self._by_tool) >= REMEMBERED:
                self._by_tool.clear()
            self._by_tool[server, own_name] = known
        return known

    def _first_fitting(self, name: str) -> Rule:
        for pattern, rule in self.tools:
            if fnmatchcase(name, pattern if "/" in pattern else f"{pattern}/*"):
                return rule
        return NO_RULE


def _least(key: int | None, org: int | None, tool: int | None) -> int | None:
    """The strictest of three limits."""
    if org is None and tool is None:
        return key
    return min((one for one in (key, org, tool) if one is not None), default=None)


def _rule(value: Any, where: str, defaults: Rule = NO_RULE) -> Rule:
    table = _table(value, where)
    _check_keys(table, KEYS, where)
    for name, limit in table.items():
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise LimitsInvalid(f"{where}.{name} is {limit!r}; write a whole number from 1 up.")
    if "calls_per_minute" in table and "burst" not in table:
        defaults = replace(defaults, burst=None)  # it was meant for another rate
    return replace(defaults, **table)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise LimitsInvalid(f"{where} is {value!r}; it has to be a table.")
    return value


def _check_keys(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for name in table.keys() - set(known):
        near = difflib.get_close_matches(name, list(known), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(known)}."
        raise LimitsInvalid(f"{where} has no key {name!r}. {hint}")

"""
Who may do what, as one organisation's policy says: read from policy.toml, asked for every call.

    tool ── risk ──> LOW, MEDIUM, HIGH ── decide ──> allow, ask, deny

A `Policy` never changes. What it has once decided it remembers, so that the next such call costs a
look into a dict; a changed file makes new policies, which remember nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final, Literal

from trunkline.models import Json, Principal, Role, Scope
from trunkline.security.policy.risk import (
    Risk,
    configured_risk,
    first_fitting,
    risk_of_hints,
    risk_of_meta,
)

REMEMBERED: Final = 50_000
"""Decisions, and tools' risks, that a policy keeps in mind; then it begins anew."""

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Action(StrEnum):
    """What becomes of a call."""

    ALLOW = "allow"
    ASK = "ask"
    """A person has to approve it."""

    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a call, and why."""

    action: Action
    risk: Risk
    reason: str = ""
    """Half a sentence for whoever is denied or asked; empty where the call is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTerms:
    """How a person is asked."""

    valid_for: float = 600.0
    """Seconds after an approval in which the call may run; a denial stands as long."""

    pending_for: float = 3600.0
    """Seconds a request waits for somebody to decide."""

    answer_within: float = 120.0
    """Seconds the person at the client may take before the request is kept for others."""

    four_eyes: bool = False
    """Whether nobody may approve their own call."""

    ask_in_client: Literal["everybody", "operators"] = "everybody"
    """Whose own client is asked; the calls of others wait for an operator."""

    def asks_in_client(self, principal: Principal) -> bool:
        """Whether the person at a client may approve its calls."""
        is_operator = principal.role.includes(Role.OPERATOR)
        return not self.four_eyes and (is_operator or self.ask_in_client == "everybody")


Actions = Mapping[Role, Mapping[Risk, Action]]
"""What each risk means for each role."""

ASK_WHEN_HIGH: Final[Actions] = {
    role: {Risk.LOW: Action.ALLOW, Risk.MEDIUM: Action.ALLOW, Risk.HIGH: Action.ASK}
    for role in Role
}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is allowed in one organisation, or to those that have none."""

    deny: tuple[str, ...] = ()
    """Patterns `server/tool` of what nobody may call."""

    risks: tuple[tuple[str, Risk], ...] = ()
    """Patterns `server/tool` and their risk; the first that fits counts."""

    unknown_servers: Literal["trusted", "strict"] = "trusted"
    """Whether a tool that destroys, or may, is MEDIUM or HIGH when its server is not trusted."""

    trusted_servers: tuple[str, ...] = ()
    """Patterns of the servers that are trusted all the same."""

    actions: Actions = field(default_factory=lambda: ASK_WHEN_HIGH)
    approvals: ApprovalTerms = ApprovalTerms()
    pins: Literal["flag", "withhold"] = "flag"
    """What becomes of a tool whose definition has changed."""

    descriptions: Literal["flag", "withhold"] = "flag"
    """What becomes of a tool whose description may mislead a model."""

    audit_arguments: Literal["none", "redacted"] = "none"
    """Whether the audit has the arguments of calls."""

    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: NOTHING)
    """The tables `key`, `org` and `tool`, the last by pattern."""

    _decisions: dict[tuple[Any, ...], Decision] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    _risks: dict[tuple[str, str], tuple[Json, Mapping[str, str], Risk]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def risk(
        self,
        server: str,
        own: str,
        definition: Json,
        *,
        is_plugin: bool = False,
        configured: Mapping[str, str] = NOTHING,
    ) -> Risk:
        """
        The risk of a tool, by its server's and its own name.

        *configured* is `tools.risk` of the server in mcp.json. The same *definition* object gets
        the same answer without thinking: a definition that is changed has to be another object.
        """
        known = self._risks.get((server, own))
        if known is not None and known[0] is definition and known[1] is configured:
            return known[2]
        if len(self._risks) >= REMEMBERED:
            self._risks.clear()
        risk = self._assess(server, own, definition, is_plugin, configured)
        self._risks[server, own] = definition, configured, risk
        return risk

    def decide(self, principal: Principal, server: str, own: str, risk: Risk) -> Decision:
        """What becomes of a call of a tool, by its server's and its own name."""
        key = (principal.role, principal.scope, server, own, risk)
        known = self._decisions.get(key)
        if known is not None:
            return known
        if len(self._decisions) >= REMEMBERED:
            self._decisions.clear()
        decision = self._decisions[key] = self._judge(principal, server, own, risk)
        return decision

    def _assess(
        self,
        server: str,
        own: str,
        definition: Json,
        is_plugin: bool,
        configured: Mapping[str, str],
    ) -> Risk:
        named = first_fitting(self.risks, server, own) or configured_risk(configured, own)
        if named is not None:
            return named
        own_word = risk_of_meta(definition)
        if is_plugin:
            return own_word or risk_of_hints(definition, otherwise=Risk.MEDIUM)
        strict = self.unknown_servers == "strict" and not _is_named(server, self.trusted_servers)
        otherwise = Risk.HIGH if strict else Risk.MEDIUM
        return risk_of_hints(definition, otherwise=otherwise).or_higher(own_word)

    def _judge(self, principal: Principal, server: str, own: str, risk: Risk) -> Decision:
        if not principal.scope.permits(server, own):
            return Decision(Action.DENY, risk, "it is outside of what your key or token is for")
        if Scope(allow=self.deny).permits(server, own):
            return Decision(Action.DENY, risk, "the policy denies it to everybody")
        action = self.actions[principal.role][risk]
        role = principal.role.value
        if action is Action.DENY:
            return Decision(action, risk, f"its risk is {risk}, which the policy denies to {role}s")
        if action is Action.ASK:
            return Decision(action, risk, f"its risk is {risk}")
        return Decision(action, risk)


def _is_named(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


DEFAULT: Final = Policy()
"""Where nobody says anything: all is allowed, and nothing is HIGH unless somebody says so."""

UNREADABLE: Final = Policy(
    risks=(("*", Risk.HIGH),),
    unknown_servers="strict",
    actions={role: dict.fromkeys(Risk, Action.ASK) for role in Role},
    approvals=ApprovalTerms(ask_in_client="operators"),
    pins="withhold",
    descriptions="withhold",
)
"""Where somebody has said something that cannot be read: an operator has to approve every call."""

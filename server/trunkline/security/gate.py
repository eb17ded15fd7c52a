"""
What a call has to pass, in one place, and who is told of it.

    audit: is there room? ── policy ── limits ── a person's approval ── the call ── audit

Every step looks into memory, but for a call that a person has to approve. What is refused here has
not reached anybody.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from trunkline.models import Json, Principal
from trunkline.security.approvals.approvals import Approvals
from trunkline.security.audit.audit import Audit
from trunkline.security.audit.entries import Event
from trunkline.security.limits.limits import Limits
from trunkline.security.limits.results import LargeResults
from trunkline.security.policy.failures import PolicyDenied
from trunkline.security.policy.policies import Policies
from trunkline.security.policy.policy import Action, Decision
from trunkline.security.policy.risk import Risk


@dataclass(frozen=True, slots=True)
class Gate:
    """The checks, in the order in which a call meets them."""

    audit: Audit
    policies: Policies
    limits: Limits
    approvals: Approvals
    results: LargeResults

    def decide(
        self,
        principal: Principal,
        server: str,
        tool: str,
        definition: Json,
        *,
        is_plugin: bool,
        configured: Mapping[str, str],
    ) -> Decision:
        """What the policy says of a call of a tool. Raises `PolicyDenied`."""
        policy = self.policies.of(principal.org)
        risk = policy.risk(server, tool, definition, is_plugin=is_plugin, configured=configured)
        return _allowed(policy.decide(principal, server, tool, risk), server, tool)

    def decide_reading(self, principal: Principal, server: str, item: str) -> Decision:
        """The same of a prompt or a resource: it changes nothing. Raises `PolicyDenied`."""
        decision = self.policies.of(principal.org).decide(principal, server, item, Risk.LOW)
        return _allowed(decision, server, item)


class Record:
    """
    One request, from here to its end, for the audit.

    A context manager: what is raised within is entered as it is, and goes on.
    """

    __slots__ = ("_audit", "_began", "_values", "action", "principal", "result")

    def __init__(self, audit: Audit, action: str, principal: Principal, **values: Any) -> None:
        """*values* are those of an `Event`."""
        self._audit, self._values = audit, values
        self.action, self.principal = action, principal
        self.result: Json | None = None

    def __enter__(self) -> "Record":
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._audit.record(
            Event.ended(
                self.action,
                self.principal,
                result=self.result,
                error=error,
                seconds=time.perf_counter() - self._began,
                **self._values,
            )
        )


def _allowed(decision: Decision, server: str, item: str) -> Decision:
    if decision.action is Action.DENY:
        raise PolicyDenied(server, item, decision.reason)
    return decision

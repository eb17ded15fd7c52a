"""
What happens to approvals, told once: to the log, and to whoever keeps the audit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog

from trunkline.models import Principal

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalEvent:
    """Something that happened to an approval."""

    kind: Literal["requested", "approved", "denied", "used"]
    by: Principal
    """Who did it: the caller, or whoever decided."""

    server: str
    tool: str
    requester: str
    """The subject whose call it is."""

    id: str | None = None
    """The request; None if the person at the client answered."""


OnDecision = Callable[[ApprovalEvent], None]


def tell(event: ApprovalEvent, on_decision: OnDecision | None) -> None:
    """Leave a line in the log, and let *on_decision* know."""
    log.info(
        f"approval.{event.kind}",
        id=event.id,
        server=event.server,
        tool=event.tool,
        by=event.by.subject,
        requester=event.requester,
    )
    if on_decision is not None:
        on_decision(event)

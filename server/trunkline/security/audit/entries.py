"""
What happened, as it is told on the path of a call, and as it is written down behind it.

An `Event` is a handful of references: making one costs a microsecond. What takes longer (the hash
of the arguments, masking, the chain) is done later, over the very objects of the call, which nobody
changes after it has ended.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final, Self

from trunkline.cache.results import canonical
from trunkline.errors import Forbidden, TrunklineError
from trunkline.models import Json, Principal
from trunkline.security.audit.chain import Chain
from trunkline.security.audit.redaction import redacted
from trunkline.security.masking.masking import SECRETS
from trunkline.security.policy.failures import CallRefused
from trunkline.storage.repositories.audit import AuditRow, Outcome
from trunkline.storage.rows import to_text

LONGEST: Final = 500
"""Characters that are kept of one name or sentence. A client chooses some of them."""

CAUSES: Final = 8
"""Errors that are kept of one chain of causes."""

TICK: Final = timedelta(seconds=1)
"""How far the clock may be set back before a new chain begins."""


@dataclass(slots=True, kw_only=True)
class Event:
    """One thing that somebody did, or was refused."""

    action: str
    """A method of MCP, or what an administrator did: `tools/call`, `key.revoke`."""

    principal: Principal | None
    """Who; None if that could not be established."""

    outcome: Outcome = "ok"
    server: str | None = None
    own_name: str | None = None
    """What it was done to, by its server's own name or URI, or an id."""

    name: str | None = None
    """The name it was asked for by."""

    arguments: Json | None = None
    seconds: float | None = None
    code: str | None = None
    causes: tuple[tuple[str, str], ...] = ()
    """Codes and sentences, from what the client was told to what was behind it."""

    request: str | None = None
    face: str | None = None
    at: float = field(default_factory=time.time)
    """When it ended, as `time.time` has it."""

    @classmethod
    def ended(
        cls,
        action: str,
        principal: Principal | None,
        *,
        result: Json | None = None,
        error: BaseException | None = None,
        **values: Any,
    ) -> Self:
        """Something that has ended just now, with a result or an error."""
        event = cls(action=action, principal=principal, **values)
        if error is not None:
            event.outcome, event.code, event.causes = _read(error)
        elif result is not None and result.get("isError") is True:
            event.outcome, event.code = "tool_error", _code_in(result)
        return event


def outcome_of(error: BaseException) -> Outcome:
    """How something ended that raised. An error may say so itself, in `audit_outcome`."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, Forbidden | CallRefused):
        return "denied"
    return getattr(error, "audit_outcome", "failed")


class Entries:
    """Makes entries of events, in one process's chain."""

    def __init__(self, face: str, keeps_arguments: Callable[[str | None], bool]) -> None:
        """*face* is of events that do not say; *keeps_arguments* is asked by organisation."""
        self._face, self._keeps_arguments = face, keeps_arguments
        self._chain = Chain()
        self._latest: datetime | None = None

    def of(self, event: Event) -> AuditRow:
        """The entry of an event, which is to be written next."""
        principal, arguments = event.principal, event.arguments
        org = principal.org if principal is not None else None
        keeps = arguments is not None and self._keeps_arguments(org)
        at = self._moment(event.at)  # first of all: it may begin another chain
        return self._chain.add(
            at=at,
            action=_short(event.action) or "",
            outcome=event.outcome,
            face=event.face or self._face,
            request=_short(event.request),
            subject=_short(principal.subject) if principal is not None else None,
            user=_short(principal.user) if principal is not None else None,
            org=_short(org),
            role=str(principal.role) if principal is not None else None,
            server=_short(event.server),
            own_name=_shown(event.own_name),
            name=_shown(event.name),
            arguments_hash=_hash(arguments),
            arguments=redacted(arguments) if keeps else None,
            code=_short(event.code),
            duration_ms=round(event.seconds * 1000, 3) if event.seconds is not None else None,
            causes=[{"code": code, "reason": _shown(said) or ""} for code, said in event.causes]
            or None,
        )

    def _moment(self, seconds: float) -> datetime:
        """When it was. In a chain time does not go back; if the clock did, a new one begins."""
        at, latest = datetime.fromtimestamp(seconds, UTC), self._latest
        if latest is not None and at < latest:
            if latest - at <= TICK:
                return latest
            self._chain = Chain()
        self._latest = at
        return at


def _read(error: BaseException) -> tuple[Outcome, str, tuple[tuple[str, str], ...]]:
    code = error.code if isinstance(error, TrunklineError) else "unexpected"
    outcome = outcome_of(error)
    if outcome == "cancelled":
        return outcome, "cancelled", ()
    return outcome, code, _causes(error)


def _causes(error: BaseException) -> tuple[tuple[str, str], ...]:
    """The errors of ours in a chain of causes. Others' may say what is nobody's business."""
    found: list[tuple[str, str]] = []
    one: BaseException | None = error
    for _ in range(CAUSES):
        if one is None:
            break
        if isinstance(one, TrunklineError):
            found.append((one.code, str(one)[:LONGEST]))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return tuple(found)


def _code_in(result: Json) -> str | None:
    """The code that a result of the gateway's own carries."""
    meta = result.get("_meta")
    told = meta.get("trunkline/error") if isinstance(meta, dict) else None
    code = told.get("code") if isinstance(told, dict) else None
    return code if isinstance(code, str) else None


def _hash(arguments: Json | None) -> bytes | None:
    """What tells calls with other arguments apart. None for what no JSON can have been."""
    if arguments is None:
        return None
    try:
        return sha256(canonical(arguments)).digest()
    except (TypeError, ValueError, RecursionError):
        return None


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    return to_text(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def _shown(text: str | None) -> str | None:
    """What a client or a server chose, or repeats of what they said."""
    return _short(SECRETS.mask(text[: 2 * LONGEST])) if text is not None else None

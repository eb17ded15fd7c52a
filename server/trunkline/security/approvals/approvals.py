"""
The one place of a call that waits for a person, and may touch the database.

    require ─┬─ approved before ── used up ───────────────────────────> runs
             ├─ a client that can be asked ─┬─ yes ───────────────────> runs
             │                              └─ no ────────────────────> ApprovalDenied
             └─ otherwise ── a request is kept for an operator ───────> AuthorizationRequired

An approval is good for one call, by the same caller, of the same tool as it is defined now, with
exactly the same arguments, for a while. While the database is away clients are still asked; what
would have to be kept is refused.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import structlog

from trunkline.errors import RpcError, StorageError
from trunkline.models import Caller, Client, Json, Principal
from trunkline.security.approvals.events import ApprovalEvent, OnDecision, tell
from trunkline.security.approvals.questions import (
    ASK,
    RiskyCall,
    can_be_asked,
    digest_of,
    question_about,
    same_tool,
    shown,
    verdict_in,
)
from trunkline.security.policy.failures import (
    ApprovalDenied,
    ApprovalsFull,
    ApprovalUnavailable,
    AuthorizationRequired,
    PolicyDenied,
    ToolChanged,
)
from trunkline.security.policy.policies import Policies
from trunkline.security.policy.policy import Action, ApprovalTerms
from trunkline.storage.pool import Database
from trunkline.storage.repositories.approvals import ApprovalRepository, ApprovalRow, NewApproval
from trunkline.storage.rows import Org

log = structlog.get_logger(__name__)

T = TypeVar("T")

PATIENCE: Final = 5.0
"""Seconds the database may take over a request."""

MOST_PENDING: Final = 20
"""Requests of one caller that may wait for somebody at a time."""

MOST_ASKED: Final = 3
"""Questions of one caller that may be open in its client at a time; further calls are kept."""

STANDS: Final = 60.0
"""Seconds in which a call that was denied in the client is not asked about again."""

MOST_DENIED: Final = 10_000
"""Such calls that are remembered."""

ALPHABET: Final = "23456789abcdefghjkmnpqrstuvwxyz"
"""What ids are made of: nothing that could be read as something else."""


DefinitionOf = Callable[[str | None, str, str], Json | None]
"""Finds a tool by organisation, server and own name, as it is defined now; None if it is gone."""


@dataclass(frozen=True, slots=True)
class _Request:
    """A call on its way through `require`."""

    call: RiskyCall
    caller: Caller
    terms: ApprovalTerms
    digest: bytes
    principal: Principal
    may_ask: bool
    """Whether its client can be asked, and may decide."""


class Approvals:
    """Lets calls through that a person agrees to."""

    def __init__(
        self,
        database: Database,
        policies: Policies,
        scope: Callable[[str | None], Awaitable[Org]],
        *,
        definition_of: DefinitionOf | None = None,
        on_decision: OnDecision | None = None,
    ) -> None:
        """*scope* finds or makes an organisation's id by its name, and raises `StorageError`."""
        self._database, self._rows = database, ApprovalRepository(database)
        self._policies, self._scope = policies, scope
        self._definition_of, self._on_decision = definition_of, on_decision
        self._asked: Counter[str] = Counter()
        """How many questions are open, by subject."""

        self._denied: dict[bytes, float] = {}
        """What was denied in a client, and until when on the loop's clock that stands."""

    def asks(self, client: Client) -> bool:
        """Whether `require` may ask this client: of a modern one the call has to be held open."""
        principal = client.principal
        terms = self._policies.of(principal.org).approvals
        return can_be_asked(client) and terms.asks_in_client(principal)

    async def require(self, call: RiskyCall, caller: Caller) -> None:
        """
        Return once a person has agreed to a call; everything else raises a `CallRefused`.

        Raises `AuthorizationRequired` with the id of a request that somebody has to decide on,
        `ApprovalDenied`, `ApprovalsFull`, `ApprovalUnavailable`, and `ToolChanged` or
        `PolicyDenied` if that came to be while the person thought. Raises `InvalidArguments`.
        """
        principal = caller.client.principal
        terms = self._policies.of(principal.org).approvals
        digest = digest_of(principal, call)
        request = _Request(call, caller, terms, digest, principal, self.asks(caller.client))
        if await self._was_approved(request) or await self._agrees(request):
            return
        await self._keep(request)

    # -- what was decided before --------------------------------------------------------------

    async def _was_approved(self, request: _Request) -> bool:
        """Use up an approval, if there is one. Raises `ApprovalDenied` if there is a denial."""
        try:
            org = await self._stored(lambda: self._scope(request.principal.org))
            row = await self._stored(lambda: self._rows.take(org, request.digest))
        except ApprovalUnavailable:
            return False  # a client can be asked all the same; who cannot be is refused later
        return row is not None and self._use(row, request)

    def _use(self, row: ApprovalRow, request: _Request) -> bool:
        if row.state == "denied":
            raise ApprovalDenied(
                f"This call of {row.tool!r} was denied. It is not asked about again before "
                f"{row.expires_at.isoformat(timespec='seconds')}.",
                id=row.id,
            )
        self._tell("used", request, row.id)
        return True

    # -- in the client ------------------------------------------------------------------------

    async def _agrees(self, request: _Request) -> bool:
        """
        Ask the person at the client. False if they cannot be asked, or said neither yes nor no.

        Raises `ApprovalDenied` for a no.
        """
        subject = request.principal.subject
        if not request.may_ask or self._asked[subject] >= MOST_ASKED:
            return False
        self._refuse_again(request)
        self._asked[subject] += 1
        try:
            async with asyncio.timeout(request.terms.answer_within):
                answer = await request.caller.ask(ASK, question_about(request.call))
        except (RpcError, TimeoutError) as error:
            log.debug("approval.not_answered", subject=subject, error=type(error).__name__)
            return False
        finally:
            self._asked[subject] -= 1
            self._asked += Counter()  # forgets those that have none
        return self._heed(verdict_in(answer), request)

    def _heed(self, verdict: bool | None, request: _Request) -> bool:
        if verdict is None:
            return False
        self._tell("approved" if verdict else "denied", request, None)
        if not verdict:
            if len(self._denied) >= MOST_DENIED:
                self._denied.clear()
            self._denied[request.digest] = asyncio.get_running_loop().time() + STANDS
            raise _denied_here(request.call)
        self._require_unchanged(request)
        return True

    def _refuse_again(self, request: _Request) -> None:
        """A model that repeats itself must not wear the person down."""
        until = self._denied.get(request.digest, 0.0)
        if until > asyncio.get_running_loop().time():
            raise _denied_here(request.call)
        self._denied.pop(request.digest, None)

    def _require_unchanged(self, request: _Request) -> None:
        """What was agreed to is what runs: the person may have taken minutes."""
        call, principal = request.call, request.principal
        policy = self._policies.of(principal.org)
        decision = policy.decide(principal, call.server, call.tool, call.risk)
        if decision.action is Action.DENY:
            raise PolicyDenied(call.server, call.tool, decision.reason)
        if self._definition_of is None or call.method != "tools/call":
            return
        now = self._definition_of(principal.org, call.server, call.tool)
        if now is None or not same_tool(now, call.definition):
            raise ToolChanged(
                f"The tool {call.tool!r} of {call.server!r} has changed while a person was asked "
                f"about it. Nothing was run. Look at it again, and call it again."
            )

    # -- for an operator ----------------------------------------------------------------------

    async def _keep(self, request: _Request) -> None:
        """
        Keep a request for somebody to decide on, and raise what the caller is to know.

        Returns only if the call was approved in this very moment.
        """
        call, terms, principal = request.call, request.terms, request.principal
        new = NewApproval(
            id="".join(secrets.choice(ALPHABET) for _ in range(8)),
            call_hash=request.digest,
            subject=principal.subject,
            user=principal.user,
            server=call.server,
            tool=call.tool,
            arguments=shown(call.arguments),
            risk=call.risk,
            four_eyes=terms.four_eyes,
            valid_for=terms.valid_for,
            pending_for=terms.pending_for,
        )
        org = await self._stored(lambda: self._scope(principal.org))
        row = await self._stored(lambda: self._rows.put(org, new, most=MOST_PENDING))
        if row is None:
            raise ApprovalsFull(
                f"{MOST_PENDING} of your calls wait for a person already, and this one is not "
                f"added. Have those decided on first: `trunkline approvals` lists them."
            )
        if row.state != "pending" and await self._was_approved(request):
            return
        if row.id == new.id:
            self._tell("requested", request, row.id)
        raise AuthorizationRequired(
            row.id, call.server, call.tool, risk=call.risk, expires_at=row.expires_at
        )

    async def _stored(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something with the database, soon or not at all. Raises `ApprovalUnavailable`."""
        reason: Exception | None = self._database.reason
        if reason is None:
            try:
                async with asyncio.timeout(PATIENCE):
                    return await work()
            except (StorageError, TimeoutError) as error:
                reason = error
        log.warning("approval.not_stored", reason=str(reason) or "too slow")
        raise ApprovalUnavailable(
            "This call needs a person's approval, and the database in which requests are kept does "
            "not answer. Nothing was run. Try again in a while."
        ) from reason

    def _tell(
        self,
        kind: Literal["requested", "approved", "denied", "used"],
        request: _Request,
        id_: str | None,
    ) -> None:
        call, principal = request.call, request.principal
        event = ApprovalEvent(
            kind=kind,
            by=principal,
            server=call.server,
            tool=call.tool,
            requester=principal.subject,
            id=id_,
        )
        tell(event, self._on_decision)


def _denied_here(call: RiskyCall) -> ApprovalDenied:
    return ApprovalDenied(
        f"The person at the client has denied this call of {call.tool!r} of {call.server!r}. "
        f"Do not repeat it; ask them what they want instead."
    )

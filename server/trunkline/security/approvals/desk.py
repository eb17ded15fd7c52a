"""
Where people decide on calls that wait for them: behind the command line, the API, the console.

An operator sees and decides what belongs to the own organisation, a global administrator all of it.
What somebody may not see is for them as if it did not exist.
"""

from collections.abc import Callable
from typing import Literal

from trunkline.models import Principal, Role
from trunkline.security.approvals.events import ApprovalEvent, OnDecision, tell
from trunkline.security.policy.failures import (
    ApprovalError,
    ApprovalForbidden,
    ApprovalNotFound,
    ApprovalSettled,
)
from trunkline.storage.pool import Source
from trunkline.storage.repositories.approvals import ApprovalRepository, ApprovalRow
from trunkline.storage.rows import Org


class ApprovalDesk:
    """The requests, for one who may decide. Every method raises `StorageError`."""

    def __init__(
        self,
        database: Source,
        scope: Callable[[str | None], Org],
        *,
        on_decision: OnDecision | None = None,
    ) -> None:
        """*scope* finds an organisation's id by its name, and raises `OrgNotFound`."""
        self._rows, self._scope = ApprovalRepository(database), scope
        self._on_decision = on_decision

    async def list_open(self, principal: Principal, *, over: bool = False) -> list[ApprovalRow]:
        """
        What waits for a decision, oldest first; with *over* also what became of the rest.

        Raises `ApprovalForbidden`.
        """
        org = self._scope_of(principal)
        return await self._rows.list_scope(org, everywhere=principal.is_global, over=over)

    async def approve(self, principal: Principal, id_: str) -> ApprovalRow:
        """
        Let a call run, once, if it is repeated in time.

        Raises `ApprovalForbidden`, `ApprovalNotFound`, `ApprovalSettled`.
        """
        org, id_ = self._scope_of(principal), _clean(id_)
        row = await self._rows.approve(
            org, id_, by=principal.subject, user=principal.user, everywhere=principal.is_global
        )
        if row is None:
            raise await self._why_not(principal, id_, "approve")
        self._tell("approved", principal, row)
        return row

    async def deny(self, principal: Principal, id_: str) -> ApprovalRow:
        """Let a call not run, be it pending, or approved and not used yet. Raises likewise."""
        org, id_ = self._scope_of(principal), _clean(id_)
        row = await self._rows.deny(org, id_, by=principal.subject, everywhere=principal.is_global)
        if row is None:
            raise await self._why_not(principal, id_, "deny")
        self._tell("denied", principal, row)
        return row

    def _scope_of(self, principal: Principal) -> Org:
        """Whose requests somebody decides on. Raises `ApprovalForbidden` if nobody's."""
        if not principal.role.includes(Role.OPERATOR):
            raise ApprovalForbidden(
                "Only operators and administrators see and decide on what waits for approval. "
                "Ask one of your organisation."
            )
        return self._scope(principal.org)

    async def _why_not(
        self, principal: Principal, id_: str, deed: Literal["approve", "deny"]
    ) -> ApprovalError:
        row = await self._rows.find(self._scope(principal.org), id_, everywhere=principal.is_global)
        if row is None:
            return ApprovalNotFound(
                f"There is no request {id_[:40]!r}. `trunkline approvals` lists those there are."
            )
        is_own = principal.subject == row.subject or (row.user and principal.user == row.user)
        if deed == "approve" and row.state == "pending" and row.four_eyes and is_own:
            return ApprovalForbidden(
                f"{row.id} is your own call, and the policy wants somebody else to approve it."
            )
        was = "has expired" if row.state == "expired" else f"is {row.state} already"
        return ApprovalSettled(f"The request {row.id} {was}. If it is still wanted, call again.")

    def _tell(
        self, kind: Literal["approved", "denied"], principal: Principal, row: ApprovalRow
    ) -> None:
        event = ApprovalEvent(
            kind=kind,
            by=principal,
            server=row.server,
            tool=row.tool,
            requester=row.subject,
            id=row.id,
        )
        tell(event, self._on_decision)


def _clean(id_: str) -> str:
    return id_.strip().lower()

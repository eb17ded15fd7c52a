"""Approvals: calls that wait for a person, and deciding on them."""

from datetime import UTC, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel
from starlette.requests import Request

from trunkline.api.asking import On, Operator
from trunkline.api.backing import Backing
from trunkline.api.paging import Cursor, Key, Limit, Page, after, page
from trunkline.api.routes import Operation, tell_target
from trunkline.errors import OrgNotFound
from trunkline.models import Principal
from trunkline.security.approvals.desk import ApprovalDesk
from trunkline.security.policy.failures import ApprovalNotFound
from trunkline.storage.repositories.approvals import (
    ApprovalRepository,
    ApprovalRow,
    ApprovalState,
)

router = APIRouter(tags=["approvals"], route_class=Operation)

Id = Annotated[str, Path(description="The request's id.")]


class ApprovalShown(BaseModel):
    """A call that somebody has to agree to."""

    id: str
    org: str | None
    subject: str
    """Whose call it is."""

    user: str | None
    server: str
    tool: str
    arguments: str
    """Shortened, and without what looks secret."""

    risk: str
    state: ApprovalState
    four_eyes: bool
    """Whether somebody else than its caller has to approve it."""

    created_at: datetime
    expires_at: datetime
    """Until when it waits; of one that was decided on, until when that counts."""

    decided_by: str | None
    decided_at: datetime | None
    used_at: datetime | None

    @classmethod
    def of(cls, row: ApprovalRow) -> Self:
        return cls(
            id=row.id,
            org=row.org,
            subject=row.subject,
            user=row.user,
            server=row.server,
            tool=row.tool,
            arguments=row.arguments,
            risk=row.risk,
            state=_state(row),
            four_eyes=row.four_eyes,
            created_at=row.created_at,
            expires_at=row.expires_at,
            decided_by=row.decided_by,
            decided_at=row.decided_at,
            used_at=row.used_at,
        )


@router.get("/approvals", operation_id="approval.list", summary="List calls to be approved")
async def list_all(
    principal: Operator,
    on: On,
    state: Annotated[
        ApprovalState | None, Query(description="Only those; otherwise all of the last week.")
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[ApprovalShown]:
    """Those of your organisation, the oldest first; of every one, if you belong to none."""
    try:
        desk = await _desk(on, principal)
    except OrgNotFound:
        return Page(items=[])
    rows = await desk.list_open(principal, over=state != "pending")
    fitting = [row for row in rows if state in (None, _state(row))]
    found, following = page(after(fitting, _place, cursor), _place, limit)
    return Page(items=[ApprovalShown.of(row) for row in found], next=following)


@router.get("/approvals/{approval:segment}", operation_id="approval.show", summary="Look at a call")
async def show(approval: Id, principal: Operator, on: On) -> ApprovalShown:
    """What somebody wants to do, and what became of that."""
    org = await on.scope_of(principal.org)
    rows = ApprovalRepository(on.database)
    row = await rows.find(org, approval, everywhere=principal.is_global)
    if row is None:
        raise ApprovalNotFound(
            f"There is no request {approval[:40]!r}. /api/v1/approvals lists those there are."
        )
    return ApprovalShown.of(row)


@router.post(
    "/approvals/{approval:segment}/approve",
    operation_id="approval.approve",
    summary="Let a call run",
)
async def approve(approval: Id, principal: Operator, on: On, request: Request) -> ApprovalShown:
    """Once, with the arguments it had, if its caller repeats it in time."""
    row = await (await _desk(on, principal)).approve(principal, approval)
    return _decided(row, request)


@router.post(
    "/approvals/{approval:segment}/deny",
    operation_id="approval.deny",
    summary="Let a call not run",
)
async def deny(approval: Id, principal: Operator, on: On, request: Request) -> ApprovalShown:
    """An approval that was not used yet is taken back."""
    row = await (await _desk(on, principal)).deny(principal, approval)
    return _decided(row, request)


def _decided(row: ApprovalRow, request: Request) -> ApprovalShown:
    """The audit is told what it was about: the row is gone in a week."""
    tell_target(request, server=row.server, own_name=row.tool, name=row.id)
    return ApprovalShown.of(row)


async def _desk(on: Backing, principal: Principal) -> ApprovalDesk:
    """Where somebody decides. Raises `OrgNotFound` if their organisation has nothing yet."""
    org = await on.scope_of(principal.org)
    return ApprovalDesk(on.database, lambda _: org)


def _state(row: ApprovalRow) -> ApprovalState:
    """What a request is now: nobody writes down that its time has come."""
    is_waiting = row.state in ("pending", "approved")
    return "expired" if is_waiting and row.expires_at <= datetime.now(UTC) else row.state


def _place(row: ApprovalRow) -> Key:
    return row.created_at.astimezone(UTC).isoformat(timespec="microseconds"), row.id

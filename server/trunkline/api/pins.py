"""
Pins: what tools were when they were accepted, and whether they may be what they are.

An organisation looks at its own and at everybody's, and decides on its own. A tool is named as its
server names it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from trunkline.api.asking import On, Operator
from trunkline.api.backing import Backing
from trunkline.api.paging import Cursor, Key, Limit, Page, after, page
from trunkline.api.routes import Operation, check_unchanged, tag_of, tell_target
from trunkline.errors import Forbidden, OrgNotFound
from trunkline.models import Principal
from trunkline.security.pins.judgement import State
from trunkline.security.pins.review import Case, PinNotFound
from trunkline.security.pins.scan_rules import Severity
from trunkline.storage.repositories.pins import PinRepository, PinRow

router = APIRouter(tags=["pins"], route_class=Operation)

Server = Annotated[str, Path(description="The server's name.")]
Tool = Annotated[str, Path(description="The server's own name of the tool.")]

Owned = tuple[str | None, PinRow]
"""A pin, and whose it is."""


class FindingShown(BaseModel):
    """Something in a definition that somebody should read."""

    kind: str
    severity: str
    where: str
    excerpt: str
    why: str


class PinShown(BaseModel):
    """A tool, and what it was when it was accepted."""

    server: str
    tool: str
    org: str | None
    """Whose server it is; null for everybody's."""

    state: State
    since: datetime
    hash: str
    """Of what it is now: what is accepted by accepting."""

    accepted_by: str | None
    """null: it was taken as it was first seen."""

    open: bool
    """Whether somebody should look at it."""

    findings: Sequence[FindingShown]

    @classmethod
    def of(cls, case: Case, **more: Any) -> Self:
        return cls(
            server=case.server,
            tool=case.tool,
            org=case.org,
            state=case.state,
            since=case.since,
            hash=case.hash,
            accepted_by=case.accepted_by,
            open=case.is_open,
            findings=[
                FindingShown(
                    kind=one.kind,
                    severity=Severity(one.severity).name.lower(),
                    where=one.where,
                    excerpt=one.excerpt,
                    why=one.why,
                )
                for one in case.findings
            ],
            **more,
        )


class PinRead(PinShown):
    """The same, to be read before it is accepted."""

    text: str
    """What has changed, line by line; of a tool that has not, all of it."""


class LookedAt(BaseModel):
    """What somebody agrees to."""

    model_config = ConfigDict(extra="forbid")

    hash: Annotated[
        str,
        Field(
            pattern="^[0-9a-fA-F]{16,64}$",
            description="`hash` of what you have looked at, or its first digits, 16 at least.",
        ),
    ]


@router.get("/pins", operation_id="pin.list", summary="List tools and whether they have changed")
async def list_all(
    principal: Operator,
    on: On,
    changed: Annotated[
        bool | None, Query(description="Only those that have changed, or have not.")
    ] = None,
    open: Annotated[  # noqa: A002 - its name there
        bool | None, Query(description="Only those that somebody should look at, or need not.")
    ] = None,
    server: Annotated[str | None, Query(max_length=255, description="Only of this server.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[PinShown]:
    """Those of your organisation and everybody's, by server and tool."""
    rows = [
        (org, row)
        for org, row in await _rows(on, principal)
        if server in (None, row.server) and changed in (None, row.pending is not None)
    ]

    def cases() -> Iterator[Case]:
        for org, row in after(rows, _place, cursor):
            case = on.case_of(org, row)
            if open in (None, case.is_open):
                yield case

    # Each one is scanned anew, half a millisecond or so: in a thread, so that calls go on.
    found, following = await asyncio.to_thread(lambda: page(cases(), _place_of, limit))
    return Page(items=[PinShown.of(case) for case in found], next=following)


@router.get(
    "/pins/{server:segment}/{tool:segment}",
    operation_id="pin.show",
    summary="Look at a tool",
    response_model=PinRead,
)
async def show(server: Server, tool: Tool, principal: Operator, on: On) -> Response:
    """What it is now, and what has changed since it was accepted."""
    case = await _case(on, principal, server, tool)
    return Response(_body(case), media_type="application/json")


@router.post(
    "/pins/{server:segment}/{tool:segment}/accept",
    operation_id="pin.accept",
    summary="Accept a tool as it is",
)
async def accept(
    server: Server, tool: Tool, looked_at: LookedAt, principal: Operator, on: On, request: Request
) -> PinShown:
    """
    Nothing is accepted but what was looked at: what has this hash.

    With the tag of what was looked at in `If-Match`, it has to be the same in every other respect
    as well.
    """
    tell_target(request, arguments=looked_at.model_dump())
    case = await _case(on, principal, server, tool)
    if case.org != principal.org:
        raise Forbidden(
            f"The server {server[:64]!r} belongs to everybody. Only somebody who belongs to no "
            "organisation can accept its tools."
        )
    check_unchanged(request, tag_of(_body(case)))
    hash_, by = looked_at.hash, principal.subject
    await on.review.accept(case.org, case.server, case.tool, hash_, by=by)
    return PinShown.of(await on.review.case(case.org, case.server, case.tool))


async def _rows(on: Backing, principal: Principal) -> list[Owned]:
    """The pins that somebody may look at."""
    pins, found = PinRepository(on.database), list[Owned]()
    for org in dict.fromkeys((principal.org, None)):
        try:
            scope = await on.scope_of(org)
        except OrgNotFound:
            continue
        found += [(org, row) for row in await pins.list_scope(scope)]
    return found


async def _case(on: Backing, principal: Principal, server: str, tool: str) -> Case:
    """One of them; the own one comes before everybody's. Raises `PinNotFound`."""
    for org in dict.fromkeys((principal.org, None)):
        try:
            return await on.review.case(org, server, tool)
        except (PinNotFound, OrgNotFound):
            continue
    raise PinNotFound(f"{server}/{tool}")


def _body(case: Case) -> bytes:
    return PinRead.of(case, text=case.text).model_dump_json().encode()


def _place(owned: Owned) -> Key:
    org, row = owned
    return row.server, row.own_name, org or ""


def _place_of(case: Case) -> Key:
    return case.server, case.tool, case.org or ""

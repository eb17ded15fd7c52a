"""The audit: who did what, the newest first."""

from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel

from trunkline.api.asking import Admin, On
from trunkline.api.paging import Cursor, Limit, Page, read_cursor, to_cursor
from trunkline.api.routes import Operation
from trunkline.errors import Forbidden, InvalidArguments
from trunkline.models import Principal
from trunkline.security.audit.chain import as_shown
from trunkline.storage.repositories.audit import AuditEntries, AuditFilter, Outcome

router = APIRouter(tags=["audit"], route_class=Operation)

FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)

Pattern = Annotated[str | None, Query(max_length=500)]


class AuditEntry(BaseModel):
    """One thing that somebody did, or was refused."""

    id: int
    at: datetime
    action: str
    """A method of MCP, or what was done here: `key.revoke`."""

    outcome: Outcome
    code: str | None = None
    subject: str | None = None
    user: str | None = None
    org: str | None = None
    role: str | None = None
    face: str
    request: str | None = None
    server: str | None = None
    own_name: str | None = None
    """What it was done to, by its server's own name or URI, or an id."""

    name: str | None = None
    arguments_hash: str | None = None
    arguments: object = None
    """Only if the policy keeps them, and without what looks secret."""

    duration_ms: float | None = None
    causes: list[dict[str, str]] | None = None
    chain: str
    place: int
    hash: str
    """Over the entry before it in its chain and everything in this one."""


@router.get("/audit", operation_id="audit.list", summary="Who did what?")
async def list_all(
    principal: Admin,
    on: On,
    who: Annotated[Pattern, Query(description="A credential or a user; * is anything.")] = None,
    what: Annotated[
        Pattern, Query(description="An action, a name, or SERVER/ITEM; * is anything.")
    ] = None,
    outcome: Annotated[Outcome | None, Query(description="How it ended.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Nothing that is older.")] = None,
    org: Annotated[
        str | None,
        Query(max_length=255, description="Of every organisation's, only what is this one's."),
    ] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Page[AuditEntry]:
    """What happened in your organisation, the newest first; everywhere, if you belong to none."""
    wanted = AuditFilter(
        who=who, what=what, outcome=outcome, since=_moment(since), before=_id(cursor)
    )
    rows = await AuditEntries(on.database).find(_org(principal, org), wanted, limit + 1)
    rows.reverse()
    following = to_cursor((str(rows[limit - 1].id),)) if len(rows) > limit else None
    items = [AuditEntry.model_validate(as_shown(row)) for row in rows[:limit]]
    return Page(items=items, next=following)


def _org(principal: Principal, wanted: str | None) -> str | None:
    """Whose entries are looked at. Raises `Forbidden`."""
    if principal.org is not None and wanted not in (None, principal.org):
        raise Forbidden("You can only see what was done in your own organisation.")
    return principal.org or wanted


def _id(cursor: str | None) -> int | None:
    """The entry that all are to be older than. Raises `InvalidArguments`."""
    if cursor is None:
        return None
    match read_cursor(cursor):
        case (number,) if number.isascii() and number.isdigit() and len(number) <= 18:
            return int(number)
        case _:
            raise InvalidArguments("The cursor is none of this list's.")


def _moment(since: datetime | None) -> datetime | None:
    if since is not None and not FIRST <= since < LAST:
        raise InvalidArguments("since has to be a time between 1970 and 9999.")
    return since

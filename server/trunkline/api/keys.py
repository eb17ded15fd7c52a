"""
Keys: who has one, and having them made, revoked and given another secret.

A secret is in the answer that it is made for, and nowhere else: neither in a list nor in the log.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Annotated, Final, Literal, Self

from fastapi import APIRouter, Path
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from trunkline.api.asking import Admin, On
from trunkline.api.backing import Backing
from trunkline.api.granting import check_within
from trunkline.api.paging import Cursor, Key, Limit, Page, after, page
from trunkline.api.routes import Operation, tell_target
from trunkline.errors import InvalidArguments, OrgNotFound
from trunkline.models import Principal, Role, Scope
from trunkline.security.identity.keys import make_secret
from trunkline.storage.repositories.keys import AllKeys, KeyNotFound, KeyRepository, KeyRow, NewKey
from trunkline.storage.repositories.orgs import OrgRepository

router = APIRouter(tags=["keys"], route_class=Operation)

GRACE: Final = 86_400
"""Seconds that the secret before a rotation is good, if nothing else is said."""

LAST: Final = datetime(9999, 1, 1, tzinfo=UTC)

Id = Annotated[str, Path(description="The key's id.")]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Pattern = Annotated[str, Field(min_length=1, max_length=1_000)]
Patterns = Annotated[list[Pattern], Field(max_length=200)]


class KeyWanted(BaseModel):
    """A key that is to be."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    org: Annotated[
        Name | None, Field(description="The organisation it acts in. Yours, if you have one.")
    ] = None
    user: Annotated[Name | None, Field(description="The person who will hold it.")] = None
    role: Role = Role.USER
    allow: Annotated[
        Patterns | None,
        Field(
            description="Patterns SERVER or SERVER/ITEM of what it may use. Else what you may.",
            examples=[["github/*"]],
        ),
    ] = None
    deny: Annotated[
        Patterns, Field(description="What it may not use. What you may not is added.")
    ] = []
    orgs: Annotated[
        list[Name], Field(max_length=200, description="What X-Organization-Id may name.")
    ] = []
    expires_at: AwareDatetime | None = None

    def principal(self, giver: Principal) -> Principal:
        """Whoever comes in with it."""
        return Principal(
            subject="key",
            org=self.org or giver.org,
            user=self.user,
            role=self.role,
            scope=Scope(
                tuple(giver.scope.allow if self.allow is None else self.allow),
                tuple(dict.fromkeys((*self.deny, *giver.scope.deny))),
            ),
            orgs=frozenset(self.orgs),
        )


class Rotation(BaseModel):
    """How a key gets another secret."""

    model_config = ConfigDict(extra="forbid")

    grace_seconds: Annotated[
        int,
        Field(ge=0, le=366 * 86_400, description="How long the secret before is good; 0 ends it."),
    ] = GRACE


class KeyShown(BaseModel):
    """A key, without anything that lets somebody in."""

    id: str
    name: str
    org: str | None
    user: str | None
    role: Role
    allow: Sequence[str]
    deny: Sequence[str]
    orgs: Sequence[str]
    state: Literal["good", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    old_secret_until: datetime | None
    """Until when the secret before the last rotation is good."""

    @classmethod
    def of(cls, row: KeyRow) -> Self:
        return cls(
            id=row.id,
            name=row.name,
            org=row.org,
            user=row.user,
            role=row.role,
            allow=row.allow,
            deny=row.deny,
            orgs=row.orgs,
            state=_state(row),
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
            old_secret_until=row.old_until,
        )


class KeyMade(BaseModel):
    """A key, and the only time that its secret is told."""

    key: KeyShown
    secret: Annotated[
        str, Field(description="To be sent as `Authorization: Bearer ...`. Keep it now.")
    ]


@router.get("/keys", operation_id="key.list", summary="List keys")
async def list_all(
    principal: Admin, on: On, limit: Limit = 100, cursor: Cursor = None
) -> Page[KeyShown]:
    """All your organisation ever had, the oldest first; all there are, if you belong to none."""
    found, following = page(after(await _rows(on, principal), _place, cursor), _place, limit)
    return Page(items=[KeyShown.of(row) for row in found], next=following)


@router.post(
    "/keys", operation_id="key.create", summary="Make a key", status_code=HTTPStatus.CREATED
)
async def create(
    wanted: KeyWanted, principal: Admin, on: On, request: Request, response: Response
) -> KeyMade:
    """It can do nothing that you cannot, and its secret is in this answer and nowhere else."""
    secret = make_secret()
    tell_target(
        request, own_name=secret.id, name=wanted.name, arguments=wanted.model_dump(mode="json")
    )
    given = wanted.principal(principal)
    check_within(principal, given)
    _check_expiry(wanted.expires_at)
    orgs = OrgRepository(on.database)
    org = None if given.org is None else await orgs.put(given.org)
    for name in sorted(given.orgs):
        await orgs.put(name)
    new = NewKey(
        name=wanted.name,
        user=given.user,
        role=given.role,
        allow=given.scope.allow,
        deny=given.scope.deny,
        orgs=sorted(given.orgs),
        expires_at=wanted.expires_at,
    )
    row = await KeyRepository(on.database).add(org, secret.id, secret.hash, new)
    response.headers["cache-control"] = "no-store"
    return KeyMade(key=KeyShown.of(row), secret=secret.key)


@router.delete(
    "/keys/{key:segment}",
    operation_id="key.revoke",
    summary="Revoke a key",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
)
async def revoke(key: Id, principal: Admin, on: On) -> None:
    """Nobody comes in with it any more, and streams that were opened with it are closed."""
    row = await _row(on, principal, key)
    await KeyRepository(on.database).revoke(row.org_id, row.id)


@router.post("/keys/{key:segment}/rotate", operation_id="key.rotate", summary="Rotate a key")
async def rotate(
    key: Id,
    principal: Admin,
    on: On,
    request: Request,
    response: Response,
    how: Rotation | None = None,
) -> KeyMade:
    """Give it a new secret, which is in this answer and nowhere else. All else about it stays."""
    how = how or Rotation()
    tell_target(request, arguments=how.model_dump())
    row = await _row(on, principal, key)
    check_within(principal, _holder(row))
    secret, grace = make_secret(row.id), timedelta(seconds=how.grace_seconds)
    row = await KeyRepository(on.database).rotate(row.org_id, row.id, secret.hash, grace=grace)
    response.headers["cache-control"] = "no-store"
    return KeyMade(key=KeyShown.of(row), secret=secret.key)


async def _rows(on: Backing, principal: Principal) -> list[KeyRow]:
    """The keys that somebody administers."""
    if principal.is_global:
        return await AllKeys(on.database).list_all()
    try:
        return await KeyRepository(on.database).list_scope(await on.scope_of(principal.org))
    except OrgNotFound:
        return []


async def _row(on: Backing, principal: Principal, key_id: str) -> KeyRow:
    """One of them that was not revoked. Raises `KeyNotFound`."""
    for row in await _rows(on, principal):
        if row.id == key_id and row.revoked_at is None:
            return row
    raise KeyNotFound(key_id)


def _holder(row: KeyRow) -> Principal:
    """Whoever comes in with a key."""
    scope, orgs = Scope(row.allow, row.deny), frozenset(row.orgs)
    return Principal(
        subject=f"key:{row.id}", org=row.org, user=row.user, role=row.role, scope=scope, orgs=orgs
    )


def _check_expiry(moment: datetime | None) -> None:
    if moment is not None and not datetime.now(UTC) < moment < LAST:
        raise InvalidArguments("expires_at has to be in the future, and before the year 9999.")


def _state(row: KeyRow) -> Literal["good", "expired", "revoked"]:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at and row.expires_at <= datetime.now(UTC) else "good"


def _place(row: KeyRow) -> Key:
    return row.created_at.astimezone(UTC).isoformat(timespec="microseconds"), row.id

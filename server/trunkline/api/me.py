"""GET /me: who somebody is here, and what they may do."""

from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel

from trunkline.api.asking import Anybody
from trunkline.api.routes import Operation
from trunkline.models import Principal, Role, Scope

router = APIRouter(tags=["me"], route_class=Operation)


class ScopeShown(BaseModel):
    """What somebody may see and use, as patterns SERVER or SERVER/ITEM."""

    allow: list[str]
    deny: list[str]

    @classmethod
    def of(cls, scope: Scope) -> Self:
        return cls(allow=list(scope.allow), deny=list(scope.deny))


class Me(BaseModel):
    """Who asks."""

    subject: str
    org: str | None
    """The organisation that is acted in; null for none."""

    user: str | None
    role: Role
    scope: ScopeShown
    orgs: list[str]
    """What `X-Organization-Id` may name."""

    @classmethod
    def of(cls, principal: Principal) -> Self:
        return cls(
            subject=principal.subject,
            org=principal.org,
            user=principal.user,
            role=principal.role,
            scope=ScopeShown.of(principal.scope),
            orgs=sorted(principal.orgs),
        )


@router.get("/me", operation_id="me.show", summary="Who am I?")
async def show(principal: Anybody) -> Me:
    """Who your key or token says you are, and what it lets you do."""
    return Me.of(principal)

"""Who asks, and whether they may: what every route begins with."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from trunkline.api.backing import Backing
from trunkline.catalog.administration import require
from trunkline.models import PRINCIPAL, Principal, Role


def principal_of(request: Request) -> Principal:
    """Who sent a request. The door has seen to it that this is known."""
    return request.scope[PRINCIPAL]


def backing_of(request: Request) -> Backing:
    """What the application stands on."""
    return request.app.state.backing


async def _anybody(request: Request) -> Principal:
    return principal_of(request)


def _at_least(role: Role) -> Callable[[Request], Awaitable[Principal]]:
    """Lets nobody pass who is less. Raises `Forbidden`."""

    async def asked(request: Request) -> Principal:
        principal = principal_of(request)
        require(principal, role)
        return principal

    return asked


async def _backing(request: Request) -> Backing:
    return backing_of(request)


Anybody = Annotated[Principal, Depends(_anybody)]
Operator = Annotated[Principal, Depends(_at_least(Role.OPERATOR))]
Admin = Annotated[Principal, Depends(_at_least(Role.ADMIN))]
On = Annotated[Backing, Depends(_backing)]
"""What the API stands on."""

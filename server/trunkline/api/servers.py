"""Servers: how they are, and having them added, removed, connected and disconnected."""

from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Self
from urllib.parse import quote

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from trunkline.api.asking import Admin, On, Operator
from trunkline.api.paging import Cursor, Key, Limit, Page, after, page
from trunkline.api.routes import Operation, tell_target
from trunkline.catalog.reports import ServerReport
from trunkline.models import State

router = APIRouter(tags=["servers"], route_class=Operation)

Server = Annotated[str, Path(description="The server's name.")]


class NewServer(BaseModel):
    """A server to be added, or changed."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=255)]
    config: Annotated[
        dict[str, Any],
        Field(
            description="As in mcp.json under its name. `org` is not part of it: it belongs to the "
            "organisation of whoever adds it.",
            examples=[{"url": "https://mcp.example.com/mcp"}],
        ),
    ]


class ServerShown(BaseModel):
    """How a server or a plugin is."""

    name: str
    org: str | None
    """Whose it is; null for everybody's."""

    kind: str
    """`stdio`, `sse`, `streamable-http` or `plugin`; "" if it cannot be used at all."""

    state: State
    origin: str | None
    """Where it was named: `file`, `api` or `plugin`."""

    reason: str
    last_error: str | None
    next_try: datetime | None
    tools: int
    prompts: int
    resources: int
    problems: Sequence[str]
    """What was left out, renamed or mended of what it offers."""

    @classmethod
    def of(cls, report: ServerReport) -> Self:
        return cls(
            name=report.name,
            org=report.org,
            kind=report.kind,
            state=report.state,
            origin=report.origin,
            reason=report.reason,
            last_error=report.last_error,
            next_try=report.next_try,
            tools=report.tools,
            prompts=report.prompts,
            resources=report.resources,
            problems=report.problems,
        )


@router.get("/servers", operation_id="server.list", summary="List servers and plugins")
async def list_all(
    principal: Operator, on: On, limit: Limit = 100, cursor: Cursor = None
) -> Page[ServerShown]:
    """Those of your organisation and everybody's, by name."""
    reports = after(on.administration.list_all(principal), _place, cursor)
    found, following = page(reports, _place, limit)
    return Page(items=[ServerShown.of(report) for report in found], next=following)


@router.post(
    "/servers",
    operation_id="server.add",
    summary="Add a server, or change one",
    status_code=HTTPStatus.CREATED,
)
async def add(
    new: NewServer, principal: Admin, on: On, request: Request, response: Response
) -> ServerShown:
    """
    It is kept, connected to, and its tools are there at once.

    The name of a server that was added before changes that one.
    """
    tell_target(request, server=new.name)
    report = await on.administration.add(principal, new.name, new.config)
    response.headers["location"] = f"{request.url.path}/{quote(report.name, safe='')}"
    return ServerShown.of(report)


@router.get("/servers/{server:segment}", operation_id="server.show", summary="How is a server?")
async def show(server: Server, principal: Operator, on: On) -> ServerShown:
    """Its state, why, when it is tried next, and what was left out."""
    return ServerShown.of(on.administration.status(principal, server))


@router.delete(
    "/servers/{server:segment}",
    operation_id="server.remove",
    summary="Remove a server",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
)
async def remove(server: Server, principal: Admin, on: On) -> None:
    """One that was added, with all of its tools. What is in mcp.json is removed there."""
    await on.administration.remove(principal, server)


@router.post(
    "/servers/{server:segment}/connect", operation_id="server.connect", summary="Connect a server"
)
async def connect(server: Server, principal: Operator, on: On) -> ServerShown:
    """Connect to one that was disconnected, and list its tools again."""
    return ServerShown.of(await on.administration.switch(principal, server, on=True))


@router.post(
    "/servers/{server:segment}/disconnect",
    operation_id="server.disconnect",
    summary="Disconnect a server",
)
async def disconnect(server: Server, principal: Operator, on: On) -> ServerShown:
    """Disconnect one, and take its tools off the lists until it is connected again."""
    return ServerShown.of(await on.administration.switch(principal, server, on=False))


def _place(report: ServerReport) -> Key:
    # A plugin that could not be loaded may have the name of one that could.
    return report.name, report.org or "", report.kind, report.reason

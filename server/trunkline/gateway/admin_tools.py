"""
The gateway's own tools: servers added, removed, connected, disconnected and looked at over MCP.

They are offered to whoever may administer. What they answer is written for a model to read, and
structured for a program.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from trunkline.catalog.administration import Administration
from trunkline.catalog.reports import ServerReport
from trunkline.catalog.view import View
from trunkline.errors import TrunklineError
from trunkline.gateway.arguments import checked
from trunkline.gateway.exposure import Exposure
from trunkline.gateway.shape import tool_failure, tool_result
from trunkline.models import Caller, Client, Json, Principal, Role

Name = Annotated[str, Field(description="The server's name.", min_length=1, max_length=255)]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NoArguments(_Arguments):
    """Nothing."""


class OneServer(_Arguments):
    """Which server is meant."""

    name: Name


class NewServer(_Arguments):
    """A server, in the words of mcp.json."""

    name: Annotated[
        str,
        Field(
            description="What to call it; its tools get this as their prefix.",
            min_length=1,
            max_length=255,
        ),
    ]
    url: Annotated[str | None, Field(description="The URL of a server that is running.")] = None
    command: Annotated[str | None, Field(description="The program that starts a server.")] = None
    args: Annotated[list[str] | None, Field(description="Arguments of the command.")] = None
    env: Annotated[
        dict[str, str] | None,
        Field(description="Environment of the command. ${NAME} takes it from Trunkline's own."),
    ] = None
    cwd: Annotated[str | None, Field(description="Folder the command runs in.")] = None
    headers: Annotated[dict[str, str] | None, Field(description="Headers sent to the URL.")] = None
    transport: Annotated[
        Literal["stdio", "sse", "streamable-http"] | None,
        Field(description="Only needed where the URL does not tell."),
    ] = None
    namespace: Annotated[
        str | None, Field(description="Another prefix for its tools; empty for none.")
    ] = None
    sharing: Annotated[
        Literal["global", "org", "user", "client"] | None,
        Field(description="Who shares one connection. The default is the organisation."),
    ] = None
    timeout: Annotated[float | None, Field(description="Seconds one call may take.", gt=0)] = None
    lazy: Annotated[bool | None, Field(description="Connect when it is first needed.")] = None

    def entry(self) -> Json:
        """What mcp.json would say under its name."""
        return self.model_dump(exclude={"name"}, exclude_none=True)


_REPORT: Final[Json] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "state": {
            "type": "string",
            "enum": ["CONNECTING", "CONNECTED", "DEGRADED", "DISCONNECTED", "ERROR"],
        },
        "kind": {"type": "string"},
        "origin": {"type": ["string", "null"]},
        "reason": {"type": "string"},
        "last_error": {"type": ["string", "null"]},
        "next_try": {"type": ["string", "null"]},
        "tools": {"type": "integer"},
        "prompts": {"type": "integer"},
        "resources": {"type": "integer"},
        "problems": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "state"],
}
_REPORTS: Final[Json] = {
    "type": "object",
    "properties": {"servers": {"type": "array", "items": _REPORT}},
    "required": ["servers"],
}
_REMOVED: Final[Json] = {
    "type": "object",
    "properties": {"removed": {"type": "string"}},
    "required": ["removed"],
}

_SAFE: Final[Json] = {"readOnlyHint": True, "openWorldHint": False}
_REPEATABLE: Final[Json] = {"readOnlyHint": False, "idempotentHint": True, "destructiveHint": False}
_DESTRUCTIVE: Final[Json] = {"readOnlyHint": False, "destructiveHint": True}


class AdminTools:
    """The six tools."""

    asks = False

    def __init__(self, administration: Administration, exposure: Exposure) -> None:
        self._administration, self._exposure = administration, exposure
        self._calls: Mapping[str, Callable[[Any, Principal], Awaitable[Json]]] = {
            "add_server": self._add,
            "remove_server": self._remove,
            "connect_server": self._connect,
            "disconnect_server": self._disconnect,
            "list_servers": self._list,
            "server_status": self._status,
        }
        self.names = frozenset(self._calls)

    def listed(self, client: Client, view: View) -> Sequence[Json]:
        """
        Those that this client may use, where tools are listed; the search says that they are there.

        None where Trunkline stands in for a server: nobody is to see that it is not that.
        """
        if not self._exposure.shows_own or self._exposure.is_search(view):
            return ()
        return self.usable(client)

    def usable(self, client: Client) -> Sequence[Json]:
        """The definitions of those that this client has the role for."""
        role = client.principal.role
        return [one for one in DEFINITIONS if role.includes(_ROLES[one["name"]])]

    async def call(self, name: str, arguments: Any, caller: Caller) -> Json:
        """Run one. What goes wrong is a result that says so."""
        try:
            return await self._calls[name](
                checked(_ARGUMENTS[name], name, arguments), caller.client.principal
            )
        except TrunklineError as error:
            return tool_failure(error)

    async def _add(self, new: NewServer, principal: Principal) -> Json:
        report = await self._administration.add(principal, new.name, new.entry())
        return tool_result(_sentence(report), _shown(report))

    async def _remove(self, one: OneServer, principal: Principal) -> Json:
        await self._administration.remove(principal, one.name)
        return tool_result(f"The server {one.name!r} is removed.", {"removed": one.name})

    async def _connect(self, one: OneServer, principal: Principal) -> Json:
        report = await self._administration.switch(principal, one.name, on=True)
        return tool_result(_sentence(report), _shown(report))

    async def _disconnect(self, one: OneServer, principal: Principal) -> Json:
        report = await self._administration.switch(principal, one.name, on=False)
        return tool_result(_sentence(report), _shown(report))

    async def _list(self, _: NoArguments, principal: Principal) -> Json:
        reports = self._administration.list_all(principal)
        text = "\n".join(_sentence(report) for report in reports) or "There are no servers."
        return tool_result(text, {"servers": [_shown(report) for report in reports]})

    async def _status(self, one: OneServer, principal: Principal) -> Json:
        report = self._administration.status(principal, one.name)
        return tool_result(" ".join((_sentence(report), *report.problems)), _shown(report))


def _definition(
    name: str, description: str, arguments: type[BaseModel], output: Json, hints: Json
) -> Json:
    schema = arguments.model_json_schema()
    schema.pop("description", None)
    return {
        "name": name,
        "description": description,
        "inputSchema": schema,
        "outputSchema": output,
        "annotations": hints,
    }


DEFINITIONS: Final = (
    _definition(
        "add_server",
        "Add an MCP server to this gateway and connect to it: give the url of a running one, or "
        "the command that starts one. Its tools are available at once and stay after a restart. "
        "The same name again changes it.",
        NewServer,
        _REPORT,
        _REPEATABLE,
    ),
    _definition(
        "remove_server",
        "Remove an MCP server that was added, with all of its tools.",
        OneServer,
        _REMOVED,
        _DESTRUCTIVE,
    ),
    _definition(
        "connect_server",
        "Connect an MCP server that was disconnected, and list its tools again.",
        OneServer,
        _REPORT,
        _REPEATABLE,
    ),
    _definition(
        "disconnect_server",
        "Disconnect an MCP server and take its tools off the list, until it is connected again.",
        OneServer,
        _REPORT,
        _REPEATABLE,
    ),
    _definition(
        "list_servers",
        "List the MCP servers and plugins behind this gateway: state, last error, what they offer.",
        NoArguments,
        _REPORTS,
        _SAFE,
    ),
    _definition(
        "server_status",
        "How one MCP server is: its state, why, when it is tried next, what was left out.",
        OneServer,
        _REPORT,
        _SAFE,
    ),
)

_ROLES: Final[Mapping[str, Role]] = {
    "add_server": Role.ADMIN,
    "remove_server": Role.ADMIN,
    "connect_server": Role.OPERATOR,
    "disconnect_server": Role.OPERATOR,
    "list_servers": Role.OPERATOR,
    "server_status": Role.OPERATOR,
}
"""Who is offered which; `Administration` is what refuses the others."""

_ARGUMENTS: Final[Mapping[str, type[BaseModel]]] = {
    "add_server": NewServer,
    "remove_server": OneServer,
    "connect_server": OneServer,
    "disconnect_server": OneServer,
    "list_servers": NoArguments,
    "server_status": OneServer,
}


def _sentence(report: ServerReport) -> str:
    offers = f"{report.tools} tools, {report.prompts} prompts, {report.resources} resources"
    reason = f" {report.reason}" if report.reason else ""
    return f"{report.name}: {report.state}, {offers}.{reason}"


def _shown(report: ServerReport) -> Json:
    shown = asdict(report)
    shown["next_try"] = report.next_try.isoformat() if report.next_try else None
    shown["problems"] = list(report.problems)
    del shown["org"]
    return shown

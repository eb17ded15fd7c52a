"""
`log_in`: a tool of the gateway's own, for servers that people log in at.

Such a server lists its tools to nobody who has not logged in, so the first person could call none
of them. The tool is offered to people while there is a server for it, and does what a call of the
server's own tools would: it sends its caller to log in, and waits for that.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from trunkline.catalog.view import View
from trunkline.downstream.server_config import ServerConfig
from trunkline.errors import ServerNotFound, TrunklineError
from trunkline.gateway.arguments import checked
from trunkline.gateway.exposure import Exposure
from trunkline.gateway.shape import tool_failure, tool_result
from trunkline.models import Caller, Client, Json, Principal
from trunkline.providers.downstream import DownstreamProvider
from trunkline.security.oauth.oauth import OAuth

NAME: Final = "log_in"

DONE: Final = "You are logged in at {!r}. Its tools can be called; they may take a moment to show."


class WhichServer(BaseModel):
    """Where to log in."""

    model_config = ConfigDict(extra="forbid", strict=True)

    server: Annotated[str, Field(min_length=1, max_length=255)]


class LoginTool:
    """The one tool."""

    names = frozenset({NAME})
    asks = True

    def __init__(
        self,
        oauth: OAuth,
        providers: Callable[[], Iterable[DownstreamProvider]],
        exposure: Exposure,
    ) -> None:
        self._oauth, self._providers, self._exposure = oauth, providers, exposure

    def listed(self, client: Client, view: View) -> Sequence[Json]:
        """The tool, with the servers that it is for; nothing for whom there are none."""
        if not self._exposure.shows_own:
            return ()
        names = [provider.name for provider in self._open_to(client.principal)]
        return [_definition(names)] if names else ()

    async def call(self, name: str, arguments: Any, caller: Caller) -> Json:
        """Log in. What goes wrong is a result that says so."""
        try:
            server = checked(WhichServer, name, arguments).server
            provider = self._find(caller.client.principal, server)
            await self._oauth.token(caller.client.org, caller.client.user, provider.config, caller)
        except TrunklineError as error:
            return tool_failure(error)
        provider.offer_credentials(caller)
        return tool_result(DONE.format(server), {"server": server, "state": "valid"})

    def _find(self, principal: Principal, server: str) -> DownstreamProvider:
        theirs = self._open_to(principal)
        found = next((provider for provider in theirs if provider.name == server), None)
        if found is None:
            raise ServerNotFound(server, similar=[provider.name for provider in theirs])
        return found

    def _open_to(self, principal: Principal) -> list[DownstreamProvider]:
        """The servers that this one could log in at: its organisation's own first."""
        if principal.user is None:
            return []
        found = [one for one in self._providers() if _is_open_to(one.config, principal)]
        return sorted(found, key=lambda one: (one.org is None, one.name))


def _is_open_to(config: ServerConfig, principal: Principal) -> bool:
    if config.oauth is None or config.disabled or config.org not in (None, principal.org):
        return False
    return principal.scope.touches(config.name)


def _definition(servers: list[str]) -> Json:
    return {
        "name": NAME,
        "title": "Log in at a server",
        "description": (
            "Have the user log in at a server that wants to know who they are, in a browser. "
            "Call it when a tool of that server says that a login is required, or to get at "
            "its tools in the first place. It waits until the user is through."
        ),
        "inputSchema": {
            "type": "object",
            "properties": {"server": {"type": "string", "enum": servers}},
            "required": ["server"],
            "additionalProperties": False,
        },
        "outputSchema": {
            "type": "object",
            "properties": {"server": {"type": "string"}, "state": {"type": "string"}},
            "required": ["server", "state"],
        },
        "annotations": {"readOnlyHint": False, "idempotentHint": True, "destructiveHint": False},
    }

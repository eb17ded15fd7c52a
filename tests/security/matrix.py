"""
What somebody can ask a gateway, as rows: every route, every method of MCP, every tool of its own.

A row says how to ask about something of somebody's. So one question can be asked about what is
another's, about what is out of one's scope and about what is not there, and the answers compared.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.servers.marked import template, tool, uri
from trunkline.gateway.identity import METADATA
from trunkline.security.oauth.flows import CALLBACK, DOCUMENT, START

Json = dict[str, Any]

BOTH: Final = ("handshake", "modern")
HANDSHAKE: Final = ("handshake",)
MODERN: Final = ("modern",)

DEAD: Final = "http://127.0.0.1:9/mcp"
"""Nothing answers there."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """What is somebody's, by its names."""

    mark: str
    """Of a server that it has, which is the server's name as well."""

    org: str
    key: str
    approval: str

    @property
    def tool(self) -> str:
        """The server's tool, and its prompt, as clients know it."""
        return f"{self.mark}__{tool(self.mark)}"

    def as_ghost(self, text: str) -> str:
        """A text about this, as it would be if it were about the ghost."""
        for name in ("mark", "org", "key", "approval"):
            text = text.replace(getattr(self, name), getattr(GHOST, name))
        return text


GHOST: Final = Named(mark="twilit", org="nobody", key="q" * 12, approval="q" * 8)
"""What is not there. Its names are as long as the others', and as unlike any other."""

Ask = Callable[[Named], Json]


def just(params: Json) -> Ask:
    """Asks the same, whoever is meant."""
    return lambda _: params


NOTHING: Final = just({})


# -- over HTTP ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    """A route: what the application has it under, and requests that reach it."""

    path: str
    asked: Sequence[tuple[str, str]]

    def __str__(self) -> str:
        return self.path


CLOSED: Final = (
    Route("/mcp", [("GET", "/mcp"), ("POST", "/mcp"), ("DELETE", "/mcp")]),
    Route("/mcp/", [("GET", "/mcp/"), ("POST", "/mcp/"), ("DELETE", "/mcp/")]),
    Route("/sse", [("GET", "/sse"), ("HEAD", "/sse")]),
    Route("/messages", [("POST", "/messages/?session_id=0"), ("POST", "/messages")]),
    Route("/api/v1", [("GET", "/api/v1"), ("GET", "/api/v1/nothing"), ("PUT", "/api/v1/keys")]),
    Route("nothing", [("GET", "/"), ("GET", "/nothing"), ("GET", "/health/"), ("GET", "//health")]),
)
"""The last one is every path that no route has."""

OPEN: Final = (
    Route("/health", [("GET", "/health")]),
    Route("/ready", [("GET", "/ready")]),
    Route(METADATA, [("GET", METADATA)]),
    Route(METADATA + "/{path:path}", [("GET", METADATA + "/mcp")]),
    Route(START + "{link}", [("GET", START + "q"), ("POST", START + "q")]),
    Route(CALLBACK, [("GET", CALLBACK), ("GET", CALLBACK + "?state=q&code=q")]),
    Route(DOCUMENT, [("GET", DOCUMENT)]),
)


# -- the API --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """An operation of the API. Its path is formatted with `Named`."""

    id: str
    method: str
    path: str
    body: Ask | None = None
    undo: str | None = None
    """A path to DELETE afterwards."""

    def __str__(self) -> str:
        return self.id

    def place(self, named: Named) -> str:
        return _placed(self.path, named)

    def undone(self, named: Named) -> str | None:
        return None if self.undo is None else _placed(self.undo, named)


def _placed(path: str, named: Named) -> str:
    return "/api/v1" + path.format(
        server=named.mark,
        tool=tool(named.mark),
        key=named.key,
        approval=named.approval,
        org=named.org,
    )


def _new_server(named: Named) -> Json:
    return {"name": named.mark, "config": {"url": DEAD, "lazy": True}}


OPERATIONS: Final = (
    Operation("me.show", "GET", "/me"),
    Operation("openapi.show", "GET", "/openapi.json"),
    Operation("server.list", "GET", "/servers"),
    Operation("server.add", "POST", "/servers", _new_server, undo="/servers/{server}"),
    Operation("server.show", "GET", "/servers/{server}"),
    Operation("server.remove", "DELETE", "/servers/{server}"),
    Operation("server.connect", "POST", "/servers/{server}/connect"),
    Operation("server.disconnect", "POST", "/servers/{server}/disconnect"),
    Operation("key.list", "GET", "/keys"),
    Operation("key.create", "POST", "/keys", lambda named: {"name": "new", "org": named.org}),
    Operation("key.revoke", "DELETE", "/keys/{key}"),
    Operation("key.rotate", "POST", "/keys/{key}/rotate", just({"grace_seconds": 0})),
    Operation("approval.list", "GET", "/approvals"),
    Operation("approval.show", "GET", "/approvals/{approval}"),
    Operation("approval.approve", "POST", "/approvals/{approval}/approve"),
    Operation("approval.deny", "POST", "/approvals/{approval}/deny"),
    Operation("pin.list", "GET", "/pins?limit=100"),
    Operation("pin.show", "GET", "/pins/{server}/{tool}"),
    Operation("pin.accept", "POST", "/pins/{server}/{tool}/accept", just({"hash": "0" * 64})),
    Operation("audit.list", "GET", "/audit?org={org}"),
)


# -- MCP ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Method:
    """A method of MCP, and one way to ask with it."""

    name: str
    eras: Sequence[str] = BOTH
    ask: Ask = NOTHING
    tells: bool = True
    """Whether its owner is answered otherwise than about what is not there."""

    what: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.what}".strip()


def _completion(kind: str, key: str, name: Callable[[Named], str]) -> Ask:
    argument = {"name": "who", "value": ""}
    return lambda named: {"ref": {"type": kind, key: name(named)}, "argument": argument}


def _called(named: Named) -> Json:
    return {"name": named.tool, "arguments": {}}


def _read(named: Named) -> Json:
    return {"uri": uri(named.mark)}


def _listened(named: Named) -> Json:
    return {"notifications": {"resourceSubscriptions": [uri(named.mark)], "toolsListChanged": True}}


METHODS: Final = (
    Method("initialize", HANDSHAKE),
    Method("server/discover", MODERN),
    Method("ping", HANDSHAKE, tells=False),
    Method("logging/setLevel", HANDSHAKE, just({"level": "error"}), tells=False),
    Method("tools/list"),
    Method("prompts/list"),
    Method("resources/list"),
    Method("resources/templates/list"),
    Method("tools/call", BOTH, _called),
    Method("prompts/get", BOTH, lambda named: {"name": named.tool}),
    Method("resources/read", BOTH, _read),
    Method(
        "resources/read",
        BOTH,
        lambda named: {"uri": f"{named.mark}+note://by/x"},
        what="namespaced",
    ),
    Method(
        "resources/read",
        BOTH,
        lambda named: {"uri": f"{named.mark}://{named.mark}/x"},
        what="of a template",
    ),
    Method(
        "completion/complete",
        BOTH,
        _completion("ref/prompt", "name", lambda named: named.tool),
        what="of a prompt",
    ),
    Method(
        "completion/complete",
        BOTH,
        _completion("ref/resource", "uri", lambda named: template(named.mark)),
        what="of a template",
    ),
    Method("resources/subscribe", HANDSHAKE, _read),
    Method("resources/unsubscribe", HANDSHAKE, _read, tells=False),
    Method("subscriptions/listen", MODERN, _listened),
)


# -- the gateway's own tools ----------------------------------------------------------------------


@dataclass(frozen=True)
class OwnTool:
    """A tool of the gateway's own, and one way to call it."""

    name: str
    ask: Ask
    tells: bool = True
    """Whether its owner may be asked as well, and is answered otherwise."""

    undo: str | None = None
    """A tool to call afterwards, with the name alone."""

    compares: bool = True
    """Whether an answer is a matter of the name alone: what a search finds is not."""

    def __str__(self) -> str:
        return self.name


def _server(named: Named) -> Json:
    return {"name": named.mark}


def _words(named: Named) -> Json:
    return {"query": f"whose server is this {named.mark}", "type": "all", "limit": 100}


OWN_TOOLS: Final = (
    OwnTool("search_tools", _words, compares=False),
    OwnTool("search_tools", lambda named: {"query": "whose", "servers": [named.mark]}),
    OwnTool("describe_tool", lambda named: {"name": named.tool}),
    OwnTool("call_tool", _called),
    OwnTool("log_in", lambda named: {"server": named.mark}, tells=False),
    OwnTool("list_servers", NOTHING),
    OwnTool("server_status", _server),
    OwnTool("connect_server", _server, tells=False),
    OwnTool("disconnect_server", _server, tells=False),
    OwnTool("remove_server", _server, tells=False),
    OwnTool(
        "add_server",
        lambda named: {"name": named.mark, "url": DEAD, "lazy": True},
        tells=False,
        undo="remove_server",
    ),
)

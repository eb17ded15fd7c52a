"""
A server that says whose it is in everything it says, in the test's own process.

    async with marked("aurora") as server:
        ... server.url ...
        await server.change("note://mine")          # resources/updated
        await server.grow("fruit")                  # one more tool, and list_changed

Its mark is in every answer. Each list has one item that carries the mark in its name, and one that
every such server has alike, down to the last letter of its definition: so whatever crosses from one
to the other is seen in the bytes, and nothing but the server tells them apart.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

from tests.servers.raw_http import Reply, Request, serve

Json = dict[str, Any]

OBJECT: Final[Json] = {"type": "object"}
QUIET: Final[Json] = {"readOnlyHint": True, "idempotentHint": True}
NOT_THERE: Final = -32602


def tool(mark: str) -> str:
    """The name of the tool that only the server with that mark has."""
    return f"{mark}_{mark}"


def uri(mark: str) -> str:
    """The URI that only that server lists."""
    return f"{mark}://{mark}/{mark}"


def template(mark: str) -> str:
    """The template that only that server lists."""
    return f"{mark}://{mark}/{{{mark}}}"


def notification(method: str, **params: str) -> Json:
    return {"jsonrpc": "2.0", "method": f"notifications/{method}", "params": params}


class MarkedServer:
    """One of them. It speaks the handshake era over streamable HTTP."""

    def __init__(self, mark: str, shared: str) -> None:
        """*shared* is the scheme of the URIs that it has in common with others."""
        self.mark, self.shared = mark, shared
        self.url = ""
        self.calls = 0
        """How many calls of tools have reached it."""

        self.requests: list[Request] = []
        """Everything that has reached it."""

        self._grown: list[str] = []
        self._sessions = count(1)
        self._streams: dict[str, Reply] = {}
        """By session."""

        self._subscribed: set[tuple[str, str]] = set()
        """Sessions, and the URIs that they hear of."""

        self._answers: Mapping[str, Callable[[Json], Json]] = {
            "tools/list": self._tools,
            "tools/call": self._call,
            "prompts/list": self._prompts,
            "prompts/get": self._prompt,
            "resources/list": self._resources,
            "resources/templates/list": self._templates,
            "resources/read": self._read,
            "completion/complete": self._complete,
            "logging/setLevel": lambda _: {},
            "ping": lambda _: {},
        }

    def messages(self, method: str) -> list[Request]:
        """The requests of one method that have reached it."""
        posts = (request for request in self.requests if request.method == "POST")
        return [post for post in posts if post.message["method"] == method]

    def watching(self, watched: str) -> set[str]:
        """The sessions that want to hear of a resource."""
        return {session for session, one in self._subscribed if one == watched}

    async def change(self, changed: str, *, only: str | None = None) -> None:
        """Say that a resource has changed, to the sessions that want to hear of it, or to one."""
        for session, stream in list(self._streams.items()):
            if (session, changed) in self._subscribed and only in (None, session):
                await stream.event(notification("resources/updated", uri=changed))

    async def grow(self, name: str) -> None:
        """Have one more tool, and say so."""
        self._grown.append(name)
        for stream in list(self._streams.values()):
            await stream.event(notification("tools/list_changed"))

    # -- the transport ------------------------------------------------------------------------

    async def handle(self, request: Request, reply: Reply) -> None:
        if request.method == "GET":
            await self._stream(request.headers["mcp-session-id"], reply)
        elif request.method != "POST" or "id" not in request.message:
            await reply.whole(202)
        else:
            await self._answer(request, reply)

    async def _answer(self, request: Request, reply: Reply) -> None:
        method, params = request.message["method"], request.message.get("params") or {}
        try:
            if method == "initialize":
                session = f"{self.mark}-{next(self._sessions)}"
                await reply.result(request, self._initialize(params), mcp_session_id=session)
            elif method in ("resources/subscribe", "resources/unsubscribe"):
                wanted = request.headers["mcp-session-id"], self._known(params["uri"])
                is_wanted = method == "resources/subscribe"
                (self._subscribed.add if is_wanted else self._subscribed.discard)(wanted)
                await reply.result(request)
            else:
                await reply.result(request, self._answers[method](params))
        except KeyError as error:
            said = {"code": NOT_THERE, "message": f"{self.mark} has no {error}"}
            await reply.json({"jsonrpc": "2.0", "id": request.message["id"], "error": said})

    async def _stream(self, session: str, reply: Reply) -> None:
        await reply.start_events()
        self._streams[session] = reply
        try:
            await reply.closed.wait()
        finally:
            del self._streams[session]
            reply.cut()

    # -- what it offers -----------------------------------------------------------------------

    def _initialize(self, params: Json) -> Json:
        return {
            "protocolVersion": "2025-11-25",
            "serverInfo": {"name": self.mark, "version": "1"},
            "instructions": f"This is {self.mark}.",
            "capabilities": {
                "tools": {"listChanged": True},
                "prompts": {},
                "resources": {"subscribe": True},
                "completions": {},
                "logging": {},
            },
        }

    def _tools(self, params: Json) -> Json:
        named = ["whose", tool(self.mark), *self._grown]
        return {"tools": [self._tool(name) for name in named]}

    def _tool(self, name: str) -> Json:
        return {
            "name": name,
            "description": self._described(name),
            "inputSchema": OBJECT,
            "annotations": QUIET,
        }

    def _described(self, name: str) -> str:
        """What all have in common is described in the same words: only answers tell it apart."""
        return f"Tells whose server this is: {self.mark}'s." if self.mark in name else "Whose?"

    def _call(self, params: Json) -> Json:
        self.calls += 1
        said = {"mark": self.mark, "given": params.get("arguments") or {}, "calls": self.calls}
        return {"content": [{"type": "text", "text": self.mark}], "structuredContent": said}

    def _prompts(self, params: Json) -> Json:
        named = ["greet", tool(self.mark)]
        return {"prompts": [{"name": name, "description": self._described(name)} for name in named]}

    def _prompt(self, params: Json) -> Json:
        said = {"type": "text", "text": f"Say hello to {self.mark}."}
        return {"messages": [{"role": "user", "content": said}]}

    def _resources(self, params: Json) -> Json:
        uris = [f"{self.shared}://mine", uri(self.mark)]
        return {"resources": [{"uri": one, "name": self.mark} for one in uris]}

    def _templates(self, params: Json) -> Json:
        templates = [f"{self.shared}://by/{{who}}", template(self.mark)]
        listed = [{"uriTemplate": one, "name": self.mark} for one in templates]
        return {"resourceTemplates": listed}

    def _known(self, asked: str) -> str:
        """A URI that fits what is listed. Raises `KeyError`."""
        listed = {f"{self.shared}://mine", uri(self.mark)}
        if asked in listed or asked.startswith((f"{self.shared}://by/", f"{self.mark}://")):
            return asked
        raise KeyError(asked)

    def _read(self, params: Json) -> Json:
        self._known(params["uri"])
        return {"contents": [{"uri": params["uri"], "text": f"A note of {self.mark}."}]}

    def _complete(self, params: Json) -> Json:
        return {"completion": {"values": [self.mark], "hasMore": False}}


@asynccontextmanager
async def marked(mark: str, *, shared: str = "note") -> AsyncGenerator[MarkedServer]:
    """Serve one on loopback until the block ends."""
    server = MarkedServer(mark, shared)
    async with serve(server.handle) as listening:
        server.url, server.requests = listening.url, listening.requests
        yield server

"""
One real server with everything a client can meet, for the tests that go end to end.

    python -m tests.servers.everything --transport stdio|http|sse --era both|handshake|modern

It gives back what it received and remembers it (`echo`, `whoami`, `counters`, `cancelled_calls`),
so a test can compare both ends. All lists come in pages of three. `tests.servers.offers` holds the
definitions. `ask`, `think`, `roots`, `interview`, the prompt `confirmed` and the resource
`note://asking` ask their client: with requests in the handshake era, with `input_required` in the
modern one.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from mcp.shared.exceptions import MCPError
from pydantic_core import to_json

from tests.servers import offers
from tests.servers.hosting import host, parser
from tests.servers.raw import INVALID_PARAMS, LEVELS, META, Json, RawServer, Request

PAGE: Final = 3
"""Items a page of a list holds."""

RESOURCE_NOT_FOUND: Final = -32002
"""What the handshake era calls it; the modern era says -32602."""

FORM: Final[Json] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Name", "description": "Yours", "minLength": 1},
        "age": {"type": "integer", "minimum": 0, "default": 30},
        "color": {"type": "string", "enum": ["red", "green"], "enumNames": ["Red", "Green"]},
    },
    "required": ["name"],
}


class Everything:
    """What the process knows: its offers, and what it has received."""

    def __init__(self) -> None:
        self.tools = {tool["name"]: tool for tool in offers.TOOLS}
        self.prompts = {prompt["name"]: prompt for prompt in offers.PROMPTS}
        self.resources = {resource["uri"]: resource for resource in offers.RESOURCES}
        self.versions: Counter[str] = Counter()
        """How often each resource was touched."""

        self.methods: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.cancelled: list[str] = []
        self.subscribed: list[str] = []
        self.unsubscribed: list[str] = []
        self.levels: list[str] = []
        self.held: dict[str, asyncio.Event] = {}

    # -- bookkeeping and lists ----------------------------------------------------------------

    def count(self, method: str, params: Json) -> None:
        """Remember that a message came."""
        self.methods[method] += 1
        if method == "tools/call":
            self.calls[str(params.get("name"))] += 1

    async def list_tools(self, request: Request) -> Json:
        return page(request, "tools", list(self.tools.values()))

    async def list_prompts(self, request: Request) -> Json:
        return page(request, "prompts", list(self.prompts.values()))

    async def list_resources(self, request: Request) -> Json:
        return page(request, "resources", list(self.resources.values()))

    async def list_templates(self, request: Request) -> Json:
        return page(request, "resourceTemplates", list(offers.TEMPLATES))

    # -- tools --------------------------------------------------------------------------------

    async def call_tool(self, request: Request) -> Json:
        name = request.params["name"]
        if name not in self.tools:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {name}", {"name": name})
        arguments: Json = request.params.get("arguments") or {}
        behaviour: Callable[[Request, Json], Awaitable[Json]] | None = getattr(
            self, f"tool_{name}", None
        )
        if behaviour is None:  # a grown one
            return text(f"{name} has grown")
        return await behaviour(request, arguments)

    async def tool_echo(self, request: Request, arguments: Json) -> Json:
        known = {"name", "arguments", "_meta", "inputResponses", "requestState"}
        heard = {
            "arguments": arguments,
            "meta": request.meta,
            "further": {k: v for k, v in request.params.items() if k not in known},
        }
        own = {key: v for key, v in request.meta.items() if not key.startswith(META)}
        return {
            "content": [{**offers.CONTENTS[0], "text": to_json(heard).decode()}],
            "structuredContent": {**heard, "x-vendor": offers.VENDOR},
            "isError": False,
            "_meta": {"example.com/result": offers.VENDOR, **own},
            "x-vendor": offers.VENDOR,
        }

    async def tool_contents(self, request: Request, arguments: Json) -> Json:
        return {"content": list(offers.CONTENTS), "x-vendor": offers.VENDOR}

    async def tool_slow(self, request: Request, arguments: Json) -> Json:
        seconds, steps = arguments.get("seconds", 1), arguments.get("steps", 4)
        try:
            for step in range(1, steps + 1):
                await asyncio.sleep(seconds / steps)
                await request.progress(step, steps, f"step {step} of {steps}")
        except asyncio.CancelledError:
            self.cancelled.append(arguments.get("label", "slow"))
            raise
        return text(f"{steps} steps")

    async def tool_hold(self, request: Request, arguments: Json) -> Json:
        key = arguments["key"]
        released = self.held.setdefault(key, asyncio.Event())
        await request.progress(0, 1, f"holding {key}")
        try:
            await released.wait()
        except asyncio.CancelledError:
            self.cancelled.append(key)
            raise
        return text(f"released {key}")

    async def tool_release(self, request: Request, arguments: Json) -> Json:
        self.held.setdefault(arguments["key"], asyncio.Event()).set()
        del self.held[arguments["key"]]
        return text("released")

    async def tool_cancelled_calls(self, request: Request, arguments: Json) -> Json:
        return structured({"cancelled": self.cancelled})

    async def tool_log(self, request: Request, arguments: Json) -> Json:
        for level in arguments.get("levels", LEVELS):
            data = {"text": arguments.get("text", level), "x-vendor": offers.VENDOR}
            meta = {"example.com/log": offers.VENDOR}
            await request.log(level, data, logger="everything", _meta=meta)
        return text("logged")

    async def tool_ask(self, request: Request, arguments: Json) -> Json:
        message = arguments.get("message", "Who are you?")
        answers: list[Json] = []
        for number in range(1, arguments.get("rounds", 1) + 1):
            question: Json = {"message": message, "x-vendor": offers.VENDOR}
            if arguments.get("mode") == "url":
                question |= {"mode": "url", "url": "https://example.com/sign-in"}
                if not request.peer.modern:
                    question["elicitationId"] = f"question-{number}"
            else:
                question |= {"mode": "form", "requestedSchema": FORM}
            answers.append(await request.ask("elicitation/create", question))
        return structured({"answers": answers})

    async def tool_think(self, request: Request, arguments: Json) -> Json:
        prompt = {"type": "text", "text": arguments.get("prompt", "What is the answer?")}
        image = {"type": "image", "data": offers.PIXEL, "mimeType": "image/png"}
        answer = await request.ask(
            "sampling/createMessage",
            {
                "messages": [
                    {"role": "user", "content": prompt},
                    {"role": "user", "content": image},
                ],
                "maxTokens": 100,
                "systemPrompt": "Be brief.",
                "temperature": 0.5,
                "stopSequences": ["END"],
                "modelPreferences": {"hints": [{"name": "small"}], "costPriority": 0.5},
                "metadata": {"x-vendor": offers.VENDOR},
                "x-vendor": offers.VENDOR,
            },
        )
        return structured({"answer": answer})

    async def tool_roots(self, request: Request, arguments: Json) -> Json:
        return structured({"answer": await request.ask("roots/list", {})})

    async def tool_interview(self, request: Request, arguments: Json) -> Json:
        prompt = {"role": "user", "content": {"type": "text", "text": "What is the answer?"}}
        answers = await request.ask_all(
            {
                "user": ("elicitation/create", {"message": "Who?", "requestedSchema": FORM}),
                "model": ("sampling/createMessage", {"messages": [prompt], "maxTokens": 10}),
                "roots": ("roots/list", {}),
            },
            sealed=True,
        )
        return structured({"answers": answers})

    async def tool_whoami(self, request: Request, arguments: Json) -> Json:
        return structured(
            {
                "clientInfo": request.peer.info,
                "capabilities": request.peer.capabilities,
                "protocolVersion": request.peer.protocol_version,
                "era": "modern" if request.peer.modern else "handshake",
                "sessionId": request.peer.connection.session_id,
                "headers": request.headers,
                "pid": os.getpid(),
            }
        )

    async def tool_grow(self, request: Request, arguments: Json) -> Json:
        name = arguments["name"]
        self.tools[name] = offers.tool(name, "It has grown.")
        self.prompts[name] = {"name": name}
        self.resources[f"grown://{name}"] = {"uri": f"grown://{name}", "name": name}
        if not arguments.get("quietly"):
            await announce_lists(request)
        return text(f"{name} has grown")

    async def tool_shrink(self, request: Request, arguments: Json) -> Json:
        name = arguments["name"]
        self.tools.pop(name, None)
        self.prompts.pop(name, None)
        self.resources.pop(f"grown://{name}", None)
        await announce_lists(request)
        return text(f"{name} is gone")

    async def tool_touch(self, request: Request, arguments: Json) -> Json:
        uri = arguments["uri"]
        self.versions[uri] += 1
        await request.server.announce("notifications/resources/updated", {"uri": uri})
        return text(f"{uri} has changed")

    async def tool_fail(self, request: Request, arguments: Json) -> Json:
        message = arguments.get("message", "It did not work.")
        return {**text(message), "isError": True, "x-vendor": offers.VENDOR}

    async def tool_raise_error(self, request: Request, arguments: Json) -> Json:
        raise MCPError(
            arguments.get("code", -31999),
            arguments.get("message", "It broke."),
            arguments.get("data", {"x-vendor": offers.VENDOR}),
        )

    async def tool_big(self, request: Request, arguments: Json) -> Json:
        return text("x" * arguments["bytes"])

    async def tool_crash(self, request: Request, arguments: Json) -> Json:
        os._exit(arguments.get("code", 1))

    async def tool_counters(self, request: Request, arguments: Json) -> Json:
        return structured(
            {
                "methods": dict(self.methods),
                "calls": dict(self.calls),
                "subscribed": self.subscribed,
                "unsubscribed": self.unsubscribed,
                "levels": self.levels,
                "connected": len(request.server.peers),
            }
        )

    async def tool_routed(self, request: Request, arguments: Json) -> Json:
        return structured({"region": arguments["region"], "headers": request.headers})

    # -- prompts, resources, completion -------------------------------------------------------

    async def get_prompt(self, request: Request) -> Json:
        name, arguments = request.params["name"], request.params.get("arguments") or {}
        if name not in self.prompts:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {name}")
        if name == "greet" and "name" not in arguments:
            raise MCPError(INVALID_PARAMS, "Missing required argument: name")
        blocks: list[Json] = [{"type": "text", "text": f"{name} {to_json(arguments).decode()}"}]
        if name == "pictured":
            blocks = [offers.CONTENTS[1], offers.CONTENTS[3]]
        if name == "confirmed":
            blocks = [{"type": "text", "text": to_json(await confirm(request)).decode()}]
        return {
            "description": f"The prompt {name}",
            "messages": [{"role": "user", "content": c, "x-vendor": offers.VENDOR} for c in blocks],
            "_meta": {"example.com/result": offers.VENDOR},
            "x-vendor": offers.VENDOR,
        }

    async def read_resource(self, request: Request) -> Json:
        uri: str = request.params["uri"]
        known = uri in self.resources or uri.split("://")[0] in (
            "weather",
            "user",
            "page",
            "search",
        )
        if not known:
            code = INVALID_PARAMS if request.peer.modern else RESOURCE_NOT_FOUND
            raise MCPError(code, f"Unknown resource: {uri}", {"uri": uri})
        contents: Json = {"uri": uri, "text": f"{uri} version {self.versions[uri]}"}
        if uri == offers.BLOB:
            contents = {"uri": uri, "mimeType": "image/png", "blob": offers.PIXEL}
        elif uri == offers.ASKING:
            contents["text"] = to_json(await confirm(request)).decode()
        elif uri == offers.STATIC:
            contents["mimeType"] = "text/markdown"
        marks = {"_meta": {"example.com/contents": offers.VENDOR}, "x-vendor": offers.VENDOR}
        return {"contents": [{**contents, **marks}], "x-vendor": offers.VENDOR}

    async def subscribe(self, request: Request) -> Json:
        request.peer.subscriptions.add(request.params["uri"])
        self.subscribed.append(request.params["uri"])
        return {}

    async def unsubscribe(self, request: Request) -> Json:
        request.peer.subscriptions.discard(request.params["uri"])
        self.unsubscribed.append(request.params["uri"])
        return {}

    async def set_level(self, request: Request) -> Json:
        request.peer.level = request.params["level"]
        self.levels.append(request.params["level"])
        return {}

    async def complete(self, request: Request) -> Json:
        argument: Mapping[str, str] = request.params["argument"]
        context: Mapping[str, str] = (request.params.get("context") or {}).get("arguments") or {}
        choices = {
            "name": tuple(offers.STYLES),
            "style": offers.STYLES.get(context.get("name", ""), ()),
            "city": offers.CITIES,
            "day": offers.DAYS.get(context.get("city", ""), ()),
        }.get(argument["name"], ())
        typed = argument["value"].lower()
        values = [choice for choice in choices if choice.lower().startswith(typed)]
        completion = {"values": values[:PAGE], "total": len(values), "hasMore": len(values) > PAGE}
        return {"completion": {**completion, "x-vendor": offers.VENDOR}, "x-vendor": offers.VENDOR}


async def announce_lists(request: Request) -> None:
    """Say that all three lists have changed."""
    for kind in ("tools", "prompts", "resources"):
        await request.server.announce(f"notifications/{kind}/list_changed")


async def confirm(request: Request) -> Json:
    """Ask the user whether to go on."""
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}}
    return await request.ask("elicitation/create", {"message": "Sure?", "requestedSchema": schema})


def page(request: Request, key: str, items: list[Json]) -> Json:
    """One page of a list. Raises `MCPError` (-32602) for a cursor that is not one of ours."""
    start = 0
    if (cursor := request.params.get("cursor")) is not None:
        if not str(cursor).startswith("after:") or not cursor[6:].isdigit():
            raise MCPError(INVALID_PARAMS, f"Unknown cursor: {cursor}")
        start = int(cursor[6:])
    result: Json = {key: items[start : start + PAGE], "x-vendor": offers.VENDOR}
    if start + PAGE < len(items):
        result["nextCursor"] = f"after:{start + PAGE}"
    return result


def text(words: str) -> Json:
    """A result of one text block."""
    return {"content": [{"type": "text", "text": words}]}


def structured(value: Json) -> Json:
    """A result as structured content, and as text for clients that know no better."""
    return {**text(to_json(value).decode()), "structuredContent": value}


def build(speaks: str | None = None) -> RawServer:
    """The server, ready to be hosted. *speaks* is the handshake version it insists on."""
    everything = Everything()
    server = RawServer(
        offers.INFO,
        capabilities=offers.CAPABILITIES,
        instructions=offers.INSTRUCTIONS,
        extras={"x-vendor": offers.VENDOR},
        ttl_ms=1000,
        speaks=speaks,
        handlers={
            "tools/list": everything.list_tools,
            "tools/call": everything.call_tool,
            "prompts/list": everything.list_prompts,
            "prompts/get": everything.get_prompt,
            "resources/list": everything.list_resources,
            "resources/templates/list": everything.list_templates,
            "resources/read": everything.read_resource,
            "resources/subscribe": everything.subscribe,
            "resources/unsubscribe": everything.unsubscribe,
            "logging/setLevel": everything.set_level,
            "completion/complete": everything.complete,
        },
    )
    server.on_message = everything.count
    server.sdk.get_tool_input_schema = lambda name: cast(
        "Mapping[str, Any] | None", everything.tools.get(name, {}).get("inputSchema")
    )
    return server


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--speaks", help="the handshake version to insist on")
    chosen = options.parse_args()
    host(build(chosen.speaks), chosen)

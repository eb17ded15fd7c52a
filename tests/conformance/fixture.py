"""
The server the official conformance suite expects: its tools, prompts and resources, nothing else.

    python -m tests.conformance.fixture --transport stdio|http|sse --era both|handshake|modern

The suite connects to it directly for the score that counts as complete, and through Trunkline for
the score Trunkline is judged by. What asks the client asks in both eras (`tests.servers.raw`):
with a request in the handshake era, with `input_required` in the modern one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.shared.exceptions import MCPError
from mcp_types import JSONRPCMessage
from pydantic_core import to_json

from tests.conformance import offers
from tests.conformance.offers import form, text
from tests.servers.hosting import host, parser
from tests.servers.raw import INVALID_PARAMS, Json, Question, RawServer, Request

PAUSE: Final = 0.05
"""Seconds between two notifications, which the suite asks for."""

RESOURCE_NOT_FOUND: Final = -32002
WORDS: Final = ("paris", "park", "party")


class Fixture:
    """The fixture's behaviour, tool by tool. Its lists may change while it runs."""

    def __init__(self) -> None:
        self.tools = list(offers.TOOLS)
        self.prompts = list(offers.PROMPTS)

    # -- tools --------------------------------------------------------------------------------

    async def list_tools(self, request: Request) -> Json:
        return {"tools": self.tools}

    async def call_tool(self, request: Request) -> Json:
        name = request.params["name"]
        if all(tool["name"] != name for tool in self.tools):
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {name}")
        behaviour: Callable[[Request], Awaitable[Json]] | None = getattr(self, name, None)
        if behaviour is None:
            return content(text(f"{name} was called"))
        return await behaviour(request)

    async def test_simple_text(self, request: Request) -> Json:
        return content(text("This is a simple text response for testing."))

    async def test_image_content(self, request: Request) -> Json:
        return content(offers.IMAGE)

    async def test_audio_content(self, request: Request) -> Json:
        return content(offers.AUDIO)

    async def test_embedded_resource(self, request: Request) -> Json:
        words = "This is an embedded resource content."
        return content(embedded("test://embedded-resource", "text/plain", words))

    async def test_multiple_content_types(self, request: Request) -> Json:
        data = '{"test":"data","value":123}'
        return content(
            text("Multiple content types test:"),
            offers.IMAGE,
            embedded("test://mixed-content-resource", "application/json", data),
        )

    async def test_tool_with_logging(self, request: Request) -> Json:
        await request.log("info", "Tool execution started")
        await asyncio.sleep(PAUSE)
        await request.log("info", "Tool processing data")
        await asyncio.sleep(PAUSE)
        await request.log("info", "Tool execution completed")
        return content(text("Three log messages were sent."))

    async def test_logging_tool(self, request: Request) -> Json:
        await request.log("info", "Tool execution")
        return content(text("A log message was sent if it was wanted."))

    async def test_tool_with_progress(self, request: Request) -> Json:
        await request.progress(0, 100, "started")
        await asyncio.sleep(PAUSE)
        await request.progress(50, 100, "half way")
        await asyncio.sleep(PAUSE)
        await request.progress(100, 100, "done")
        return content(text("Progress was reported if it was wanted."))

    async def test_error_handling(self, request: Request) -> Json:
        words = "This tool intentionally returns an error for testing"
        return {**content(text(words)), "isError": True}

    async def test_sampling(self, request: Request) -> Json:
        answer = await request.ask(*sampling(request.params["arguments"]["prompt"], 100))
        return content(text(f"LLM response: {answer['content'].get('text')}"))

    async def test_elicitation(self, request: Request) -> Json:
        schema = form(username="string", email="string")
        schema["properties"]["username"]["description"] = "User's response"
        schema["properties"]["email"]["description"] = "User's email address"
        message = request.params["arguments"]["message"]
        return content(text(f"User response: {outcome(await elicit(request, message, schema))}"))

    async def test_streaming_elicitation(self, request: Request) -> Json:
        return await self.test_input_required_result_elicitation(request)

    async def test_elicitation_sep1034_defaults(self, request: Request) -> Json:
        answer = await elicit(request, "Please review these values", offers.DEFAULTS_FORM)
        return content(text(f"Elicitation completed: {outcome(answer)}"))

    async def test_elicitation_sep1330_enums(self, request: Request) -> Json:
        answer = await elicit(request, "Please choose", offers.ENUMS_FORM)
        return content(text(f"Elicitation completed: {outcome(answer)}"))

    async def test_reconnection(self, request: Request) -> Json:
        if request.close_stream is not None:
            await asyncio.sleep(PAUSE)  # the stream's first event has to be out, or none resumes it
            await request.close_stream()
            await asyncio.sleep(PAUSE)
        return content(text("The answer came after the stream had ended."))

    async def test_x_mcp_header(self, request: Request) -> Json:
        return content(text(f"region: {request.params['arguments']['region']}"))

    async def test_missing_capability(self, request: Request) -> Json:
        answer = await request.ask(*sampling("Is sampling supported?", 10))
        return content(text(f"Sampling is supported: {answer['model']}"))

    async def test_input_required_result_elicitation(self, request: Request) -> Json:
        answers = await request.ask_all(
            {"user_name": question("What is your name?", name="string")}
        )
        return content(text(f"Hello, {filled(answers['user_name'], 'name')}!"))

    async def test_input_required_result_sampling(self, request: Request) -> Json:
        asked = sampling("What is the capital of France?", 100)
        answers = await request.ask_all({"capital_question": asked})
        return content(text(str(answers["capital_question"]["content"].get("text"))))

    async def test_input_required_result_list_roots(self, request: Request) -> Json:
        answers = await request.ask_all({"client_roots": ("roots/list", {})})
        uris = [root["uri"] for root in answers["client_roots"]["roots"]]
        return content(text(f"Roots: {', '.join(uris)}"))

    async def test_input_required_result_request_state(self, request: Request) -> Json:
        await request.ask_all({"confirm": question("Please confirm", ok="boolean")}, sealed=True)
        return content(text("state-ok"))

    async def test_input_required_result_tampered_state(self, request: Request) -> Json:
        return await self.test_input_required_result_request_state(request)

    async def test_input_required_result_multiple_inputs(self, request: Request) -> Json:
        answers = await request.ask_all(
            {
                "user_name": question("What is your name?", name="string"),
                "greeting": sampling("Generate a greeting", 50),
                "client_roots": ("roots/list", {}),
            },
            sealed=True,
        )
        return content(text(f"{len(answers)} answers: {', '.join(answers)}"))

    async def test_input_required_result_multi_round(self, request: Request) -> Json:
        first = {"step1": question("Step 1: What is your name?", name="string")}
        name = (await request.ask_all(first, sealed=True))["step1"]
        second = {"step2": question("Step 2: What is your favorite color?", color="string")}
        color = (await request.ask_all(second, sealed=True))["step2"]
        return content(text(f"{filled(name, 'name')} likes {filled(color, 'color')}"))

    async def test_input_required_result_capabilities(self, request: Request) -> Json:
        possible: dict[str, Question] = {
            "elicitation": question("What is your name?", name="string"),
            "sampling": sampling("Generate a greeting", 50),
            "roots": ("roots/list", {}),
        }
        supported = {k: q for k, q in possible.items() if k in request.peer.capabilities}
        answers = await request.ask_all(supported) if supported else {}
        return content(text(f"Supported: {', '.join(answers)}"))

    async def test_trigger_tool_change(self, request: Request) -> Json:
        toggle(self.tools, offers.EXTRA_TOOL)
        await request.server.announce("notifications/tools/list_changed")
        return content(text("The list of tools has changed."))

    async def test_trigger_prompt_change(self, request: Request) -> Json:
        toggle(self.prompts, offers.EXTRA_PROMPT)
        await request.server.announce("notifications/prompts/list_changed")
        return content(text("The list of prompts has changed."))

    # -- prompts, resources, the rest ---------------------------------------------------------

    async def list_prompts(self, request: Request) -> Json:
        return {"prompts": self.prompts}

    async def get_prompt(self, request: Request) -> Json:
        name, arguments = request.params["name"], request.params.get("arguments") or {}
        prompt = next((prompt for prompt in self.prompts if prompt["name"] == name), None)
        if prompt is None:
            raise MCPError(INVALID_PARAMS, f"Unknown prompt: {name}")
        for argument in prompt.get("arguments", ()):
            if argument["name"] not in arguments:
                raise MCPError(INVALID_PARAMS, f"Missing argument: {argument['name']}")
        return messages(*await self._prompt_content(request, name, arguments))

    async def _prompt_content(self, request: Request, name: str, arguments: Json) -> list[Json]:
        if name == "test_prompt_with_arguments":
            arg1, arg2 = arguments["arg1"], arguments["arg2"]
            return [text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]
        if name == "test_prompt_with_embedded_resource":
            words = "Embedded resource content for testing."
            resource = embedded(arguments["resourceUri"], "text/plain", words)
            return [resource, text("Please process the embedded resource above.")]
        if name == "test_prompt_with_image":
            return [offers.IMAGE, text("Please analyze the image above.")]
        if name == "test_input_required_result_prompt":
            asked = question("What context should the prompt use?", context="string")
            answers = await request.ask_all({"user_context": asked})
            return [text(f"Context: {filled(answers['user_context'], 'context')}")]
        return [text("This is a simple prompt for testing.")]

    async def list_resources(self, request: Request) -> Json:
        return {"resources": list(offers.RESOURCES)}

    async def list_templates(self, request: Request) -> Json:
        return {"resourceTemplates": list(offers.TEMPLATES)}

    async def read_resource(self, request: Request) -> Json:
        uri: str = request.params["uri"]
        if uri == "test://static-text":
            words = "This is the content of the static text resource."
            return contents(uri, "text/plain", text=words)
        if uri == "test://static-binary":
            return contents(uri, "image/png", blob=offers.IMAGE["data"])
        if uri == "test://watched-resource":
            return contents(uri, "text/plain", text="Watched resource content.")
        prefix, suffix = "test://template/", "/data"
        if uri.startswith(prefix) and uri.endswith(suffix):
            name = uri[len(prefix) : -len(suffix)]
            data = {"id": name, "templateTest": True, "data": f"Data for ID: {name}"}
            return contents(uri, "application/json", text=to_json(data).decode())
        code = INVALID_PARAMS if request.peer.modern else RESOURCE_NOT_FOUND
        raise MCPError(code, "Resource not found", {"uri": uri})

    async def subscribe(self, request: Request) -> Json:
        request.peer.subscriptions.add(request.params["uri"])
        return {}

    async def unsubscribe(self, request: Request) -> Json:
        request.peer.subscriptions.discard(request.params["uri"])
        return {}

    async def set_level(self, request: Request) -> Json:
        request.peer.level = request.params["level"]
        return {}

    async def complete(self, request: Request) -> Json:
        typed = request.params["argument"]["value"]
        values = [word for word in WORDS if word.startswith(typed)]
        return {"completion": {"values": values, "total": len(values), "hasMore": False}}


def content(*blocks: Json) -> Json:
    """A tool's result."""
    return {"content": list(blocks)}


def messages(*blocks: Json) -> Json:
    """A prompt's result."""
    return {"messages": [{"role": "user", "content": block} for block in blocks]}


def contents(uri: str, mime_type: str, **body: str) -> Json:
    """A resource's result."""
    return {"contents": [{"uri": uri, "mimeType": mime_type, **body}]}


def embedded(uri: str, mime_type: str, words: str) -> Json:
    """An embedded text resource."""
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": words}}


def sampling(prompt: str, max_tokens: int) -> Question:
    """A question to the client's model."""
    message = {"role": "user", "content": text(prompt)}
    return "sampling/createMessage", {"messages": [message], "maxTokens": max_tokens}


def question(message: str, **fields: str) -> Question:
    """A question to the user: a form with these fields."""
    return "elicitation/create", {"message": message, "requestedSchema": form(**fields)}


async def elicit(request: Request, message: str, schema: Json) -> Json:
    """Ask the user to fill in a form."""
    return await request.ask("elicitation/create", {"message": message, "requestedSchema": schema})


def outcome(answer: Json) -> str:
    """What the user did, in the suite's words."""
    return f"action={answer['action']}, content={to_json(answer.get('content') or {}).decode()}"


def filled(answer: Json, field: str) -> str:
    """What the user filled in; "nobody" if the user would not say."""
    return str((answer.get("content") or {}).get(field, "nobody"))


def toggle(items: list[Json], item: Json) -> None:
    """Take *item* out of the list if it is there, put it in if not."""
    if item in items:
        items.remove(item)
    else:
        items.append(item)


class Events(EventStore):
    """
    The events of every stream, so that a stream can be resumed. Kept until the process ends.

    The SDK names a stream by its request id alone, without the session. So it is for one client
    that resumes at a time, as the suite does.
    """

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        last = int(last_event_id) if last_event_id.isdigit() else 0
        if not 0 < last <= len(self._events):
            return None
        stream_id = self._events[last - 1][0]
        for number, (stream, message) in enumerate(self._events[last:], last + 1):
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


def build() -> RawServer:
    """The fixture, ready to be hosted."""
    fixture = Fixture()
    server = RawServer(
        {"name": "trunkline-conformance-fixture", "version": "1.0.0"},
        capabilities=offers.CAPABILITIES,
        handlers={
            "tools/list": fixture.list_tools,
            "tools/call": fixture.call_tool,
            "prompts/list": fixture.list_prompts,
            "prompts/get": fixture.get_prompt,
            "resources/list": fixture.list_resources,
            "resources/templates/list": fixture.list_templates,
            "resources/read": fixture.read_resource,
            "resources/subscribe": fixture.subscribe,
            "resources/unsubscribe": fixture.unsubscribe,
            "logging/setLevel": fixture.set_level,
            "completion/complete": fixture.complete,
        },
    )
    schemas = {tool["name"]: tool["inputSchema"] for tool in fixture.tools}
    server.sdk.get_tool_input_schema = lambda name: cast(
        "Mapping[str, Any] | None", schemas.get(name)
    )
    return server


if __name__ == "__main__":
    options = parser(__doc__).parse_args()
    host(build(), options, event_store=Events())

"""
What the fixture offers. Names, texts and schemas are the suite's: it looks for exactly these.
"""

from typing import Any, Final

from tests.servers.offers import PIXEL, SILENCE

Json = dict[str, Any]

IMAGE: Final[Json] = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
AUDIO: Final[Json] = {"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}

CAPABILITIES: Final[Json] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
    "logging": {},
}


def text(words: str) -> Json:
    """A text block."""
    return {"type": "text", "text": words}


def form(**properties: str) -> Json:
    """The schema of a form whose fields must all be filled in: name and type of each."""
    fields = {name: {"type": kind} for name, kind in properties.items()}
    return {"type": "object", "properties": fields, "required": list(properties)}


def _tool(name: str, description: str, **properties: Json) -> Json:
    schema: Json = {"type": "object", "properties": properties}
    if properties:
        schema["required"] = list(properties)
    return {"name": name, "description": description, "inputSchema": schema}


SCHEMA_2020_12: Final[Json] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

TOOLS: Final[tuple[Json, ...]] = (
    _tool("test_simple_text", "Returns a text."),
    _tool("test_image_content", "Returns an image."),
    _tool("test_audio_content", "Returns a sound."),
    _tool("test_embedded_resource", "Returns an embedded resource."),
    _tool("test_multiple_content_types", "Returns a text, an image and an embedded resource."),
    _tool("test_tool_with_logging", "Sends three log messages while it runs."),
    _tool("test_logging_tool", "Sends a log message if it may."),
    _tool("test_tool_with_progress", "Reports its progress three times."),
    _tool("test_error_handling", "Always fails."),
    _tool("test_sampling", "Asks the client's model.", prompt={"type": "string"}),
    _tool("test_elicitation", "Asks the user.", message={"type": "string"}),
    _tool("test_streaming_elicitation", "Asks the user."),
    _tool("test_elicitation_sep1034_defaults", "Asks the user, with default values."),
    _tool("test_elicitation_sep1330_enums", "Asks the user, with every kind of enumeration."),
    _tool("test_reconnection", "Ends its event stream before it answers, if it can."),
    _tool(
        "test_x_mcp_header",
        "Takes a parameter that travels as a header too.",
        region={"type": "string", "x-mcp-header": "Region"},
    ),
    _tool("test_missing_capability", "Needs a client that supports sampling."),
    _tool("test_input_required_result_elicitation", "Asks for a name."),
    _tool("test_input_required_result_sampling", "Asks the model."),
    _tool("test_input_required_result_list_roots", "Asks for the roots."),
    _tool("test_input_required_result_request_state", "Asks, and carries state."),
    _tool("test_input_required_result_multiple_inputs", "Asks three questions at once."),
    _tool("test_input_required_result_multi_round", "Asks two questions, one after the other."),
    _tool("test_input_required_result_tampered_state", "Asks, and refuses state it did not issue."),
    _tool("test_input_required_result_capabilities", "Asks only what the client supports."),
    _tool("test_trigger_tool_change", "Changes the list of tools."),
    _tool("test_trigger_prompt_change", "Changes the list of prompts."),
    {
        "name": "json_schema_2020_12_tool",
        "description": "Tool with JSON Schema 2020-12 features",
        "inputSchema": SCHEMA_2020_12,
    },
)
EXTRA_TOOL: Final = _tool("test_extra_tool", "Comes and goes with `test_trigger_tool_change`.")


def _argument(name: str, description: str) -> Json:
    return {"name": name, "description": description, "required": True}


PROMPTS: Final[tuple[Json, ...]] = (
    {"name": "test_simple_prompt", "description": "A text."},
    {
        "name": "test_prompt_with_arguments",
        "description": "A text with two arguments in it.",
        "arguments": [_argument("arg1", "The first."), _argument("arg2", "The second.")],
    },
    {
        "name": "test_prompt_with_embedded_resource",
        "description": "A resource and a text.",
        "arguments": [_argument("resourceUri", "The resource to embed.")],
    },
    {"name": "test_prompt_with_image", "description": "An image and a text."},
    {"name": "test_input_required_result_prompt", "description": "Asks the user first."},
)
EXTRA_PROMPT: Final[Json] = {
    "name": "test_extra_prompt",
    "description": "Comes and goes with `test_trigger_prompt_change`.",
}

RESOURCES: Final[tuple[Json, ...]] = (
    {
        "uri": "test://static-text",
        "name": "Static text",
        "description": "A text.",
        "mimeType": "text/plain",
    },
    {
        "uri": "test://static-binary",
        "name": "Static binary",
        "description": "An image.",
        "mimeType": "image/png",
    },
    {
        "uri": "test://watched-resource",
        "name": "Watched resource",
        "description": "To subscribe to.",
        "mimeType": "text/plain",
    },
)
TEMPLATES: Final[tuple[Json, ...]] = (
    {
        "uriTemplate": "test://template/{id}/data",
        "name": "Template",
        "description": "Data with an id in it.",
        "mimeType": "application/json",
    },
)

DEFAULTS_FORM: Final[Json] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {
            "type": "string",
            "description": "User status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "description": "Verification", "default": True},
    },
    "required": [],
}


def _choices(*titles: str) -> list[Json]:
    return [{"const": f"value{n}", "title": title} for n, title in enumerate(titles, 1)]


ENUMS_FORM: Final[Json] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": _choices("First Option", "Second Option", "Third Option"),
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
        },
        "titledMulti": {
            "type": "array",
            "items": {"anyOf": _choices("First Choice", "Second Choice", "Third Choice")},
        },
    },
    "required": [],
}

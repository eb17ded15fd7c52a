"""
What the `everything` server offers, as raw JSON: every field of the protocol, and some others.

`x-vendor` fields stand at every level. A gateway that drops what it does not know loses them.
"""

from typing import Any, Final

Json = dict[str, Any]

PIXEL: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel, in base64."""

SILENCE: Final = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
"""A WAV without samples, in base64."""

VENDOR: Final[Json] = {"kept": True, "deep": [{"null": None, "big": 12345678901234567890}]}
ICON: Final[Json] = {
    "src": f"data:image/png;base64,{PIXEL}",
    "mimeType": "image/png",
    "sizes": ["1x1"],
    "x-vendor": VENDOR,
}
INFO: Final[Json] = {
    "name": "everything",
    "title": "Everything",
    "version": "1.2.3",
    "websiteUrl": "https://example.com/everything",
    "icons": [ICON],
    "x-vendor": VENDOR,
}
INSTRUCTIONS: Final = "Call `echo` to hear yourself. Call `counters` to see what was received."
CAPABILITIES: Final[Json] = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"listChanged": True, "subscribe": True},
    "completions": {},
    "logging": {},
    "experimental": {"x-vendor": VENDOR},
}


def tool(name: str, description: str, properties: Json | None = None, **further: Any) -> Json:
    """A tool definition; properties whose schema holds `"required": True` must be given."""
    schema: Json = {"type": "object", "properties": {}}
    for key, value in (properties or {}).items():
        schema["properties"][key] = {k: v for k, v in value.items() if k != "required"}
        if value.get("required"):
            schema.setdefault("required", []).append(key)
    return {"name": name, "description": description, "inputSchema": schema, **further}


def needed(kind: str) -> Json:
    """The schema of a property that must be given."""
    return {"type": kind, "required": True}


STRING: Final[Json] = {"type": "string"}
INTEGER: Final[Json] = {"type": "integer"}
NUMBER: Final[Json] = {"type": "number"}

ECHO: Final[Json] = {
    "name": "echo",
    "title": "Echo",
    "description": "Give back the arguments, the `_meta` and every other field of the request.",
    "inputSchema": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"text": {"type": "string", "x-vendor": VENDOR}},
        "additionalProperties": True,
        "x-vendor": VENDOR,
    },
    "outputSchema": {
        "type": "object",
        "properties": {"arguments": {"type": "object"}, "meta": {"type": "object"}},
        "required": ["arguments"],
        "x-vendor": VENDOR,
    },
    "annotations": {
        "title": "Echo",
        "readOnlyHint": True,
        "idempotentHint": True,
        "openWorldHint": False,
        "destructiveHint": False,
        "x-vendor": VENDOR,
    },
    "icons": [ICON],
    "_meta": {"example.com/definition": VENDOR},
    "x-vendor": VENDOR,
}
ROUTED: Final[Json] = tool(
    "routed",
    "Give back a parameter that travels as an HTTP header too, and the headers that came.",
    {"region": {"type": "string", "required": True, "x-mcp-header": "Region"}},
)

TOOLS: Final[tuple[Json, ...]] = (
    ECHO,
    tool("contents", "One block of every content type."),
    tool(
        "slow",
        "Take a while, report every step; `cancelled_calls` shows who was interrupted.",
        {"seconds": NUMBER, "steps": INTEGER, "label": STRING},
    ),
    tool("hold", "Wait until `release` is called with the same key.", {"key": needed("string")}),
    tool("release", "Let every `hold` of this key finish.", {"key": needed("string")}),
    tool("cancelled_calls", "The labels and keys of the calls that were cancelled."),
    tool(
        "log",
        "Emit one log message per level.",
        {"levels": {"type": "array", "items": {"type": "string"}}, "text": STRING},
    ),
    tool(
        "ask",
        "Ask the user: a form, or a URL to visit. `rounds` questions one after the other.",
        {
            "mode": {"type": "string", "enum": ["form", "url"]},
            "message": STRING,
            "rounds": INTEGER,
        },
    ),
    tool("think", "Ask the client's model, and return its whole answer.", {"prompt": STRING}),
    tool("roots", "Ask the client for its roots, and return the whole answer."),
    tool("interview", "Ask the user, the model and for the roots, all in one round."),
    tool("whoami", "The client as this server sees it, and this server's process."),
    tool(
        "grow",
        "Add a tool, a prompt and a resource, and say so.",
        {"name": needed("string"), "quietly": {"type": "boolean"}},
    ),
    tool("shrink", "Remove what `grow` has added, and say so.", {"name": needed("string")}),
    tool("touch", "Change a resource, and tell its subscribers.", {"uri": needed("string")}),
    tool("fail", "Answer with `isError`.", {"message": STRING}),
    tool(
        "raise_error",
        "Answer with a JSON-RPC error.",
        {"code": INTEGER, "message": STRING, "data": {}},
    ),
    tool("big", "A text of this many bytes.", {"bytes": needed("integer")}),
    tool("crash", "End this process at once.", {"code": INTEGER}),
    tool("counters", "What this process has received so far."),
    ROUTED,
)

PROMPTS: Final[tuple[Json, ...]] = (
    {
        "name": "greet",
        "title": "Greet",
        "description": "A greeting for somebody.",
        "arguments": [
            {
                "name": "name",
                "title": "Name",
                "description": "Whom to greet.",
                "required": True,
                "x-vendor": VENDOR,
            },
            {"name": "style", "description": "How."},
        ],
        "icons": [ICON],
        "_meta": {"example.com/definition": VENDOR},
        "x-vendor": VENDOR,
    },
    {"name": "plain", "description": "No arguments."},
    {"name": "pictured", "description": "An image and an embedded resource."},
    {"name": "confirmed", "description": "Asks the user first."},
)

STATIC: Final = "note://static"
BLOB: Final = "note://blob"
WATCHED: Final = "note://watched"
ASKING: Final = "note://asking"
RESOURCES: Final[tuple[Json, ...]] = (
    {
        "uri": STATIC,
        "name": "static",
        "title": "Static",
        "description": "A text.",
        "mimeType": "text/markdown",
        "size": 12,
        "annotations": {
            "audience": ["user", "assistant"],
            "priority": 0.5,
            "lastModified": "2026-01-01T00:00:00Z",
            "x-vendor": VENDOR,
        },
        "icons": [ICON],
        "_meta": {"example.com/definition": VENDOR},
        "x-vendor": VENDOR,
    },
    {"uri": BLOB, "name": "blob", "mimeType": "image/png", "size": 70},
    {"uri": WATCHED, "name": "watched"},
    {"uri": ASKING, "name": "asking", "description": "Asks the user first."},
)

TEMPLATES: Final[tuple[Json, ...]] = (
    {
        "uriTemplate": "weather://{city}/{day}",
        "name": "weather",
        "title": "Weather",
        "description": "The weather of a city on a day.",
        "mimeType": "application/json",
        "annotations": {"priority": 1, "x-vendor": VENDOR},
        "icons": [ICON],
        "_meta": {"example.com/definition": VENDOR},
        "x-vendor": VENDOR,
    },
    {"uriTemplate": "user://{id}", "name": "user"},
    {"uriTemplate": "page://{+path}", "name": "page"},
    {"uriTemplate": "search://notes{?q}", "name": "search"},
)

CONTENTS: Final[tuple[Json, ...]] = (
    {
        "type": "text",
        "text": "words",
        "annotations": {"audience": ["user"], "priority": 1, "x-vendor": VENDOR},
        "_meta": {"example.com/block": VENDOR},
        "x-vendor": VENDOR,
    },
    {"type": "image", "data": PIXEL, "mimeType": "image/png", "x-vendor": VENDOR},
    {"type": "audio", "data": SILENCE, "mimeType": "audio/wav", "x-vendor": VENDOR},
    {
        "type": "resource",
        "resource": {
            "uri": STATIC,
            "mimeType": "text/markdown",
            "text": "# A note\n",
            "_meta": {"example.com/contents": VENDOR},
            "x-vendor": VENDOR,
        },
    },
    {
        "type": "resource",
        "resource": {"uri": BLOB, "mimeType": "image/png", "blob": PIXEL},
    },
    {
        "type": "resource_link",
        "uri": WATCHED,
        "name": "watched",
        "title": "Watched",
        "description": "Changes with `touch`.",
        "mimeType": "text/plain",
        "size": 7,
        "icons": [ICON],
        "x-vendor": VENDOR,
    },
)

CITIES: Final = ("Paris", "Pau", "Perth", "Porto", "Prague")
DAYS: Final = {"Paris": ("monday", "tuesday"), "Porto": ("friday", "saturday")}
STYLES: Final = {"Ada": ("formal", "friendly"), "Grace": ("naval",)}

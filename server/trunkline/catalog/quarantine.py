"""
What a provider lists, checked: one malformed item is left out, its neighbours are served.

Clients drop every tool of a server when one of them has a schema they cannot read. So a definition
is passed on as it is only if clients can read it; what can be mended without changing its meaning
is mended, and everything that was done is told in a sentence.
"""

from collections.abc import Callable
from typing import Any, Final

import jsonschema_rs

from trunkline.models import Json, Kind

MAX_DEPTH: Final = 200
"""Levels of nesting a schema may have; clients overflow their stacks beyond that."""

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
KNOWN_DRAFTS: Final = frozenset(
    {
        DRAFT,
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-04/schema",
    }
)

Note = Callable[[str], None]


def check(kind: Kind, item: Any, note: Note) -> Json | None:
    """
    The item as it can be served, or None if it has to be left out.

    *note* hears a sentence for everything that is wrong with it.
    """
    key = {"tools": "name", "prompts": "name", "resources": "uri", "templates": "uriTemplate"}[kind]
    what = kind.removesuffix("s")
    if not isinstance(item, dict):
        note(f"A {what} was left out: it is not an object.")
        return None
    name = item.get(key)
    if not isinstance(name, str) or not name.strip():
        note(f"A {what} was left out: it has no {key}.")
        return None
    label = f"The {what} {_short(name)}"
    checked = _drop_wrong_types(item, label, note)
    return _check_schemas(checked, label, note) if kind == "tools" else checked


_TYPES: Final[dict[str, type]] = {
    "title": str,
    "description": str,
    "annotations": dict,
    "icons": list,
    "_meta": dict,
}


def _drop_wrong_types(item: Json, label: str, note: Note) -> Json:
    wrong = [key for key, kind in _TYPES.items() if key in item and not isinstance(item[key], kind)]
    for key in wrong:
        note(f"{label} is served without its {key}: it has the wrong type.")
    return {key: value for key, value in item.items() if key not in wrong} if wrong else item


def _check_schemas(tool: Json, label: str, note: Note) -> Json | None:
    given = tool.get("inputSchema")
    if given is None:
        note(f"{label} has no inputSchema; it is served with one that accepts any object.")
        tool = {**tool, "inputSchema": {"type": "object"}}
    elif not isinstance(given, dict):
        note(f"{label} was left out: its inputSchema is not an object.")
        return None
    elif "type" not in given:
        note(f'{label} is served with "type": "object" added to its inputSchema.')
        tool = {**tool, "inputSchema": {"type": "object", **given}}
    elif given["type"] != "object":
        note(f"{label} was left out: its inputSchema is of type {given['type']!r}, not 'object'.")
        return None
    if fault := _fault(tool["inputSchema"]):
        note(f"{label} was left out: its inputSchema is no JSON Schema ({fault}).")
        return None
    output = tool.get("outputSchema")
    if output is not None:
        fault = _fault(output) if isinstance(output, dict) else "it is not an object"
        if fault:
            note(f"{label} is served without its outputSchema: it is no JSON Schema ({fault}).")
            tool = {key: value for key, value in tool.items() if key != "outputSchema"}
    return tool


def _fault(schema: Json) -> str | None:
    """What is wrong with a schema, in a few words; None if nothing is."""
    if _deeper_than(schema, MAX_DEPTH):
        return f"it is nested more than {MAX_DEPTH} levels deep"
    dialect = schema.get("$schema", DRAFT)
    if not isinstance(dialect, str):
        return "'$schema' is not a string"
    if dialect.rstrip("#") not in KNOWN_DRAFTS:
        # The validator would fetch an unknown dialect from wherever the server says.
        schema = {**schema, "$schema": DRAFT}
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(step) for step in error.instance_path) or "its root"
        return f"{_short(error.message)} at {where}"
    except (jsonschema_rs.ReferencingError, ValueError) as error:
        return _short(str(error))
    return None


def _deeper_than(value: Any, limit: int) -> bool:
    """Whether JSON is nested deeper than *limit*, found without recursion."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")

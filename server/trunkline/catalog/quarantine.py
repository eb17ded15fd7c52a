"""
What a provider lists, checked: one malformed item is left out, its neighbours are served.

Clients drop a whole list when they cannot read one item of it. So a definition is passed on as it
is only if clients can read it; what can be mended without changing its meaning is mended, and
whatever was done is told in a sentence.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import jsonschema_rs
from pydantic_core import from_json

from trunkline.models import Json, Kind
from trunkline.wire import encode

MAX_DEPTH: Final = 100
"""Levels of nesting an item may have. Common JSON parsers give up at 128, and a reply wraps it."""

KEY_OF: Final[Mapping[Kind, str]] = {
    "tools": "name",
    "prompts": "name",
    "resources": "uri",
    "templates": "uriTemplate",
}
"""The member that says which item is meant."""

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_KNOWN_DRAFTS: Final = frozenset(
    {
        _DRAFT,
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-04/schema",
    }
)

_SHARED: Final[Mapping[str, Any]] = {"title": str, "description": str, "icons": list, "_meta": dict}
_TYPES: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "tools": {**_SHARED, "outputSchema": dict, "execution": dict, "annotations": dict},
    "prompts": {**_SHARED, "arguments": list},
    "resources": {**_SHARED, "mimeType": str, "size": int | float, "annotations": dict},
    "templates": {**_SHARED, "mimeType": str, "annotations": dict},
}
"""The optional members that clients read, and what they have to be."""

_RESOURCE_HINTS: Final = {"audience": list, "priority": int | float, "lastModified": str}
_HINTS: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "tools": {
        "title": str,
        "readOnlyHint": bool,
        "destructiveHint": bool,
        "idempotentHint": bool,
        "openWorldHint": bool,
    },
    "resources": _RESOURCE_HINTS,
    "templates": _RESOURCE_HINTS,
}
"""The same for the members of `annotations`."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")

_Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of checking one item."""

    item: Json | None
    """As it can be served; None if it has to be left out."""

    notes: tuple[str, ...]
    """A sentence for everything that is wrong with it."""


class Quarantine:
    """
    Checks what one provider lists.

    Verdicts are known by the item's content, so listing the same again costs next to nothing.
    """

    def __init__(self, known: Mapping[bytes, Verdict] = MappingProxyType({})) -> None:
        """*known* are the verdicts on what the provider listed before."""
        self._known = known
        self.verdicts: dict[bytes, Verdict] = {}

    def check(self, kind: Kind, item: Any) -> Verdict:
        """Judge one item as it came."""
        try:
            text = encode(item)
            if b"NaN" in text or b"Infinity" in text:
                from_json(text, allow_inf_nan=False)
        except ValueError:
            sentence = f"{_label(kind, item)} was left out: it cannot be written as JSON."
            return Verdict(None, (sentence,))
        key = hashlib.blake2b(text, digest_size=16, person=kind.encode()).digest()
        verdict = self._known.get(key)
        if verdict is None:
            notes: list[str] = []
            verdict = Verdict(_checked(kind, item, text, notes.append), tuple(notes))
        self.verdicts[key] = verdict
        return verdict


def _checked(kind: Kind, item: Any, text: bytes, note: _Note) -> Json | None:
    key, label = KEY_OF[kind], _label(kind, item)
    if not isinstance(item, dict):
        note(f"{label} was left out: it is not an object.")
        return None
    own = item.get(key)
    if not isinstance(own, str) or not own.strip():
        note(f"{label} was left out: it has no {key}.")
        return None
    # Every level begins with a bracket: few brackets need no walk through the levels.
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH and _deeper_than(item, MAX_DEPTH):
        note(f"{label} was left out: it is nested more than {MAX_DEPTH} levels deep.")
        return None
    item = _without_misfits(item, _TYPES[kind], label, note)
    if kind in _HINTS and "annotations" in item:
        hints = _without_misfits(item["annotations"], _HINTS[kind], label, note)
        item = item if hints is item["annotations"] else {**item, "annotations": hints}
    if kind == "tools":
        return _tool(item, label, note)
    return _prompt(item, label, note) if kind == "prompts" else _resource(item, key, label, note)


def _without_misfits(item: Json, types: Mapping[str, Any], label: str, note: _Note) -> Json:
    """The item without optional members that clients cannot read. A null one is as good as none."""
    misfits = [
        key for key, kind in types.items() if key in item and not isinstance(item[key], kind)
    ]
    for key in misfits:
        if item[key] is not None:
            note(f"{label} is served without its {key}: it has the wrong type.")
    return {key: value for key, value in item.items() if key not in misfits} if misfits else item


def _tool(tool: Json, label: str, note: _Note) -> Json | None:
    given = tool.get("inputSchema")
    if given is None:
        note(f"{label} has no inputSchema; it is served with one that accepts any object.")
        given = {"type": "object"}
        tool = {**tool, "inputSchema": given}
    elif not isinstance(given, dict):
        note(f"{label} was left out: its inputSchema is not an object.")
        return None
    elif "type" not in given:
        note(f'{label} is served with "type": "object" added to its inputSchema.')
        given = {"type": "object", **given}
        tool = {**tool, "inputSchema": given}
    elif given["type"] != "object":
        kind = _short(str(given["type"]))
        note(f"{label} was left out: its inputSchema is of type {kind}, not 'object'.")
        return None
    if fault := _fault(given):
        note(f"{label} was left out: its inputSchema is no JSON Schema ({fault}).")
        return None
    if "outputSchema" in tool and (fault := _fault(tool["outputSchema"])):
        note(f"{label} is served without its outputSchema: it is no JSON Schema ({fault}).")
        tool = {key: value for key, value in tool.items() if key != "outputSchema"}
    return tool


def _prompt(prompt: Json, label: str, note: _Note) -> Json:
    for argument in prompt.get("arguments", ()):
        if not isinstance(argument, dict) or not isinstance(argument.get("name"), str):
            note(f"{label} is served without its arguments: one of them has no name.")
            return {key: value for key, value in prompt.items() if key != "arguments"}
    return prompt


def _resource(resource: Json, key: str, label: str, note: _Note) -> Json | None:
    uri = resource[key]
    # A template may begin with an expression that brings the scheme.
    if not _SCHEME.match(uri) and not uri.startswith("{"):
        note(f"{label} was left out: its {key} has no scheme, such as 'file:'.")
        return None
    if not isinstance(resource.get("name"), str):
        note(f"{label} has no name; it is served under its {key}.")
        return {**resource, "name": uri}
    return resource


def _fault(schema: Json) -> str | None:
    """What is wrong with a schema, in a few words; None if nothing is."""
    dialect = schema.get("$schema", _DRAFT)
    if not isinstance(dialect, str):
        return "'$schema' is not a string"
    if dialect.rstrip("#") not in _KNOWN_DRAFTS:
        # The validator would fetch an unknown dialect from wherever the server says.
        schema = {**schema, "$schema": _DRAFT}
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(step) for step in error.instance_path) or "its root"
        return f"{_short(error.message)} at {_short(where)}"
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
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _label(kind: Kind, item: Any) -> str:
    """How a sentence begins that is about an item."""
    own = item.get(KEY_OF[kind]) if isinstance(item, dict) else None
    what = kind.removesuffix("s")
    return f"The {what} {_short(own)}" if isinstance(own, str) and own.strip() else f"A {what}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")

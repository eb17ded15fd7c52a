"""
`key=value` on the command line as JSON, by what the tool's schema says of the key.

A string is taken as it stands; everything else is read as JSON. Where the schema leaves the choice,
the value is JSON if it can be, and a string if it may be.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from trunkline.errors import InvalidArguments
from trunkline.models import Json
from trunkline.wire import decode

ANY: Final = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})

STRING: Final = frozenset({"string"})

NOT_JSON: Final = frozenset({"NaN", "Infinity", "-Infinity"})
"""Words the parser reads as numbers, though no JSON text may hold them."""

DEPTH: Final = 20
"""References and unions that are followed; a schema may refer to itself."""

EXAMPLES: Final = {
    "number": "2.5",
    "integer": "3",
    "boolean": "true",
    "array": '\'["a", "b"]\'',
    "object": "'{\"a\": 1}'",
    "null": "null",
}


def parse_arguments(pairs: Sequence[str], schema: Mapping[str, Any]) -> Json:
    """
    The arguments of a call.

    Raises `InvalidArguments` for what is not `key=value`, a key given twice, a key the schema does
    not have and allows no others, and a value of the wrong type.
    """
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    closed = schema.get("additionalProperties") is False
    arguments: Json = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise InvalidArguments(f"{pair!r} is not an argument. Write key=value.")
        if key in arguments:
            raise InvalidArguments(
                f'{key!r} is given twice. Write several values as JSON: {key}=\'["a", "b"]\'.'
            )
        if closed and key not in properties:
            raise InvalidArguments(f"There is no argument {key!r}.{_instead(key, properties)}")
        arguments[key] = _value(key, text, _types(properties.get(key, True), schema, DEPTH))
    return arguments


def parse_object(text: str) -> Json:
    """The arguments of a call, given as one JSON object. Raises `InvalidArguments`."""
    try:
        value = decode(text)
    except ValueError as error:
        raise InvalidArguments(f"--arguments is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidArguments('--arguments must be a JSON object, such as \'{"city": "Paris"}\'.')
    return value


def _value(key: str, text: str, types: frozenset[str]) -> Any:
    if types == STRING:
        return text
    if text not in NOT_JSON:
        try:
            value = decode(text)
        except ValueError:
            pass
        else:
            if _type_of(value) & types:
                return value
    if "string" in types:
        return text
    wanted = " or ".join(sorted(types))
    example = EXAMPLES[min(types)]
    raise InvalidArguments(f"{key}={text} is not of the type {wanted}. Write {key}={example}.")


def _types(schema: Any, root: Mapping[str, Any], depth: int) -> frozenset[str]:
    """The JSON types a schema admits, as far as that can be told without validating."""
    if not isinstance(schema, dict) or depth == 0:
        return ANY
    types = ANY
    if isinstance(reference := schema.get("$ref"), str):
        types &= _types(_resolve(reference, root), root, depth - 1)
    if isinstance(named := schema.get("type"), str):
        types &= {named}
    elif isinstance(named, list):
        types &= {name for name in named if isinstance(name, str)}
    if isinstance(choices := schema.get("enum"), list):
        types &= _union(_type_of(choice) for choice in choices)
    elif "const" in schema:
        types &= _type_of(schema["const"])
    for union in ("anyOf", "oneOf"):
        if isinstance(parts := schema.get(union), list):
            types &= _union(_types(part, root, depth - 1) for part in parts)
    return types or ANY


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset[str]().union(*sets)


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    """What a reference within the schema points at; True, the schema of anything, if nothing."""
    target: Any = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(target, dict) or key not in target:
            return True
        target = target[key]
    return target


def _type_of(value: Any) -> frozenset[str]:
    if value is None:
        return frozenset({"null"})
    if isinstance(value, bool):
        return frozenset({"boolean"})
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return frozenset({"integer", "number"})
    names = {float: "number", str: "string", list: "array", dict: "object"}
    return frozenset({names[type(value)]})


def _instead(key: str, properties: Mapping[str, Any]) -> str:
    if similar := difflib.get_close_matches(key, properties, n=1):
        return f" Did you mean {similar[0]!r}?"
    return f" There are: {', '.join(properties)}." if properties else " It takes none."

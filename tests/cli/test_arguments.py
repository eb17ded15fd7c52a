"""`key=value` on the command line becomes the JSON a tool's schema asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.cli.arguments import parse_arguments, parse_object
from trunkline.errors import InvalidArguments
from trunkline.wire import encode

SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "force": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "label": {"type": ["string", "null"]},
        "unit": {"$ref": "#/$defs/Unit"},
        "level": {"enum": [1, 2]},
        "node": {"$ref": "#/$defs/Node"},
        "loop": {"$ref": "#/$defs/Loop"},
        "free": {},
    },
    "$defs": {
        "Unit": {"enum": ["m", "km"]},
        "Loop": {"$ref": "#/$defs/Loop"},
        "Node": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "integer"}]},
    },
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("text=123", "123"),
        ("text=", ""),
        ('text="quoted"', '"quoted"'),
        ("text=a=b", "a=b"),
        ("count=3", 3),
        ("count=-3", -3),
        ("count=36893488147419103232", 36893488147419103232),
        ("ratio=2", 2),
        ("ratio=2.5", 2.5),
        ("force=true", True),
        ('tags=["a", "b"]', ["a", "b"]),
        ("limit=null", None),
        ("limit=7", 7),
        ("label=7", "7"),
        ("label=null", None),
        ("unit=km", "km"),
        ("level=2", 2),
        ("node=4", 4),
        ("loop=6", 6),
        ("free=5", 5),
        ("free=five", "five"),
        ("free=NaN", "NaN"),
        ("unheard=[1]", [1]),
    ],
)
def test_a_value_takes_the_type_its_schema_asks_for(pair: str, value: object) -> None:
    arguments = parse_arguments([pair], SCHEMA)

    assert arguments == {pair.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        ("count=many", "count=many is not of the type integer. Write count=3."),
        ("count=2.5", "count=2.5 is not of the type integer. Write count=3."),
        ("force=yes", "force=yes is not of the type boolean. Write force=true."),
        ("limit=x", "limit=x is not of the type integer or null. Write limit=3."),
        ("tags=a", 'tags=a is not of the type array. Write tags=\'["a", "b"]\'.'),
        ("text", "'text' is not an argument. Write key=value."),
        ("=text", "'=text' is not an argument. Write key=value."),
    ],
)
def test_a_value_of_another_type_is_refused_with_an_example(pair: str, sentence: str) -> None:
    with pytest.raises(InvalidArguments) as caught:
        parse_arguments([pair], SCHEMA)

    assert str(caught.value) == sentence


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="'tags' is given twice"):
        parse_arguments(['tags=["a"]', 'tags=["b"]'], SCHEMA)


def test_a_closed_schema_names_the_argument_that_was_meant() -> None:
    closed = {**SCHEMA, "additionalProperties": False}

    with pytest.raises(InvalidArguments, match=r"no argument 'cuont'\. Did you mean 'count'"):
        parse_arguments(["cuont=3"], closed)
    with pytest.raises(InvalidArguments, match="It takes none"):
        parse_arguments(["x=3"], {"properties": {}, "additionalProperties": False})


@given(st.text())
def test_a_string_argument_arrives_as_it_was_typed(text: str) -> None:
    assert parse_arguments([f"text={text}"], SCHEMA) == {"text": text}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values)
def test_any_json_can_be_given_where_the_schema_leaves_the_choice(value: object) -> None:
    text = encode({"v": value}).decode().removeprefix('{"v":').removesuffix("}")

    assert parse_arguments([f"free={text}"], SCHEMA) == {"free": value}


@pytest.mark.parametrize("schema", [{"properties": 7}, {"properties": {"x": 7}}, {}, {"$defs": []}])
def test_a_schema_that_makes_no_sense_is_no_obstacle(schema: dict[str, object]) -> None:
    assert parse_arguments(["x=1"], schema) == {"x": 1}


def test_arguments_can_be_one_json_object() -> None:
    assert parse_object('{"a": [1, 2]}') == {"a": [1, 2]}
    with pytest.raises(InvalidArguments, match=r"--arguments is not JSON: .* column 5"):
        parse_object('{"a":')
    with pytest.raises(InvalidArguments, match="must be a JSON object"):
        parse_object("[1]")

"""An edit changes one thing, and leaves the rest of the text as it was."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.jsonc import JsonSyntaxError, parse
from trunkline.jsonc_edit import NotAnObject, remove_member, set_member

names = st.text(alphabet='ab"\\é\ud83d', max_size=2)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "Infinity" not in json.dumps(value))
objects = st.dictionaries(names, values, max_size=4)
gaps = st.sampled_from(["", " ", "\n", "\n  ", "\t", "// note\n", " /* note */ ", "\r\n", "/*\n*/"])


@st.composite
def jsonc(draw: st.DrawFn) -> str:
    """An object as people might write it: gaps and comments anywhere, trailing commas, twins."""

    def gap() -> str:
        return draw(gaps)

    def write(value: Any, depth: int) -> str:
        if not isinstance(value, dict):
            return json.dumps(value, ensure_ascii=draw(st.booleans()))
        members = [
            f"{gap()}{json.dumps(name)}{gap()}:{gap()}{write(inner, depth + 1)}{gap()}"
            for name, inner in value.items()
        ]
        if members and draw(st.booleans()):
            twin = json.dumps(draw(st.sampled_from(list(value))))
            members.insert(draw(st.integers(0, len(members))), f"{twin}: 0")
        comma = "," if members and draw(st.booleans()) else ""
        return f"{{{','.join(members)}{comma}{gap()}}}"

    return gap() + write(draw(objects), 0) + gap()


def test_a_member_is_added_in_the_manner_of_its_neighbours() -> None:
    text = """\
// mine
{
    "theme": "dark", // do not touch
    "servers": {
        /* the first */
        "a": {"command": "x"} // works
    }
}
"""

    new = set_member(text, ["servers", "b"], {"command": "y", "args": ["-v"]})

    assert (
        new
        == """\
// mine
{
    "theme": "dark", // do not touch
    "servers": {
        /* the first */
        "a": {"command": "x"}, // works
        "b": {
            "command": "y",
            "args": [
                "-v"
            ]
        }
    }
}
"""
    )
    assert remove_member(new, ["servers", "b"]) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", '{\n  "s": {\n    "t": 1\n  }\n}'),
        ('{"a": 1}', '{"a": 1, "s": {"t": 1}}'),
        ('{"a": 1,}', '{"a": 1, "s": {"t": 1},}'),
        ('{"s": {}}', '{"s": {"t": 1}}'),
        ('{"s": {"t": 2}}', '{"s": {"t": 1}}'),
        ('{\r\n\t"a": 1\r\n}', '{\r\n\t"a": 1,\r\n\t"s": {\r\n\t\t"t": 1\r\n\t}\r\n}'),
        ('{\n  "s": {"a": 1}\n}', '{\n  "s": {"a": 1, "t": 1}\n}'),
        ('{\n  "s": {}\n}', '{\n  "s": {\n    "t": 1\n  }\n}'),
        ("{\n  // none\n}", '{\n  // none\n  "s": {\n    "t": 1\n  }\n}'),
        ('{\n "s": {\n  "a": 1}}', '{\n "s": {\n  "a": 1,\n  "t": 1\n }}'),
        ('{\n  "a": 1,\n}', '{\n  "a": 1,\n  "s": {\n    "t": 1\n  },\n}'),
        ('\ufeff{"a": 1}', '\ufeff{"a": 1, "s": {"t": 1}}'),
    ],
)
def test_the_layout_is_kept(text: str, expected: str) -> None:
    assert set_member(text, ["s", "t"], 1) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"t": 1}', "{}"),
        ('{"t": 1, "a": 2}', '{"a": 2}'),
        ('{"a": 2, "t": 1}', '{"a": 2}'),
        ('{"a": 2, "t": 1, "b": 3}', '{"a": 2, "b": 3}'),
        ('{"t": 1, "a": 2, "t": 3}', '{"a": 2}'),
        ('{\n  "a": 2, // two\n  "t": 1\n}', '{\n  "a": 2 // two\n}'),
        ('{\n  "t": 1, // one\n  "a": 2\n}', '{\n  // one\n  "a": 2\n}'),
        ('{\n  // note\n  "t": 1\n}', "{\n  // note\n}"),
        ('{\n  "a": 2,\n  "t": 1,\n}', '{\n  "a": 2,\n}'),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_member_is_removed_with_its_comma_and_its_line(text: str, expected: str) -> None:
    assert remove_member(text, ["t"]) == expected


@given(jsonc(), st.lists(names, min_size=1, max_size=3), values)
def test_whatever_the_text_nothing_else_changes(text: str, path: list[str], value: Any) -> None:
    meant = parse(text).value
    inner = meant
    for name in path[:-1]:
        inner = inner.setdefault(name, {}) if isinstance(inner, dict) else inner
    if not isinstance(inner, dict):
        with pytest.raises(NotAnObject):
            set_member(text, path, value)
        return
    is_new = path[-1] not in inner
    inner[path[-1]] = value

    new = set_member(text, path, value)

    assert parse(new).value == meant
    if is_new:
        assert new.count("note") == text.count("note")


@given(jsonc(), names, values)
def test_removing_what_was_added_restores_the_document(text: str, name: str, value: Any) -> None:
    before = parse(text).value
    before.pop(name, None)

    assert parse(remove_member(text, [name])).value == before
    assert parse(remove_member(set_member(text, [name], value), [name])).value == before


@given(objects, names, values, st.sampled_from([2, 4, "\t"]))
def test_in_a_printed_document_it_restores_every_character(
    document: dict[str, Any], name: str, value: Any, indent: int | str
) -> None:
    document.pop(name, None)
    text = json.dumps(document, indent=indent) + "\n"

    assert remove_member(set_member(text, [name], value), [name]) == text


def test_what_is_no_object_is_not_overwritten() -> None:
    with pytest.raises(NotAnObject, match=r"a\.b"):
        set_member('{"a": {"b": []}}', ["a", "b", "c"], 1)
    with pytest.raises(NotAnObject):
        remove_member("[]", ["a"])


def test_broken_text_is_not_edited() -> None:
    with pytest.raises(JsonSyntaxError):
        set_member('{"a": ', ["b"], 1)

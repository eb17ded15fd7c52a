"""JSON as people write it: what is read, and what is said when it cannot be."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.jsonc import DEPTH_LIMIT, JsonSyntaxError, Node, parse

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(documents, st.sampled_from([None, 0, 2, "\t"]), st.booleans())
def test_everything_that_is_json_is_read_as_json(
    document: Any, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)

    assert parse(text).value == document


def understood(read: Callable[[str], Any], text: str) -> Any:
    """What a reader makes of a text; `Ellipsis` if it refuses it with a place inside."""
    try:
        return read(text)
    except JsonSyntaxError as error:
        return ... if 1 <= error.line <= text.count("\n") + 1 else error
    except ValueError:
        return ...


@given(st.text(alphabet="{}[]\",:\\/*\n 01.eE-truefalsn'#\ufeff\xa0"))
def test_any_text_is_read_as_json_or_refused(text: str) -> None:
    ours, strict = understood(lambda text: parse(text).value, text), understood(json.loads, text)

    assert ours == strict or strict is ...
    assert not isinstance(ours, JsonSyntaxError)


def test_comments_trailing_commas_and_a_byte_order_mark_are_no_errors() -> None:
    text = """\ufeff// first
    { /* a */ "a" /* b */ : [1, 2, /* c */ ], // d
      "url": "http://x/*not a comment*/", }
    // last"""

    assert parse(text).value == {"a": [1, 2], "url": "http://x/*not a comment*/"}


def test_every_value_knows_where_it_stands() -> None:
    text = '{"a": [10, {"b": "x"}], "c": null}'

    def check(node: Node) -> None:
        assert json.loads(text[node.start : node.end]) == node.value
        for inner in (*node.items, *(member.value for member in node.members)):
            check(inner)

    check(parse(text))
    assert [text[member.start] for member in parse(text).members] == ['"', '"']


def test_the_last_of_two_members_with_one_name_counts_and_both_are_kept() -> None:
    root = parse('{"a": 1, "a": 2}')

    member = root.member("a")
    assert member is not None
    assert (root.value, member.value.value) == ({"a": 2}, 2)
    assert [member.value.value for member in root.members] == [1, 2]


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("", 1, 1, "ends where a value was expected"),
        ('{\n  "a": 1', 2, 9, 'Add "}"'),
        ('{\n  "a": [1}', 2, 10, 'The "[" of line 2, column 8 is not closed'),
        ('{\n  "a": 1\n  "b": 2}', 3, 3, 'A comma is missing before "b"'),
        ('{"a": 1,, "b": 2}', 1, 9, "a comma too many"),
        ('{"a" 1}', 1, 6, 'A colon is missing after "a"'),
        ("{'a': 1}", 1, 2, "straight double quotes"),
        ("{“a”: 1}", 1, 2, "straight double quotes"),
        ("{a: 1}", 1, 2, 'write "a"'),
        ('{"a": True}', 1, 7, "write true"),
        ('{"a": NaN}', 1, 7, "not JSON"),
        ('{"a": "C:\\Users"}', 1, 10, "backslash"),
        ('{"a": "x\ny"}', 1, 9, "ends with its line"),
        ('{"a": "x}', 1, 7, "not closed"),
        ('{"a": 1} /* b', 1, 10, "Add */"),
        ('{"a": 1} {', 1, 10, "there is more"),
        ('{"a":\xa01}', 1, 6, r"\xa0"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, line: int, column: int, said: str) -> None:
    with pytest.raises(JsonSyntaxError) as caught:
        parse(text)

    assert said in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_value_that_may_be_a_secret_is_never_shown() -> None:
    with pytest.raises(JsonSyntaxError) as caught:
        parse('{"token": ghp_secret}')

    assert "secret" not in str(caught.value)


def test_endless_nesting_is_refused() -> None:
    assert parse("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT).value

    with pytest.raises(JsonSyntaxError, match="nested deeper"):
        parse("[" * 100_000)

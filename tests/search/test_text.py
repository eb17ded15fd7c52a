"""Every kind of item says what it is, and no definition is too broken to be read."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.models import KINDS, Json, Kind
from trunkline.search.text import LONGEST_DENSE, MOST_PARAMETERS, ItemText

ISSUE: Json = {
    "name": "create_issue",
    "title": "New issue",
    "description": "Open a ticket in a repository.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "repo": {"type": "string", "description": "The owner and the name."},
            "labels": {"type": "array"},
        },
    },
}


def read(definition: Json, kind: Kind = "tools", title: str = "GitHub") -> ItemText:
    return ItemText.of(kind, definition, server="gh", server_title=title)


def test_a_tool_is_embedded_as_one_sentence() -> None:
    assert read(ISSUE).dense == "GitHub: create_issue. Open a ticket in a repository."
    assert read(ISSUE, title="").dense == "gh: create_issue. Open a ticket in a repository."
    assert read({"name": "ping"}).dense == "GitHub: ping"


def test_a_word_counts_by_where_it_stands() -> None:
    terms = read(ISSUE).count_terms()

    assert terms["creat"] == 3.0
    assert terms["issu"] == 4.0  # in the name, and in the title
    assert terms["ticket"] == 1.0
    assert terms["gh"] == terms["github"] == 1.0
    assert terms["repo"] == terms["label"] == terms["owner"] == 0.5
    assert "object" not in terms


def test_a_server_whose_title_says_its_name_again_counts_once() -> None:
    assert read(ISSUE, title="gh").count_terms()["gh"] == 1.0


@pytest.mark.parametrize(
    ("kind", "definition", "terms"),
    [
        (
            "prompts",
            {"name": "review", "arguments": [{"name": "diff", "description": "A patch."}]},
            {"review", "diff", "patch"},
        ),
        (
            "resources",
            {"name": "log", "uri": "file:///var/app.log", "mimeType": "text/plain"},
            {"log", "var", "app", "plain"},
        ),
        (
            "templates",
            {"name": "page", "uriTemplate": "wiki://{space}/{page}", "title": "A page"},
            {"page", "wiki", "space"},
        ),
    ],
)
def test_every_kind_says_what_it_has(kind: Kind, definition: Json, terms: set[str]) -> None:
    assert terms <= read(definition, kind).count_terms().keys()


NONSENSE: list[Any] = [None, True, 7, "text", [], ["x"], {}, {"x": 1}, [None], {"description": 3}]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
def test_what_is_no_text_is_read_as_none(kind: Kind, nonsense: Any) -> None:
    definition = {
        "name": "ping",
        "title": nonsense,
        "description": nonsense,
        "inputSchema": {"properties": nonsense, "required": nonsense},
        "arguments": nonsense,
        "uri": nonsense,
    }

    for broken in (definition, definition | {"inputSchema": nonsense}, {"description": nonsense}):
        text = read(broken, kind)
        assert text.dense.startswith("GitHub")
        assert all(0 < count < 100 for count in text.count_terms().values())


def test_the_rest_of_a_broken_schema_is_read() -> None:
    properties = {"repo": {"description": "The owner."}, "bad": 7, "worse": {"description": []}}

    terms = read({"name": "get", "inputSchema": {"properties": properties}}).count_terms()

    assert {"repo", "owner", "bad", "wors"} <= terms.keys()


def test_what_is_endless_is_cut() -> None:
    endless = "word " * 2_000_000
    many = {f"field{number}": {"description": endless} for number in range(5_000)}

    text = read(
        {"name": "dump", "description": endless, "inputSchema": {"properties": many}},
        title=endless,
    )

    assert len(text.dense) <= LONGEST_DENSE
    assert ": dump. word" in text.dense
    assert "dump" in text.count_terms()
    assert sum(text.count_terms().values()) < 5_000


def test_of_many_parameters_the_first_are_read() -> None:
    properties = {f"field{number}": {} for number in range(MOST_PARAMETERS + 1)}

    terms = read({"name": "get", "inputSchema": {"properties": properties}}).count_terms()

    assert f"field{MOST_PARAMETERS - 1}" in terms
    assert f"field{MOST_PARAMETERS}" not in terms


def test_half_a_surrogate_pair_can_be_embedded_and_hashed() -> None:
    assert read({"name": "a", "description": "bad \ud83d end"}).dense.encode() != b""


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["name", "title", "description", "inputSchema", "arguments", "uri", "uriTemplate", "mimeType"]
)


@settings(deadline=None)
@given(kind=st.sampled_from(KINDS), definition=st.dictionaries(KEYS, JSON), title=st.text())
def test_no_definition_is_an_error(kind: Kind, definition: Json, title: str) -> None:
    text = read(definition, kind, title)

    text.dense.encode()
    assert all(text.count_terms())

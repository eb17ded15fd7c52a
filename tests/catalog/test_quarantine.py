"""Malformed items: each is left out or mended with a sentence, and its neighbours are served."""

from typing import Any

import pytest

from tests.catalog.shelf import Shelf, catalog_of, everybodys, names, tool
from trunkline.catalog.offer import MAX_NOTES, Offer
from trunkline.catalog.quarantine import MAX_DEPTH, Quarantine
from trunkline.models import Json, Kind, Listing

GOOD = tool("good")


def check(kind: Kind, item: Any) -> tuple[Json | None, list[str]]:
    verdict = Quarantine().check(kind, item)
    return verdict.item, list(verdict.notes)


def nested(levels: int) -> Json:
    value: Json = {}
    for _ in range(levels - 1):
        value = {"not": value}
    return value


def with_schema(**schema: Any) -> Json:
    return {"name": "t", "inputSchema": schema}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (None, "not an object"),
        ("tool", "not an object"),
        ([GOOD], "not an object"),
        ({}, "no name"),
        (tool(""), "no name"),
        (tool(" "), "no name"),
        (tool(7), "no name"),
        ({"name": "t", "inputSchema": []}, "not an object"),
        ({"name": "t", "inputSchema": True}, "not an object"),
        (with_schema(type="array"), "of type 'array'"),
        (with_schema(type=["object", "null"]), "not 'object'"),
        (with_schema(type=None), "not 'object'"),
        (with_schema(type="object", properties=[]), "no JSON Schema"),
        (with_schema(type="object", properties={"a": {"type": "int"}}), "properties/a/type"),
        (with_schema(type="object", required="a"), "no JSON Schema"),
        (with_schema(**{"type": "object", "$schema": 7}), "'$schema' is not a string"),
        (
            with_schema(type="object", default=float("nan")),
            "The tool 't' was left out: it cannot be written as JSON",
        ),
        (with_schema(type="object", default=float("-inf")), "cannot be written as JSON"),
        (tool("t", description="\ud800"), "cannot be written as JSON"),
        (tool("t", _meta=nested(MAX_DEPTH)), "nested more than 100 levels"),
    ],
)
def test_a_malformed_tool_is_left_out_with_a_sentence_and_its_neighbours_are_served(
    broken: Any, reason: str
) -> None:
    catalog = catalog_of(Shelf("s", Listing(tools=(tool("before"), broken, tool("after")))))

    assert names(catalog.snapshot.view(None).tools) == ["before", "after"]
    (sentence,) = catalog.snapshot.problems(everybodys("s"))
    assert "left out" in sentence
    assert reason in sentence


@pytest.mark.parametrize("levels", [10_000, 200_000])
@pytest.mark.parametrize("where", ["inputSchema", "outputSchema", "annotations", "x-vendor"])
def test_a_depth_bomb_is_left_out_wherever_it_hides(where: str, levels: int) -> None:
    bomb = tool("bomb", **{where: nested(levels)})
    shelf = Shelf("s", Listing(tools=(bomb, GOOD)))
    catalog = catalog_of(shelf)

    catalog.put(shelf)

    assert catalog.snapshot.view(None).tools == (GOOD,)


def test_nesting_up_to_the_limit_is_served() -> None:
    deep = tool("deep", outputSchema=nested(MAX_DEPTH - 1))

    assert check("tools", deep) == (deep, [])


def test_a_tool_without_a_schema_is_served_with_one_that_accepts_any_object() -> None:
    for missing in ({"name": "t"}, {"name": "t", "inputSchema": None}):
        item, (sentence,) = check("tools", missing)

        assert item == {"name": "t", "inputSchema": {"type": "object"}}
        assert "no inputSchema" in sentence


def test_a_schema_without_a_type_is_served_as_one_of_an_object() -> None:
    item, (sentence,) = check("tools", with_schema(properties={"a": {}}))

    assert item == with_schema(type="object", properties={"a": {}})
    assert "added" in sentence


def test_a_broken_output_schema_costs_the_schema_and_not_the_tool() -> None:
    for broken in ("no", [], {"type": "objekt"}):
        item, (sentence,) = check("tools", tool("t", outputSchema=broken, title="T"))

        assert item == tool("t", title="T")
        assert "without its outputSchema" in sentence


def test_optional_members_of_the_wrong_type_are_dropped_one_by_one() -> None:
    given = tool(
        "t",
        title=7,
        description="kept",
        icons={},
        annotations={"readOnlyHint": "yes", "idempotentHint": True, "x": 1},
        x_vendor="kept",
    )

    item, sentences = check("tools", given)

    assert item == tool(
        "t", description="kept", annotations={"idempotentHint": True, "x": 1}, x_vendor="kept"
    )
    assert [one.partition(" its ")[2].partition(":")[0] for one in sentences] == [
        "title",
        "icons",
        "readOnlyHint",
    ]


def test_optional_members_that_are_null_are_as_good_as_missing() -> None:
    given = tool("t", title=None, description=None, annotations=None, outputSchema=None)

    assert check("tools", given) == (tool("t"), [])


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]},
        {"$schema": "http://json-schema.org/draft-04/schema#", "exclusiveMinimum": True,
         "minimum": 1},
        {"$schema": "https://json-schema.org/draft/2019-09/schema"},
        {"$schema": "https://schemas.invalid/of-our-own"},
        {"properties": {"a": {"$ref": "https://schemas.invalid/a.json"}}},
        {"properties": {"a": {"$ref": "#/nowhere"}}},
        {"$id": "https://schemas.invalid/root", "x-vendor": {"any": "thing"}},
    ],
)  # fmt: skip
def test_schemas_are_judged_by_their_own_draft_and_nothing_is_fetched(schema: Json) -> None:
    item = with_schema(type="object", **schema)

    assert check("tools", item) == (item, [])


def test_a_schema_without_a_draft_is_judged_by_2020_12() -> None:
    item, _ = check("tools", with_schema(type="object", properties={"a": {"items": [{}]}}))

    assert item is None


def test_an_item_that_is_well_is_passed_on_as_the_very_same_object() -> None:
    given = tool("t", annotations={"readOnlyHint": True}, execution={"taskSupport": "optional"})

    item, sentences = check("tools", given)

    assert item is given
    assert sentences == []


@pytest.mark.parametrize(
    ("kind", "broken", "reason"),
    [
        ("prompts", {}, "no name"),
        ("prompts", 1, "not an object"),
        ("resources", {"name": "n"}, "no uri"),
        ("resources", {"uri": "readme", "name": "n"}, "no scheme"),
        ("templates", {"uri": "x:1", "name": "n"}, "no uriTemplate"),
        ("templates", {"uriTemplate": "/{path}", "name": "n"}, "no scheme"),
    ],
)
def test_prompts_and_resources_that_cannot_be_asked_for_are_left_out(
    kind: Kind, broken: Any, reason: str
) -> None:
    item, (sentence,) = check(kind, broken)

    assert item is None
    assert reason in sentence


def test_a_resource_without_a_name_is_served_under_its_uri() -> None:
    item, (sentence,) = check("resources", {"uri": "x:1"})

    assert item == {"uri": "x:1", "name": "x:1"}
    assert "no name" in sentence


def test_a_template_may_take_its_scheme_from_an_expression() -> None:
    given = {"uriTemplate": "{+url}", "name": "any"}

    assert check("templates", given) == (given, [])


def test_a_prompt_with_a_nameless_argument_is_served_without_arguments() -> None:
    for arguments in ([{"name": "a"}, {}], ["a"], {"name": "a"}):
        item, (sentence,) = check("prompts", {"name": "p", "arguments": arguments})

        assert item == {"name": "p"}
        assert "without its arguments" in sentence


def test_the_annotations_of_a_resource_are_not_those_of_a_tool() -> None:
    given = {"uri": "x:1", "name": "n", "annotations": {"priority": "high", "audience": ["user"]}}

    item, (sentence,) = check("resources", given)

    assert item == {"uri": "x:1", "name": "n", "annotations": {"audience": ["user"]}}
    assert "priority" in sentence


def test_a_provider_that_lists_rubbish_without_end_is_told_in_bounded_space() -> None:
    listing = Listing(tools=tuple(tool("") for _ in range(1000)))

    problems = catalog_of(Shelf("s", listing)).snapshot.problems(everybodys("s"))

    assert len(problems) == MAX_NOTES + 1
    assert problems[-1] == "900 more remarks are not shown."


def test_what_was_judged_before_is_not_judged_again_and_what_has_gone_is_forgotten() -> None:
    old = Offer.of(Shelf("s", Listing(tools=(tool("a", title=1), tool("b")))))
    shelf = Shelf("s", Listing(tools=(tool("a", title=1), tool("c"))))

    new = Offer.of(shelf, old)

    kept = old.verdicts.keys() & new.verdicts.keys()
    assert len(kept) == 1
    assert all(new.verdicts[key] is old.verdicts[key] for key in kept)
    assert len(new.verdicts) == 2
    assert new == Offer.of(shelf)


def test_a_definition_that_was_judged_as_one_kind_is_judged_anew_as_another() -> None:
    old = Offer.of(Shelf("s", Listing(prompts=({"name": "n"},))))

    new = Offer.of(Shelf("s", Listing(tools=({"name": "n"},))), old)

    assert new.entries["tools"][0].definition == tool("n")


def test_the_catalog_remembers_what_was_judged() -> None:
    catalog = catalog_of(Shelf("s", Listing(tools=(GOOD,))))
    (before,) = catalog.snapshot.offers

    catalog.put(Shelf("s", Listing(tools=(tool("new"), GOOD))))

    (after,) = catalog.snapshot.offers
    assert [key for key, one in before.verdicts.items() if after.verdicts[key] is one] != []

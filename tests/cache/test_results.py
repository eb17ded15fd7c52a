"""Which results of tools may be kept, for how long, and under what key."""

from itertools import combinations
from typing import Any

import pytest

from trunkline.cache.results import (
    ResultRule,
    canonical,
    is_plain_call,
    may_keep,
    result_key,
    seconds_to_keep,
)

RULE = ResultRule()
LISTED = ResultRule(ttl=10)


def tool(**hints: Any) -> dict[str, Any]:
    return {"name": "tool", "annotations": hints}


@pytest.mark.parametrize(
    ("definition", "rule", "kept"),
    [
        (tool(readOnlyHint=True, idempotentHint=True), RULE, True),
        (tool(readOnlyHint=True), RULE, False),
        (tool(idempotentHint=True), RULE, False),
        (tool(readOnlyHint="yes", idempotentHint=1), RULE, False),
        ({"name": "tool"}, RULE, False),
        ({"name": "tool", "annotations": None}, RULE, False),
        ({"name": "tool"}, LISTED, True),
        (tool(readOnlyHint=True, idempotentHint=True), ResultRule(ttl=0), False),
    ],
)
def test_only_tools_that_read_and_may_be_repeated_or_are_listed(
    definition: dict[str, Any], rule: ResultRule, kept: bool
) -> None:
    assert may_keep(definition, rule) is kept


@pytest.mark.parametrize("key", ["inputResponses", "requestState", "task"])
def test_a_call_that_is_about_more_than_its_arguments_is_not_plain(key: str) -> None:
    assert is_plain_call({"name": "tool", "arguments": {key: 1}})
    assert not is_plain_call({"name": "tool", key: {}})


@pytest.mark.parametrize(
    ("result", "rule", "personal", "seconds"),
    [
        ({"content": []}, RULE, False, 60),
        ({"content": []}, LISTED, False, 10),
        ({"content": [], "isError": True}, LISTED, True, 0),
        ({"content": [], "isError": False}, LISTED, True, 10),
        ({"resultType": "input_required", "inputRequests": {}}, LISTED, True, 0),
        ({"resultType": "task"}, LISTED, True, 0),
        ({"resultType": "complete"}, LISTED, True, 10),
        ({"ttlMs": 5000, "cacheScope": "public"}, RULE, False, 5),
        ({"ttlMs": 500_000, "cacheScope": "public"}, RULE, False, 500),
        ({"ttlMs": 500_000, "cacheScope": "public"}, LISTED, False, 10),
        ({"ttlMs": 5000, "cacheScope": "public"}, LISTED, False, 5),
        ({"ttlMs": 0, "cacheScope": "public"}, LISTED, True, 0),
        ({"ttlMs": -5, "cacheScope": "public"}, LISTED, True, 0),
        ({"ttlMs": 10**18, "cacheScope": "public"}, RULE, True, 86_400),
        ({"ttlMs": float("nan"), "cacheScope": "public"}, RULE, True, 0),
        ({"ttlMs": True, "cacheScope": "public"}, LISTED, True, 10),
        ({"ttlMs": "5000"}, LISTED, True, 10),
        ({"ttlMs": 5000, "cacheScope": "private"}, RULE, False, 0),
        ({"ttlMs": 5000, "cacheScope": "private"}, RULE, True, 5),
        ({"ttlMs": 5000, "cacheScope": "anything"}, RULE, False, 0),
    ],
)
def test_how_long_a_result_is_kept(
    result: dict[str, Any], rule: ResultRule, personal: bool, seconds: float
) -> None:
    assert seconds_to_keep(result, rule, personal=personal) == seconds


def test_everything_json_tells_apart_makes_another_key() -> None:
    arguments: list[Any] = [
        {},
        {"a": 1},
        {"a": 1.0},
        {"a": True},
        {"a": "1"},
        {"a": None},
        {"a": []},
        {"a": {}},
        {"a": 0},
        {"a": -0.0},
        {"a": False},
        {"a": ""},
        {"a": 2**63},
        {"a": 2**63 + 1},
        {"a": "é"},
        {"a": "e\u0301"},
        {"a": "\ud800"},
        {"a": [1, 2]},
        {"a": [2, 1]},
        {"b": 1},
        {"a": 1, "b": 1},
    ]

    for one, other in combinations(arguments, 2):
        assert canonical(one) != canonical(other)


def test_the_order_of_keys_does_not_matter() -> None:
    one = {"a": 1, "b": {"c": [1, {"d": 1, "e": 2}], "f": 2}}
    other = {"b": {"f": 2, "c": [1, {"e": 2, "d": 1}]}, "a": 1}

    assert canonical(one) == canonical(other)


def test_the_tool_its_definition_and_the_credentials_are_part_of_the_key() -> None:
    usual: dict[str, Any] = {
        "tool": "github__search",
        "definition_hash": b"1",
        "arguments": {"q": "x"},
        "scope": "org",
    }
    others: list[dict[str, Any]] = [
        usual | {"tool": "github__read"},
        usual | {"definition_hash": b"2"},
        usual | {"arguments": {"q": "y"}},
        usual | {"scope": "user:1"},
    ]

    assert len({result_key(**call) for call in (usual, *others)}) == 5
    assert result_key(**usual).startswith("github__search:")


def test_no_arguments_and_empty_ones_are_the_same_call() -> None:
    assert result_key(tool="t", definition_hash=b"", arguments=None, scope="") == result_key(
        tool="t", definition_hash=b"", arguments={}, scope=""
    )

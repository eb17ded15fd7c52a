"""What things are called in Redis."""

import pytest

from tests.cache.truth import ACME
from trunkline.cache.keys import (
    GENERATIONS,
    NAMESPACES,
    Address,
    full_pattern,
    generation,
    generations_covered,
)


def test_a_key_has_version_namespace_org_and_the_callers_own_key() -> None:
    assert Address.of("tool", None, "id:123").value == "mcp:cache:v1:tool:{global}:id:123"
    assert Address.of("search", ACME, "q").value == f"mcp:cache:v1:search:{{{ACME}}}:q"


def test_every_key_has_its_org_as_the_hash_tag_of_redis_cluster() -> None:
    address = Address.of("tool", ACME, "{another}")

    own = [key for key in (address.value, *address.generations) if f"{{{ACME}}}" in key]
    everybodys = [key for key in address.generations if "{global}" in key]

    assert len(own) == 3
    assert len(everybodys) == 2
    for key in own:
        assert key[key.index("{") + 1 : key.index("}")] == str(ACME)


def test_what_is_global_depends_on_no_org() -> None:
    assert all("{global}" in key for key in Address.of("tool", None, "key").generations)


def test_two_keys_never_share_a_place() -> None:
    keys = ["a", "a ", "A", "a:b", "x" * 128, "x" * 129, "x" * 130, "\n", "\r\n", "\x00"]

    assert len({Address.of("tool", None, key).value for key in keys}) == len(keys)


def test_long_keys_are_shortened() -> None:
    assert len(Address.of("search", ACME, "q" * 100_000).value) < 120


@pytest.mark.parametrize(
    ("pattern", "full"),
    [
        ("tool:*", "mcp:cache:v1:tool:*"),
        ("mcp:cache:v1:tool:*", "mcp:cache:v1:tool:*"),
        ("mcp:cache:v7:*", "mcp:cache:v7:*"),
        ("*", "mcp:cache:v1:*"),
        ("mcp:other:*", "mcp:cache:v1:mcp:other:*"),
    ],
)
def test_a_pattern_stays_within_the_cache(pattern: str, full: str) -> None:
    assert full_pattern(pattern) == full


@pytest.mark.parametrize(
    ("pattern", "covered"),
    [
        ("mcp:cache:v1:tool:*", [generation("tool", None)]),
        ("mcp:cache:v1:tool:id:1", [generation("tool", None)]),
        ("mcp:cache:v1:tool:{global}:*", [generation("tool", None)]),
        (f"mcp:cache:v1:tool:{{{ACME}}}:*", [generation("tool", ACME)]),
        (f"mcp:cache:v1:tool:{{{ACME}}}:id:1", [generation("tool", ACME)]),
        ("mcp:cache:v1:tool:{6b1f*", [generation("tool", None)]),
        ("mcp:cache:v1:to?l:*", [generation("tool", None), generation("tool_list", None)]),
        ("mcp:cache:v1:tool*", [generation("tool", None), generation("tool_list", None)]),
        ("mcp:cache:v1:s[ek]*", [generation("search", None), generation("skill", None)]),
        ("mcp:cache:v1:*", [generation(namespace, None) for namespace in NAMESPACES]),
        ("mcp:cache:*", [generation(namespace, None) for namespace in NAMESPACES]),
        ("mcp:cache:v0:*", []),
        (f"{GENERATIONS}*", []),
    ],
)
def test_a_pattern_covers_the_generations_of_all_keys_it_could_match(
    pattern: str, covered: list[str]
) -> None:
    assert generations_covered(pattern) == covered

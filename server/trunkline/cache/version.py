"""
Which shape cached values have, and since when.

The version is part of every key. Whoever raises it reads no old value from then on: the old keys
are under names that nobody asks for, expire by themselves, and go at once with `cache clean`.

A migration that changes what a cached value is made of needs a new version. So every migration has
a place in one of the two lists below, and a test refuses one that has none, or that touches a
cached table and claims not to.
"""

from collections.abc import Mapping
from typing import Final

CACHE_VERSION: Final = 1
"""Raised last because: it is the first."""

SHAPES: Final[Mapping[int, tuple[str, ...]]] = {
    1: ("0001_catalog", "0002_skills", "0005_tenants", "0006_skill_cards"),
}
"""By version: the migrations it came with. An entry that was released is never added to."""

SHAPELESS: Final = (
    "0003_outbox",
    "0004_call_statistics",
    "0007_keys",
    "0008_approvals",
    "0009_pins",
    "0010_audit",
    "0011_vault",
    "0012_oauth",
)
"""The migrations that change no cached shape."""

CACHED_TABLES: Final = frozenset(
    {
        "servers",
        "tools",
        "prompts",
        "resources",
        "resource_templates",
        "skill_categories",
        "tool_skill_assignments",
    }
)
"""The tables whose rows cached values are made of, in the schema `mcp`."""

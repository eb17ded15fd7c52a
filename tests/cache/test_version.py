"""Every migration says what it does to cached values, and a version reads no other's."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.cache.redis_server import RedisServer
from tests.cache.test_processes import kept, other
from trunkline.cache.version import CACHE_VERSION, CACHED_TABLES, SHAPELESS, SHAPES

MIGRATIONS: Final = Path(__file__).parents[2] / "sql" / "migrations"

TOUCHES: Final = re.compile(
    r"\b(?:CREATE|ALTER|DROP)\s+TABLE\s+(?:IF\s+(?:NOT\s+)?EXISTS\s+)?(?:ONLY\s+)?mcp\.(\w+)",
    re.IGNORECASE,
)


def complaints(folder: Path, shapes: dict[int, Sequence[str]], shapeless: Sequence[str]) -> str:
    """What is wrong with the lists of version.py, given the migrations in *folder*."""
    files = {
        path.stem: path for path in folder.glob("*.sql") if not path.name.endswith(".down.sql")
    }
    listed = [name for names in (*shapes.values(), shapeless) for name in names]
    wrong = [f"{name} is in no list of version.py" for name in files if name not in listed]
    wrong += [f"{name} is listed and is no migration" for name in listed if name not in files]
    wrong += [f"{name} is listed twice" for name in set(listed) if listed.count(name) > 1]
    for name in shapeless:
        tables = set(TOUCHES.findall(files[name].read_text())) if name in files else set()
        if touched := tables & CACHED_TABLES:
            wrong.append(f"{name} changes {', '.join(sorted(touched))}: raise CACHE_VERSION")
    in_order = [name for _, names in sorted(shapes.items()) for name in names]
    if in_order != sorted(in_order):
        wrong.append("a migration is listed under a version older than its predecessors'")
    return "\n".join(wrong)


def test_every_migration_is_accounted_for_by_the_cache_version() -> None:
    assert complaints(MIGRATIONS, dict(SHAPES), SHAPELESS) == ""
    assert list(SHAPES) == list(range(1, CACHE_VERSION + 1))


@pytest.mark.parametrize(
    ("statement", "is_shapeless", "complaint"),
    [
        ("ALTER TABLE mcp.tools ADD COLUMN price int;", True, "raise CACHE_VERSION"),
        ("alter table if exists only mcp.skill_categories\n  add x int;", True, "raise"),
        ("ALTER TABLE mcp.outbox ADD COLUMN x int;", True, ""),
        ("ALTER TABLE mcp.outbox ADD COLUMN x int;", False, "in no list"),
    ],
)
def test_a_migration_that_changes_cached_rows_needs_a_new_version(
    tmp_path: Path, statement: str, is_shapeless: bool, complaint: str
) -> None:
    (tmp_path / "0001_new.sql").write_text(statement)

    said = complaints(tmp_path, {}, ["0001_new"] if is_shapeless else [])

    assert complaint in said
    assert bool(complaint) == bool(said)


@pytest.mark.anyio
async def test_after_a_new_version_no_old_value_is_read_and_clean_removes_them(
    server: RedisServer,
) -> None:
    async with other(server.url) as old, other(server.url, str(CACHE_VERSION + 1)) as new:
        assert await old("ask", "key", "old-shape") == "old-shape"
        await kept(server, "key")

        assert await new("ask", "key", "new-shape") == "new-shape"
        assert await old("ask", "key", "unused") == "old-shape"

        assert list((await new("clean")).keys()) == [str(CACHE_VERSION)]
        assert not list(server.client.scan_iter(f"mcp:cache:v{CACHE_VERSION}:tool*"))
        assert await new("ask", "key", "unused") == "new-shape"

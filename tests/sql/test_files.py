"""The rules that every migration and statement keeps, read off the files."""

import re
from pathlib import Path

import pytest

SQL = Path(__file__).parents[2] / "sql"
MIGRATIONS = sorted((SQL / "migrations").glob("*.sql"))
QUERIES = sorted((SQL / "queries").glob("*.sql"))

every_migration = pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.name)


def statements(path: Path) -> list[str]:
    """The statements of a file, in one line each, without comments."""
    text = re.sub(r"--.*", "", path.read_text())
    return [" ".join(one.split()) for one in text.split(";") if one.strip()]


def test_the_numbers_of_the_migrations_have_no_gap() -> None:
    numbers = [int(path.name[:4]) for path in MIGRATIONS if not path.name.endswith(".down.sql")]

    assert numbers == list(range(1, len(numbers) + 1))


@every_migration
def test_a_migration_can_meet_what_it_makes_or_takes_away(path: Path) -> None:
    for statement in statements(path):
        if statement.startswith(("CREATE", "DROP")):
            assert re.search(r"IF (NOT )?EXISTS", statement), statement
        for clause in re.findall(r"(?:ADD|DROP) COLUMN (?:IF (?:NOT )?EXISTS )?\w+", statement):
            assert "EXISTS" in clause, statement


@every_migration
def test_what_a_migration_deletes_was_put_aside_before(path: Path) -> None:
    kept: set[str] = set()
    for statement in statements(path):
        if match := re.match(r"INSERT INTO mcp\.(\w+)_backup_\d{4}\b", statement):
            kept.add(match[1])
        if match := re.match(r"DELETE FROM mcp\.(\w+)", statement):
            assert match[1] in kept, statement
        if match := re.match(r"DROP TABLE IF EXISTS mcp\.(\w+)", statement):
            # Only a backup may go, once its rows are back.
            assert "_backup_" in match[1], statement
        if match := re.match(r"ALTER TABLE mcp\.(\w+) DROP COLUMN", statement):
            assert match[1] in kept, statement


@every_migration
def test_a_migration_says_what_it_is_and_how_to_go_back(path: Path) -> None:
    text = path.read_text()

    assert text.startswith("-- ")
    if not path.name.endswith(".down.sql"):
        assert f"-- Way back: {path.stem}.down.sql" in text


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.name)
def test_a_statement_has_a_name_of_its_own_and_tells_its_parameters(path: Path) -> None:
    _, *parts = re.split(r"^-- name: (\w+)\n", path.read_text(), flags=re.MULTILINE)
    names, texts = parts[::2], parts[1::2]

    assert len(names) == len(set(names))
    for name, text in zip(names, texts, strict=True):
        comment = "".join(re.findall(r"^--.*\n", text, re.MULTILINE))
        used = set(re.findall(r"\$\d+", re.sub(r"--.*", "", text)))
        assert used == set(re.findall(r"\$\d+", comment)), name
        assert len(statements_of(text)) == 1, name


def statements_of(text: str) -> list[str]:
    return [one for one in re.sub(r"--.*", "", text).split(";") if one.strip()]

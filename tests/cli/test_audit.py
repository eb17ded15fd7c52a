"""`trunkline audit`, run as a program on a real database: read, followed, and verified."""

import asyncio
import json
import subprocess
from typing import Any

import anyio
import asyncpg
import pytest
from tests.cli.conftest import LIMIT, Workplace
from tests.databases import database_of

from trunkline.models import Principal
from trunkline.security.audit.chain import line_of
from trunkline.security.audit.entries import Entries, Event
from trunkline.security.limits.limits import LimitReached
from trunkline.storage.repositories.audit import AuditRepository, AuditRow

pytestmark = pytest.mark.anyio

ADA = Principal(subject="key:1", org="acme", user="ada")
BOB = Principal(subject="key:2", org="globex", user="bob")


def made(entries: Entries | None = None) -> list[AuditRow]:
    """Three things that happened."""
    entries = entries or Entries("http", lambda _: False)
    search: dict[str, Any] = {"server": "github", "own_name": "search", "seconds": 0.0125}
    refused = LimitReached("Too many.", 3)
    return [
        entries.of(Event.ended("tools/call", ADA, result={}, name="github__search", **search)),
        entries.of(Event.ended("tools/call", BOB, error=refused, **search)),
        entries.of(Event.ended("key.create", ADA, name="evil \x1b[31m \0 name")),
    ]


async def store(workplace: Workplace, *rows: AuditRow) -> None:
    connection = await asyncpg.connect(database_of(workplace.folder / "home"))
    try:
        await AuditRepository(connection).add(rows)
    finally:
        await connection.close()


async def by_hand(workplace: Workplace, statement: str) -> None:
    """What somebody does who owns the database and means harm."""
    connection = await asyncpg.connect(database_of(workplace.folder / "home"))
    try:
        await connection.execute(f"ALTER TABLE mcp.audit DISABLE TRIGGER ALL; {statement}")
    finally:
        await connection.close()


async def test_entries_are_shown_oldest_first_and_as_json(workplace: Workplace) -> None:
    empty = workplace.run("audit")
    await store(workplace, *made())

    shown = workplace.run("audit").stdout.splitlines()
    told = json.loads(workplace.run("audit", "--json").stdout)["entries"]

    assert empty.stdout == "There is no such entry.\n"
    assert shown[0].split() == ["At", "Who", "Org", "What", "Outcome", "ms"]
    assert "key:1 ada  acme    tools/call github/search" in shown[1]
    assert "denied (rate_limited)" in shown[2]
    assert "12.5" in shown[1]
    assert [one["action"] for one in told] == ["tools/call", "tools/call", "key.create"]
    assert told[1]["causes"] == [
        {"code": "rate_limited", "reason": "Too many. Try again in 3 seconds."}
    ]
    assert [one["place"] for one in told] == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "places"),
    [
        (("--org", "acme"), [1, 3]),
        (("--who", "bob"), [2]),
        (("--who", "key:*"), [1, 2, 3]),
        (("--what", "github/*"), [1, 2]),
        (("--outcome", "denied"), [2]),
        (("--since", "1h"), [1, 2, 3]),
        (("--since", "2999-01-01"), []),
        (("--limit", "2"), [2, 3]),
        (("--org", "acme", "--what", "key.*"), [3]),
    ],
)
async def test_entries_are_found_by_what_is_asked_for(
    workplace: Workplace, options: tuple[str, ...], places: list[int]
) -> None:
    await store(workplace, *made())

    done = workplace.run("audit", *options, "--json")

    assert [one["place"] for one in json.loads(done.stdout)["entries"]] == places


@pytest.mark.parametrize(
    "options",
    [("--since", "yesterday"), ("--since", "9" * 30 + "w"), ("--limit", "0"), ("--outcome", "no")],
)
def test_what_cannot_be_asked_for_is_a_sentence(
    workplace: Workplace, options: tuple[str, ...]
) -> None:
    done = workplace.run("audit", *options)

    assert done.returncode == 2
    assert "[usage]" in done.stderr
    assert "Traceback" not in done.stderr


async def test_what_comes_is_followed_also_what_comes_late(workplace: Workplace) -> None:
    entries = Entries("http", lambda _: False)
    first, second, third = made(entries)
    await store(workplace, first)
    process = await asyncio.create_subprocess_exec(
        *workplace.command("audit", "--follow", "--json", "--limit", "1"),
        cwd=workplace.folder,
        env=workplace.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        with anyio.fail_after(LIMIT):
            places = [json.loads(await process.stdout.readline())["place"]]
            connection = await asyncpg.connect(database_of(workplace.folder / "home"))
            async with connection.transaction():  # takes the lower number, and is later
                await AuditRepository(connection).add([second])
                await store(workplace, third)
                places.append(json.loads(await process.stdout.readline())["place"])
            await connection.close()
            places.append(json.loads(await process.stdout.readline())["place"])
        process.terminate()
        rest = await process.stdout.read()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

    assert places == [1, 3, 2]
    assert rest == b""


async def test_an_untouched_audit_is_verified_with_its_last_hashes(workplace: Workplace) -> None:
    rows = [*made(), *made()]
    await store(workplace, *rows)

    done = workplace.run("audit", "verify")
    told = json.loads(workplace.run("audit", "verify", "--json").stdout)

    assert (done.returncode, done.stdout) == (0, "6 entries in 2 chains: as they were written.\n")
    assert told["findings"] == []
    assert told["heads"] == {str(row.chain): [3, row.hash.hex()] for row in rows if row.place == 3}


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE mcp.audit SET outcome = 'ok', code = NULL WHERE place = 2", "does not fit"),
        ("UPDATE mcp.audit SET at = at + interval '1 second' WHERE place = 3", "does not fit"),
        ("UPDATE mcp.audit SET causes = '[]' WHERE place = 2", "does not fit"),
        ("DELETE FROM mcp.audit WHERE place = 2", "1 entry is missing before it"),
    ],
)
async def test_what_was_changed_by_hand_is_found(
    workplace: Workplace, statement: str, finding: str
) -> None:
    await store(workplace, *made())
    await by_hand(workplace, statement)

    done = workplace.run("audit", "verify")

    assert done.returncode == 1
    assert finding in done.stdout


async def test_a_file_is_verified_without_a_database(workplace: Workplace) -> None:
    path = workplace.folder / "audit.jsonl"
    lines = [line_of(row, with_hash=True) for row in made()]
    path.write_text("\n".join(lines) + "\n")
    nowhere = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}

    whole = workplace.run("audit", "verify", "--file", str(path), **nowhere)
    path.write_text("\n".join([*lines[:2], lines[2].replace("key.create", "key.list")]) + "\ntorn")
    broken = workplace.run("audit", "verify", "--file", str(path), **nowhere)
    missing = workplace.run("audit", "verify", "--file", "nowhere", **nowhere)

    assert (whole.returncode, whole.stdout) == (0, "3 entries in 1 chain: as they were written.\n")
    assert broken.returncode == 1
    assert "Entry 3 of chain" in broken.stdout
    assert "Line 4 of" in broken.stdout
    assert missing.returncode == 2
    assert "[system_refusal]" in missing.stderr


def test_a_database_that_is_away_is_a_sentence(workplace: Workplace) -> None:
    away = {
        "DATABASE_URL": "postgresql://ada:s3cret@127.0.0.1:1/x",
        "TRUNKLINE_DATABASE__CONNECT_TIMEOUT": "0.2",
    }

    done = workplace.run("audit", **away)

    assert done.returncode == 1
    assert "[storage_unavailable]" in done.stderr
    assert "s3cret" not in done.stderr + done.stdout

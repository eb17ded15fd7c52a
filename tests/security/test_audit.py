"""Who did what, from the call to the table and the file: nothing lost, nothing slow, no secret."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from tests.databases import database_of
from trunkline.background import background
from trunkline.errors import (
    DownstreamUnavailable,
    Forbidden,
    StorageError,
    StorageUnavailable,
    SystemRefusal,
    ToolNotFound,
)
from trunkline.models import LOCAL, Principal
from trunkline.security.audit.audit import DROPPED, Audit, AuditFull
from trunkline.security.audit.chain import Chain, Verification, line_of, row_of
from trunkline.security.audit.entries import Entries, Event
from trunkline.security.audit.lines import AuditFile
from trunkline.security.audit.outlets import AuditTable, Outlet, Place
from trunkline.security.audit.redaction import MOST, redacted
from trunkline.security.limits.limits import LimitReached
from trunkline.settings import AuditSettings, DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.audit import (
    AuditEntries,
    AuditFilter,
    AuditRepository,
    AuditRow,
)

pytestmark = pytest.mark.anyio

LIMIT = 60.0
ROOT = Path(__file__).parents[2]
ADA = Principal(subject="key:ada", org="acme", user="ada")

KILLED = """
import asyncio, sys
from pathlib import Path
from trunkline import logs
from trunkline.models import Principal
from trunkline.security.audit.audit import Audit
from trunkline.security.audit.entries import Event
from trunkline.security.audit.lines import AuditFile
from trunkline.security.audit.outlets import AuditTable
from trunkline.settings import AuditSettings, DatabaseSettings
from trunkline.storage.pool import open_pool
from trunkline.storage.repositories.audit import AuditRepository

async def main(dsn, home):
    who = Principal(subject="key:ada", org="acme", user="ada")
    async with open_pool(dsn, DatabaseSettings()) as database:
        await database.wait_available(30)
        table = AuditTable(AuditRepository(database), lambda: database.is_available)
        places = [table, AuditFile(home / "audit.jsonl")]
        audit = Audit(AuditSettings(queue=10**6), places, home / "audit", face="http")
        number = 0
        async with audit.open():
            while True:
                for _ in range(20):
                    number += 1
                    audit.record(Event.ended("tools/call", who, name=str(number)))
                print(number, flush=True)
                await asyncio.sleep(0.005)

logs.configure("error")
asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


class Sluice:
    """A place that takes what comes while it is open. A test opens and closes it."""

    name = "sluice"

    def __init__(self) -> None:
        self.rows: list[AuditRow] = []
        self.error: Exception | None = None
        self.wrote = asyncio.Event()

    async def write(self, rows: Sequence[AuditRow]) -> None:
        if self.error is not None:
            raise self.error
        self.rows += rows
        self.wrote.set()


async def until(holds: Callable[[], Any]) -> None:
    with anyio.fail_after(LIMIT):
        while not holds():  # noqa: ASYNC110 - a table and a file set no event of ours
            await asyncio.sleep(0.005)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_pool(database_of(tmp_path), DatabaseSettings()) as database:
        await database.wait_available(LIMIT)
        yield database


def table_of(database: Database) -> AuditTable:
    return AuditTable(AuditRepository(database), lambda: database.is_available)


def audit_of(home: Path, *places: Place, **settings: Any) -> Audit:
    return Audit(AuditSettings(**settings), places, home / "audit", face="http")


def call(number: int = 0, principal: Principal = ADA, **values: Any) -> Event:
    return Event.ended("tools/call", principal, name=str(number), **values)


def rows_in(path: Path) -> list[AuditRow]:
    return [row_of(line) for line in path.read_bytes().splitlines()]


def verified(rows: Sequence[AuditRow]) -> Verification:
    seen = Verification()
    for row in rows:
        seen.see(row)
    return seen


async def stored(database: Database) -> list[AuditRow]:
    return await AuditEntries(database).find(None, AuditFilter(), 100_000)


def entry(event: Event, *, keeps: bool = False) -> AuditRow:
    return Entries("http", lambda _: keeps).of(event)


# -- what an entry says ---------------------------------------------------------------------------


def test_an_entry_says_who_did_what_to_what_and_how_it_went() -> None:
    arguments = {"b": [1, 1.0, True], "a": "ä"}
    event = Event.ended(
        "tools/call",
        ADA,
        result={"content": []},
        server="github",
        own_name="search",
        name="github__search",
        arguments=arguments,
        seconds=0.0123456,
        request="7",
    )

    row = entry(event)

    assert (row.subject, row.user, row.org, row.role) == ("key:ada", "ada", "acme", "user")
    assert (row.server, row.own_name, row.name) == ("github", "search", "github__search")
    assert (row.action, row.outcome, row.code) == ("tools/call", "ok", None)
    assert (row.duration_ms, row.request, row.face) == (12.346, "7", "http")
    assert row.arguments_hash == sha256('{"a":"ä","b":[1,1.0,true]}'.encode()).digest()
    assert row.arguments is None


def chained() -> DownstreamUnavailable:
    """An error with causes of ours and of others."""
    try:
        try:
            try:
                raise ConnectionRefusedError("/secret/path")
            except OSError as error:
                raise StorageUnavailable("The database does not answer.") from error
        except StorageError as error:
            raise DownstreamUnavailable("github", "it is away") from error
    except DownstreamUnavailable as error:
        return error


@pytest.mark.parametrize(
    ("error", "outcome", "code", "causes"),
    [
        (chained(), "failed", "downstream_unavailable", 2),
        (LimitReached("Too many.", 1), "denied", "rate_limited", 1),
        (Forbidden("Not yours."), "denied", "forbidden", 1),
        (ToolNotFound("x"), "failed", "tool_not_found", 1),
        (AuditFull("Full."), "denied", "audit_full", 1),
        (asyncio.CancelledError(), "cancelled", "cancelled", 0),
        (ZeroDivisionError("/secret/path"), "failed", "unexpected", 0),
    ],
)
def test_an_error_says_how_it_ended_and_what_was_behind_it(
    error: BaseException, outcome: str, code: str, causes: int
) -> None:
    row = entry(call(error=error))

    assert (row.outcome, row.code) == (outcome, code)
    assert len(row.causes or ()) == causes
    assert "/secret/path" not in line_of(row)


def test_a_tools_own_error_is_told_apart_with_its_code() -> None:
    bare = entry(call(result={"content": [], "isError": True}))
    ours = entry(
        call(result={"isError": True, "_meta": {"trunkline/error": {"code": "not_found"}}})
    )

    assert (bare.outcome, bare.code) == ("tool_error", None)
    assert (ours.outcome, ours.code) == ("tool_error", "not_found")


@pytest.mark.parametrize(
    "arguments",
    [
        {"number": float("nan"), "other": float("inf")},
        {"half": "\ud800", "\udfff": "key", "nul": "\0"},
        {"huge": "x" * 5_000_000},
        {"many": list(range(200_000))},
        {"big": 2**4000},
        {"no json": object(), 5: "a key that is no text", "x": {1, 2}},
        {},
    ],
    ids=["nan", "surrogates", "huge", "many", "big", "no-json", "empty"],
)
@pytest.mark.parametrize("keeps", [True, False])
async def test_whatever_arguments_there_are_they_are_entered(
    database: Database, tmp_path: Path, arguments: Any, keeps: bool
) -> None:
    places = [table_of(database), AuditFile(tmp_path / "audit.jsonl")]
    audit = Audit(
        AuditSettings(), places, tmp_path / "audit", face="http", keeps_arguments=lambda _: keeps
    )

    async with audit.open():
        audit.record(call(1, arguments=arguments))
        audit.record(call(2))

    rows = await stored(database)
    assert [row.name for row in rows] == ["1", "2"]
    assert verified(rows).findings == []
    assert verified(rows_in(tmp_path / "audit.jsonl")).findings == []
    assert rows[0].arguments is None or len(json.dumps(rows[0].arguments)) <= MOST


def deep(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"deeper": [value]}
    return value


def test_arguments_that_are_too_deep_are_left_out() -> None:
    row = entry(call(arguments=deep(5_000)), keeps=True)

    assert row.arguments_hash is None
    assert row.arguments == {"trunkline/omitted": "more than 2,000 values"}


def test_names_and_sentences_that_a_client_chose_are_bounded_and_storable() -> None:
    long = "\0\ud800" + "x" * 1_000_000

    row = entry(Event.ended("tools/call", ADA, name=long, own_name=long + "y", error=None))

    assert all(len(text or "") < 600 for text in (row.name, row.own_name))
    line_of(row).encode()
    for text in (row.name, row.own_name):
        assert text is not None
        assert "\0" not in text
        text.encode()


def test_what_was_asked_for_is_entered_without_the_secrets_in_it() -> None:
    uri = "postgresql://ada:s3cret@db/notes"

    row = entry(Event.ended("resources/read", ADA, name=uri, own_name=uri, error=ToolNotFound(uri)))

    assert "s3cret" not in line_of(row)
    assert row.name == row.own_name == "postgresql://ada:***@db/notes"


def test_kept_arguments_hold_no_secret() -> None:
    secrets = {
        "password": "hunter2hunter2",
        "apiKey": "abc",
        "API-Key": ["a", "b"],
        "nested": {"Authorization": {"deep": "secret"}, "list": [{"refresh_token": 5}]},
        "text": "use Bearer abcdefgh12345678 for it",
        "key in text": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "sk": "sk-proj-abcdefghijklmnop1234",
        "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijk",
        "url": "postgresql://ada:s3cret@db/x",
        "pem": "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
        "long": "a1" * 30,
    }

    text = json.dumps(redacted(secrets))

    for secret in (
        *("hunter2", "abc", '"a"', "deep", "12345678", "uvwxyz", "proj-", "eyJ", "s3cret"),
        *("MIIEow", "a1a1a1"),
    ):
        assert secret not in text.replace("apiKey", ""), secret


def test_kept_arguments_keep_what_is_no_secret() -> None:
    plain = {
        "author": "Ada Lovelace",
        "query": "open issues about tokens and passwords",
        "limit": 20,
        "ratio": 0.5,
        "deep": [{"path": "src/main.py", "draft": False, "none": None}],
        "password": None,
        "id": "2c1f7a52-90c1-4b9e-8f0e-0d6a3f1f8a11",
    }

    assert redacted(plain) == plain


# -- the chain ------------------------------------------------------------------------------------


def rows_of(count: int) -> list[AuditRow]:
    chain = Entries("http", lambda _: False)
    return [chain.of(call(number)) for number in range(count)]


def test_an_untouched_chain_is_as_it_was_written() -> None:
    rows = rows_of(50)

    seen = verified([row_of(line_of(row, with_hash=True)) for row in rows])

    assert (seen.entries, seen.findings, seen.beheaded) == (50, [], 0)
    assert seen.heads == {rows[0].chain: (50, rows[-1].hash)}


@pytest.mark.parametrize("place", [0, 1, 25, 49])
@pytest.mark.parametrize(
    "change",
    [{"outcome": "ok", "code": "x"}, {"subject": "key:eve"}, {"hash": bytes(32)}, {"name": None}],
    ids=["outcome", "subject", "hash", "name"],
)
def test_a_changed_entry_is_found(place: int, change: dict[str, Any]) -> None:
    rows = rows_of(50)
    for name, value in change.items():
        setattr(rows[place], name, value)

    (finding, *others) = verified(rows).findings

    assert f"Entry {place + 1} of chain" in finding
    assert len(others) == (1 if "hash" in change and place < 49 else 0)


def test_entries_that_are_missing_are_counted_and_a_missing_beginning_is_told() -> None:
    rows = rows_of(50)

    assert "3 entries are missing before it" in verified(rows[:10] + rows[13:]).findings[0]
    beheaded = verified(rows[10:])
    assert (beheaded.findings, beheaded.beheaded) == ([], 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"place":1', '"place":"1"'),
        ('"place":1', '"place":1,"unheard-of":2'),
        ('"hash":"', '"hash":"x'),
        ('"at":"2', '"at":"x'),
        ('"at"', '"when"'),
        ("{", "["),
    ],
)
def test_a_line_that_is_no_entry_is_told_apart(old: str, new: str) -> None:
    line = line_of(rows_of(1)[0], with_hash=True)
    assert row_of(line).place == 1

    with pytest.raises(ValueError, match=r"\S"):
        row_of(line.replace(old, new, 1))


def test_an_entry_that_was_put_between_is_found() -> None:
    rows = rows_of(9)
    forged = Chain().add(at=rows[3].at, action="x", outcome="ok", face="http")
    forged.chain, forged.place = rows[0].chain, 5

    assert verified([*rows[:4], forged, *rows[5:]]).findings


def test_a_clock_that_is_set_back_begins_a_new_chain() -> None:
    entries = Entries("http", lambda _: False)
    times = [1000.0, 1001.0, 1000.9, 500.0, 501.0, 502.0]

    rows = [entries.of(Event(action="x", principal=None, at=at)) for at in times]

    assert len({row.chain for row in rows}) == 2
    assert verified(rows).findings == []
    for chain in {row.chain for row in rows}:
        mine = [row.at for row in rows if row.chain == chain]
        assert mine == sorted(mine)


# -- from the call to the table and the file ------------------------------------------------------


async def test_what_is_recorded_is_in_the_table_and_in_the_file(
    database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "logs" / "audit.jsonl"

    async with audit_of(tmp_path, table_of(database), AuditFile(file)).open() as audit:
        for number in range(1_234):
            audit.record(call(number, arguments={"number": number}, seconds=0.01))
        await until(lambda: file.exists() and len(rows_in(file)) == 1_234)

    rows = await stored(database)
    assert [row.name for row in rows] == [str(number) for number in range(1_234)]
    for row in rows:
        row.id = 0
    assert rows == rows_in(file)
    assert verified(rows).findings == []
    assert file.stat().st_mode & 0o777 == 0o600


async def test_a_burst_of_ten_thousand_is_written_whole_and_once(
    database: Database, tmp_path: Path
) -> None:
    file = AuditFile(tmp_path / "audit.jsonl")

    async with audit_of(tmp_path, table_of(database), file, queue=20_000).open() as audit:
        for number in range(10_000):
            audit.record(call(number))
            if number % 1_000 == 0:
                await asyncio.sleep(0.01)

    names = [str(number) for number in range(10_000)]
    assert [row.name for row in await stored(database)] == names
    assert [row.name for row in rows_in(file.path)] == names
    assert not list((tmp_path / "audit").glob("*"))


async def test_a_file_that_is_rotated_or_torn_is_gone_on_with(tmp_path: Path) -> None:
    file, older = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    place = AuditFile(file)
    rows = rows_of(30)

    await place.write(rows[:10])
    file.rename(older)
    await place.write(rows[10:20])
    with file.open("ab") as torn:
        torn.write(b'{"at":"2026')
    await place.write(rows[20:])

    assert verified(rows_in(older)).findings == []
    lines = file.read_bytes().splitlines()
    assert lines.pop(10) == b'{"at":"2026'
    assert verified([row_of(line) for line in lines]).findings == []
    assert len(lines) == 20


async def test_whoever_is_stopped_while_writing_to_the_file_knows_that_it_was_written(
    tmp_path: Path,
) -> None:
    file, rows, is_known = AuditFile(tmp_path / "audit.jsonl"), rows_of(3), False

    with anyio.CancelScope() as scope:
        scope.cancel()
        await file.write(rows)
        is_known = True

    assert is_known
    assert rows_in(file.path) == rows


async def test_a_folder_that_cannot_be_written_to_holds_up_the_file_alone(
    database: Database, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    file = blocked / "audit.jsonl"

    with capture_logs() as logs:
        async with audit_of(tmp_path, table_of(database), AuditFile(file)).open() as audit:
            audit.record(call(1))
            await until(lambda: audit.trouble is not None)
            blocked.unlink()
            await until(lambda: file.exists() and audit.trouble is None)

    assert isinstance(audit.trouble, SystemRefusal | None)
    assert (
        [row.name for row in await stored(database)] == ["1"] == [row.name for row in rows_in(file)]
    )
    said = [line["event"] for line in logs if line["event"].startswith("audit.")]
    assert said == ["audit.waiting", "audit.written"]


async def test_entries_that_are_old_enough_go_by_themselves(
    database: Database, tmp_path: Path
) -> None:
    repository, entries = AuditRepository(database), Entries("http", lambda _: False)
    now, day = time.time(), 24 * 3600
    ages = [40, 31, 29, 0]
    events = [Event(action="x", principal=ADA, name=str(age), at=now - age * day) for age in ages]
    await repository.add([entries.of(event) for event in events])

    async with background() as group:
        group.start_soon(
            audit_of(tmp_path, keep_days=30).keep_young, repository, lambda: database.is_available
        )
        with anyio.fail_after(LIMIT):
            while len(await stored(database)) == len(ages):  # noqa: ASYNC110 - nor does this
                await asyncio.sleep(0.005)

    assert [row.name for row in await stored(database)] == ["29", "0"]


# -- while nothing can be written -----------------------------------------------------------------


async def test_while_the_database_is_away_entries_wait_and_are_then_written(
    tmp_path: Path,
) -> None:
    sluice = Sluice()
    sluice.error = StorageUnavailable("The database does not answer.")

    async with audit_of(tmp_path, sluice).open() as audit:
        for number in range(100):
            audit.record(call(number))
        await until(lambda: audit.trouble is not None)
        sluice.error = None
        await until(lambda: len(sluice.rows) == 100)

    assert [row.name for row in sluice.rows] == [str(number) for number in range(100)]
    assert verified(sluice.rows).findings == []


async def test_what_cannot_be_written_at_the_end_is_written_by_the_next_start(
    tmp_path: Path, database: Database
) -> None:
    away = AuditTable(AuditRepository(database), lambda: False)
    file = AuditFile(tmp_path / "audit.jsonl")
    async with audit_of(tmp_path, away, file).open() as audit:
        for number in range(700):
            audit.record(call(number))
        await until(lambda: audit.trouble is not None)

    assert await stored(database) == []
    (kept,) = (tmp_path / "audit").glob("*")
    assert kept.stat().st_mode & 0o777 == 0o600
    async with audit_of(tmp_path, table_of(database), file).open() as audit:
        audit.record(call(700))
        await until(lambda: not kept.exists())

    rows = await stored(database)
    assert [row.name for row in rows] == [str(number) for number in range(701)]
    assert verified(rows).findings == []
    assert len(rows_in(file.path)) == 701


class Mire:
    """A place that never answers."""

    name = "mire"

    async def write(self, rows: Sequence[AuditRow]) -> None:
        await asyncio.Event().wait()


async def test_a_place_that_hangs_holds_up_neither_the_others_nor_the_end(tmp_path: Path) -> None:
    sluice = Sluice()

    with anyio.fail_after(LIMIT):
        async with audit_of(tmp_path, Mire(), sluice).open() as audit:
            audit.record(call(1))
            await sluice.wrote.wait()
            audit.record(call(2))

    (kept,) = (tmp_path / "audit").glob("*.mire.jsonl")
    assert [row.name for row in rows_in(kept)] == ["1", "2"]
    assert [row.name for row in sluice.rows] == ["1", "2"]


async def test_two_processes_that_take_in_one_spool_enter_it_once(
    tmp_path: Path, database: Database
) -> None:
    away = AuditTable(AuditRepository(database), lambda: False)
    async with audit_of(tmp_path, away).open() as audit:
        audit.record(call(1))
        audit.record(call(2))

    one, other = (audit_of(tmp_path, table_of(database)) for _ in range(2))
    async with one.open(), other.open():
        await until(lambda: not list((tmp_path / "audit").glob("*")))

    assert [row.name for row in await stored(database)] == ["1", "2"]


async def test_a_spool_that_cannot_be_read_is_told_of_and_left(
    tmp_path: Path, database: Database
) -> None:
    (tmp_path / "audit").mkdir()
    spool = tmp_path / "audit" / "x.table.jsonl"
    spool.write_text("no entry\n")

    with capture_logs() as logs:
        async with audit_of(tmp_path, table_of(database)).open() as audit:
            audit.record(call(1))
            await until(lambda: logs)

    assert [line["event"] for line in logs] == ["audit.spool_unreadable"]
    assert spool.exists()
    assert len(await stored(database)) == 1


async def test_when_the_queue_is_full_calls_wait_for_room(tmp_path: Path) -> None:
    sluice = Sluice()
    sluice.error = StorageUnavailable("The database does not answer.")
    went_on: list[int] = []

    async with audit_of(tmp_path, sluice, queue=10, patience=LIMIT).open() as audit:
        for number in range(10):
            audit.record(call(number))
        await until(lambda: audit.trouble is not None)

        async def one(number: int) -> None:
            await audit.room(ADA)
            went_on.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(one(number))
            await audit.room(LOCAL)
            for _ in range(5):
                await asyncio.sleep(0)
            assert went_on == []
            sluice.error = None

    assert sorted(went_on) == list(range(20))


async def test_a_call_that_finds_no_room_in_time_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    sluice = Sluice()
    sluice.error = StorageUnavailable("The database does not answer.")

    async with audit_of(tmp_path, sluice, queue=1, patience=0.05).open() as audit:
        audit.record(call())
        await until(lambda: audit.trouble is not None)
        with pytest.raises(AuditFull, match=r"does not answer\. Nothing was run") as raised:
            await audit.room(ADA)

    assert raised.value.code == "audit_full"


@pytest.mark.parametrize(("overflow", "kept"), [("drop", 10), ("slow", 20)])
async def test_what_is_beyond_the_bound_is_counted_and_said_once(
    tmp_path: Path, overflow: str, kept: int
) -> None:
    sluice = Sluice()
    sluice.error = StorageUnavailable("The database does not answer.")
    before = _dropped()

    with capture_logs() as logs:
        async with audit_of(tmp_path, sluice, queue=10, overflow=overflow).open() as audit:
            for number in range(100):
                audit.record(call(number))
            if overflow == "drop":
                await audit.room(ADA)
            sluice.error = None

    assert _dropped() - before == 100 - kept
    assert [row.name for row in sluice.rows] == [str(number) for number in range(kept)]
    assert [line["event"] for line in logs].count("audit.dropping") == 1


def _dropped() -> float:
    (metric,) = DROPPED.collect()
    return metric.samples[0].value


async def test_an_entry_that_is_never_taken_holds_up_nobody_else(
    tmp_path: Path, database: Database
) -> None:
    table, rows = table_of(database), rows_of(9)
    rows[4].outcome = "unheard of"  # pyright: ignore[reportAttributeAccessIssue]
    outlet = Outlet(table, tmp_path, lambda: None)
    outlet.add(rows)
    with capture_logs() as logs:
        await outlet.write_all()

    assert [row.place for row in await stored(database)] == [1, 2, 3, 4, 6, 7, 8, 9]
    assert [line["event"] for line in logs] == ["audit.refused"]


async def test_a_killed_process_loses_no_more_than_its_last_moment(
    tmp_path: Path, database: Database
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, database_of(tmp_path), str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "server")},
    )
    told: list[int] = []
    try:
        assert process.stdout is not None
        with anyio.fail_after(LIMIT):
            while not told or told[-1] < 3_000:
                told.append(int(await process.stdout.readline()))
            process.send_signal(signal.SIGKILL)
            rest = await process.stdout.read()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    told += [int(line) for line in rest.split()]

    rows, lines = await stored(database), rows_in(tmp_path / "audit.jsonl")

    for found in (rows, lines):
        assert verified(found).findings == []
        assert [row.name for row in found] == [str(n) for n in range(1, len(found) + 1)]
        assert told[-1] - len(found) < 2_500


async def test_a_database_that_restarts_loses_nothing(tmp_path: Path, database: Database) -> None:
    async with audit_of(tmp_path, table_of(database), queue=100_000).open() as audit:
        for number in range(3_000):
            audit.record(call(number))
            if number % 500 == 0:
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                await asyncio.sleep(0.02)
        await until(lambda: database.is_available)

    spooled = [row for path in (tmp_path / "audit").glob("*") for row in rows_in(path)]
    rows = await stored(database)
    assert {int(row.name or -1) for row in (*rows, *spooled)} == set(range(3_000))
    assert verified(rows).findings == []

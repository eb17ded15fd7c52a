"""`trunkline server`, run as a program: what it stores, what it shows, and who follows."""

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from subprocess import CompletedProcess
from typing import Any

import asyncpg
import pytest
from tests.cli.conftest import Workplace
from tests.cli.test_serve import read_until, started
from tests.databases import database_of
from tests.journeys.raw_client import RawClient, raw_client
from tests.servers.processes import stdio_entry
from tests.storage.participants import servers as running_servers

pytestmark = pytest.mark.anyio

QUICK = 60.0
"""Seconds something may take that takes a fraction of one on an idle machine."""

SECRET = "geheim"
ENTRY = stdio_entry("everything", era="handshake")
EVERYTHING = ("--cwd", ENTRY["cwd"], "--", ENTRY["command"], *ENTRY["args"])
"""The words that add a server of the tests."""

WEB = ("--url", "https://example.com/mcp")
GREETER = '''
from trunkline import Plugin

plugin = Plugin("greeter", summary="Says hello.")


@plugin.tool
def greet(name: str) -> str:
    """Say hello."""
    return f"Hello, {name}!"
'''


@pytest.fixture
def workplace(workplace: Workplace) -> Workplace:
    """With an mcp.json that has no servers; without one, that of Trunkline would be used."""
    workplace.configure({})
    return workplace


def server(workplace: Workplace, *words: str, **more: str) -> CompletedProcess[str]:
    return workplace.run("server", *words, **more)


def done(workplace: Workplace, *words: str, **more: str) -> str:
    """What a command prints that does what it is told."""
    ended = server(workplace, *words, **more)
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    return ended.stdout


def entry_of(workplace: Workplace, *words: str) -> dict[str, Any]:
    """The entry that `add` would store."""
    return json.loads(done(workplace, "add", "new", "--dry-run", *words))


def listed(workplace: Workplace) -> list[dict[str, Any]]:
    return json.loads(done(workplace, "list", "--json"))["servers"]


async def rows(workplace: Workplace, columns: str = "config::text") -> list[str]:
    """What the database has of the servers that were added."""
    connection = await asyncpg.connect(database_of(workplace.folder / "home"))
    try:
        found = await connection.fetch(
            f"SELECT {columns} FROM mcp.servers "
            "WHERE origin = 'api' AND hidden_at IS NULL ORDER BY id"
        )
        return [row[0] for row in found]
    finally:
        await connection.close()


@asynccontextmanager
async def serving(workplace: Workplace) -> AsyncGenerator[RawClient]:
    """A client of a `trunkline serve` of this workplace."""
    with started(workplace, "serve", "--http", ":0", "--log-level", "critical") as process:
        lines = await asyncio.to_thread(read_until, process, "trunkline install")
        async with raw_client(f"{lines[0].rpartition(' ')[2]}/mcp", "handshake") as client:
            yield client


async def names(client: RawClient) -> list[str]:
    return [tool["name"] for tool in (await client.request("tools/list"))["tools"]]


async def until_listed(client: RawClient, name: str, *, there: bool = True) -> None:
    async with asyncio.timeout(QUICK):
        while (name in await names(client)) is not there:  # noqa: ASYNC110 - it is a process
            await asyncio.sleep(0.02)


# -- who follows ----------------------------------------------------------------------------------


async def test_a_trunkline_that_serves_follows_whatever_is_done(workplace: Workplace) -> None:
    async def do(*words: str) -> None:
        await asyncio.to_thread(done, workplace, *words)

    async with serving(workplace) as client:
        await do("add", "new", *EVERYTHING)
        await until_listed(client, "new__echo")
        echoed = await client.structured("new__echo", {"text": "hello"})
        await do("disable", "new")
        await until_listed(client, "new__echo", there=False)
        off = await asyncio.to_thread(listed, workplace)
        await do("enable", "new")
        await until_listed(client, "new__echo")
        await do("add", "new", "--namespace", "other", *EVERYTHING)
        await until_listed(client, "other__echo")
        await until_listed(client, "new__echo", there=False)
        await do("remove", "new")
        await until_listed(client, "other__echo", there=False)

    assert echoed["arguments"] == {"text": "hello"}
    assert [one["disabled"] for one in off] == [True]


async def test_what_is_added_while_nobody_runs_is_there_for_whoever_starts(
    workplace: Workplace,
) -> None:
    added = done(workplace, "add", "new", *EVERYTHING)

    async with serving(workplace) as client:
        await until_listed(client, "new__echo")
        echoed = await client.structured("new__echo", {"text": "hello"})

    assert added.startswith("Added new. ")
    assert echoed["arguments"] == {"text": "hello"}


async def test_the_embedded_database_will_do_and_is_left_as_it_was_found(
    workplace: Workplace,
) -> None:
    home = workplace.folder / "home" / "postgres"
    try:
        done(workplace, "add", "new", *WEB, DATABASE_URL="")
        shown = done(workplace, "list", DATABASE_URL="")

        assert shown.splitlines()[1].split()[0] == "new"
        assert running_servers(home) == []
    finally:
        shutil.rmtree(home, ignore_errors=True)


# -- what is stored -------------------------------------------------------------------------------


async def test_an_entry_is_stored_in_the_words_of_mcp_json_and_as_it_was_written(
    workplace: Workplace,
) -> None:
    authorization = "Authorization: Bearer ${DOCS_TOKEN}"
    rest = ("--sharing", "client", "--transport", "sse", "--namespace", "", "--timeout", "2.5")
    token = {"DOCS_TOKEN": SECRET}
    done(workplace, "add", "docs", *WEB, "--header", authorization, *rest, "--lazy", **token)
    environment = ("--env", "A=", "--env", "B= ${LEVEL:-x}=y ")
    done(workplace, "add", "time", *environment, "--", "mcp-server-time", "--env", "-x", "--", "")

    docs, time = map(json.loads, await rows(workplace))
    assert docs == {
        "url": "https://example.com/mcp",
        "headers": {"Authorization": "Bearer ${DOCS_TOKEN}"},
        "transport": "sse",
        "namespace": "",
        "sharing": "client",
        "timeout": 2.5,
        "lazy": True,
    }
    assert time == {
        "command": "mcp-server-time",
        "args": ["--env", "-x", "--", ""],
        "env": {"A": "", "B": " ${LEVEL:-x}=y "},
    }


async def test_a_variable_need_be_set_only_where_the_server_runs(workplace: Workplace) -> None:
    ended = server(workplace, "add", "docs", *WEB, "--header", "A: ${UNSET_HERE}")

    (stored,) = map(json.loads, await rows(workplace))
    assert ended.returncode == 0
    assert ended.stderr.startswith("Not in this shell: ")
    assert "UNSET_HERE is not set" in ended.stderr
    assert stored["headers"] == {"A": "${UNSET_HERE}"}


async def test_the_same_again_writes_nothing_and_another_takes_its_place(
    workplace: Workplace,
) -> None:
    async def states() -> list[str]:
        return await rows(workplace, "id || ' ' || xmin::text || ' ' || config::text")

    done(workplace, "add", "docs", *WEB)
    first = await states()
    again = done(workplace, "add", "docs", *WEB)
    second = await states()
    other = done(workplace, "add", "docs", "--url", "https://example.com/sse")
    (third,) = await states()

    assert again == "Nothing to change: docs was added like this before.\n"
    assert second == first
    assert other.startswith("Changed docs. ")
    assert third.split()[0] == first[0].split()[0]
    assert "/sse" in third


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["--", "python", "server.py"], "."),
        (["--", "./server.py"], "."),
        (["--", "npx", "-y", "some-server", "--root=data"], "."),
        (["--", "mcp-server-git", "--repository", "."], "."),
        (["--", "npx", "-y", "some-server", "elsewhere.py", "", "=", "x" * 5000], None),
        (["--", "data"], None),
        (["--cwd", "data", "--", "./server.py"], "data"),
        (["--cwd", "made-later", "--", "npx"], "made-later"),
    ],
)
async def test_a_command_runs_in_the_folder_that_its_words_are_about(
    workplace: Workplace, words: list[str], folder: str | None
) -> None:
    (workplace.folder / "server.py").touch()
    (workplace.folder / "data").mkdir()

    entry = entry_of(workplace, *words)

    wanted = None if folder is None else str(workplace.folder / folder)
    assert entry.get("cwd") == wanted
    assert [entry["command"], *entry.get("args", ())] == words[words.index("--") + 1 :]


@pytest.mark.parametrize("cwd", ["/srv/data", "~/data", "${DATA:-/srv}/data"])
async def test_a_folder_that_is_whole_already_stays_as_it_was_written(
    workplace: Workplace, cwd: str
) -> None:
    (workplace.folder / "server.py").touch()

    assert entry_of(workplace, "--cwd", cwd, "--", "python", "server.py")["cwd"] == cwd


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("piped", [False, True])
async def test_an_entry_can_be_read_from_json(
    workplace: Workplace, whole: bool, piped: bool
) -> None:
    entry = {"command": "npx", "cwd": "data", "tools": {"deny": ["b*"]}}
    text = json.dumps({"mcpServers": {"old": {}, "new": entry}} if whole else entry)
    (workplace.folder / "there").mkdir()
    (workplace.folder / "there" / "some.json").write_text(f"{text} // as people write it")

    if piped:
        done(workplace, "add", "new", "--from-json", "-", stdin=text)
    else:
        done(workplace, "add", "new", "--from-json", "there/some.json")

    (stored,) = map(json.loads, await rows(workplace))
    begins = workplace.folder if piped else workplace.folder / "there"
    assert stored == {**entry, "cwd": str(begins / "data")}


# -- what is shown --------------------------------------------------------------------------------


async def test_nothing_secret_is_ever_shown(workplace: Workplace) -> None:
    url = f"https://ada:{SECRET}@example.com:8443/@ada/mcp?key={SECRET}#{SECRET}"
    web = ("--url", url, "--header", f"X-Key: {SECRET}", "--header", "A: Bearer ${TOKEN}")
    program = ("--env", f"KEY={SECRET}", "--env", f"LEVEL=${{L:-{SECRET}}}", "--", "npx", "-y")
    loud = ("--log-level", "debug")

    ended = [
        server(workplace, *words, TOKEN=SECRET)
        for words in (
            ("add", "web", "--dry-run", *loud, *web),
            ("add", "program", "--dry-run", *loud, *program),
            ("add", "web", *loud, *web),
            ("add", "web", *web),
            ("add", "web", *web, "--timeout", "-1"),
            ("add", "web", *web[:2], "--header", SECRET),
            ("add", "program", "--env", SECRET, *program),
            ("add", "program", *program, f"--api-key={SECRET}"),
            ("add", "broken", "--url", f"https://ada:a/{SECRET}@example.com/mcp"),
            ("list",),
            ("list", "--json"),
            ("disable", "web"),
            ("remove", "web"),
        )
    ]

    assert SECRET not in "".join(one.stdout + one.stderr for one in ended)
    assert [one.returncode for one in ended] == [0, 0, 0, 0, 2, 2, 2, 0, 0, 0, 0, 0, 0]
    assert json.loads(ended[0].stdout) == {
        "url": "https://example.com:8443/@ada/mcp?***",
        "headers": {"X-Key": "***", "A": "***${TOKEN}"},
    }
    assert json.loads(ended[1].stdout)["env"] == {"KEY": "***", "LEVEL": "***"}


async def test_the_list_tells_where_servers_are_and_what_is_with_them(workplace: Workplace) -> None:
    assert done(workplace, "list") == "No servers were added.\n"
    done(workplace, "add", "docs", "--url", "http://${SET_THEN}:${PORT:-1}/sse", SET_THEN="a")
    done(workplace, "add", "time", "--", "mcp-server-time", "--local-timezone", "Europe/Paris")
    done(workplace, "disable", "time")
    workplace.configure({"docs": {"command": "${UNSET_HERE}"}, "other": {"command": "x"}})

    docs, time = listed(workplace)
    lines = done(workplace, "list").splitlines()

    assert docs == {
        "name": "docs",
        "transport": "sse",
        "where": "http://${SET_THEN}:${PORT:-1}/sse",
        "disabled": False,
        "shadowed": True,
        "problem": None,
    }
    assert (time["transport"], time["where"]) == ("stdio", "mcp-server-time")
    assert (time["disabled"], time["shadowed"]) == (True, False)
    assert lines[1].endswith("hidden by the server of that name in mcp.json")
    assert lines[2].endswith("disabled")


async def test_a_server_that_cannot_be_used_any_more_is_listed_with_the_reason(
    workplace: Workplace,
) -> None:
    done(workplace, "add", "old", *WEB)
    connection = await asyncpg.connect(database_of(workplace.folder / "home"))
    await connection.execute('UPDATE mcp.servers SET config = \'{"comand": "x"}\'')
    await connection.close()

    (old,) = listed(workplace)

    assert (old["transport"], old["where"]) == (None, "-")
    assert 'Did you mean "command"?' in old["problem"]
    done(workplace, "remove", "old")
    assert listed(workplace) == []


# -- what is refused ------------------------------------------------------------------------------


def refused(workplace: Workplace, words: Sequence[str], code: str, stdin: str = "") -> str:
    """The sentence that a command ends with, having done nothing."""
    ended = server(workplace, *words, stdin=stdin)
    assert ended.stdout == ""
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.endswith(f"[{code}]\n"), ended.stderr
    assert ended.stderr.count("\n") == 1
    again = code in ("server_not_found", "not_storable")
    assert ended.returncode == (1 if again else 2)
    return ended.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], "usage", "--url URL, or -- COMMAND"),
        ([*WEB, "--", "npx"], "usage", "one thing only"),
        (["--env", "KEY", "--", "npx"], "usage", "--env NAME=VALUE"),
        (["--env", "=x", "--", "npx"], "usage", "--env NAME=VALUE"),
        (["--env", "A=1", "--env", "A=2", "--", "npx"], "usage", "'A' is given twice"),
        (["--env", "A=1", "B=2", "--", "npx"], "usage", "--env, once for each"),
        ([*WEB, "--env", "A=1"], "usage", "go with a command"),
        ([*WEB, "--cwd", "x"], "usage", "go with a command"),
        (["--header", "A: b", "--", "npx"], "usage", "--header goes with --url"),
        ([*WEB, "--header", "A=b"], "usage", '--header "NAME: VALUE"'),
        ([*WEB, "--timeout", "nan"], "usage", "--timeout"),
        ([*WEB, "--timeout", "soon"], "usage", "--timeout"),
        ([*WEB, "--transport", "pigeon"], "usage", "--transport"),
        ([*WEB, "--from-json", "-"], "usage", "--from-json says everything"),
        ([*WEB, "--timeout", "0"], "server_invalid", "more than 0 seconds"),
        ([*WEB, "--transport", "stdio"], "server_invalid", "Leave the type out"),
        ([*WEB, "--namespace", "a b"], "server_invalid", "'a_b' would do"),
        ([*WEB, "--header", "A B: c"], "server_invalid", "'A B'"),
        (["--url", "ftp://example.com"], "server_invalid", "http:// or https://"),
        (["--from-json", "no.json"], "system_refusal", "no.json"),
    ],
)
async def test_a_server_that_makes_no_sense_is_refused_with_a_sentence(
    workplace: Workplace, words: list[str], code: str, sentence: str
) -> None:
    assert sentence in refused(workplace, ["add", "new", *words], code)
    assert await rows(workplace) == []


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ('{"command": "x"', "config_syntax", "stdin is not JSON, line 1"),
        ("[]", "config_invalid", "holds no entry of mcp.json"),
        ('{"mcpServers": {"old": {}}}', "config_invalid", "no server 'new'. Those it has: old."),
        ('{"mcpServers": {"new": 1}}', "config_invalid", "holds no entry of mcp.json"),
        ('{"comand": "x"}', "server_invalid", 'Did you mean "command"?'),
        ('{"command": 1, "args": "x", "env": []}', "server_invalid", '"args"'),
        ('{"url": "http://a/mcp", "org": "acme"}', "server_invalid", '"org"'),
    ],
)
async def test_json_that_makes_no_sense_is_refused_with_a_sentence(
    workplace: Workplace, text: str, code: str, sentence: str
) -> None:
    words = ("add", "new", "--from-json", "-")

    assert sentence in refused(workplace, words, code, text)
    assert await rows(workplace) == []


async def test_bytes_that_are_no_text_are_refused_with_a_sentence(workplace: Workplace) -> None:
    (workplace.folder / "some.json").write_bytes(b'{"command": "\xff"}')

    words = ("add", "new", "--from-json", "some.json")

    assert "some.json is not UTF-8" in refused(workplace, words, "config_invalid")


@pytest.mark.parametrize("name", ["", " ", "a\tb", "x" * 41])
async def test_a_name_that_cannot_be_one_is_refused(workplace: Workplace, name: str) -> None:
    refused(workplace, ("add", name, *WEB), "server_invalid")


async def test_a_name_that_is_too_long_to_be_stored_is_refused(workplace: Workplace) -> None:
    refused(workplace, ("add", "x" * 256, "--namespace", "x", *WEB), "not_storable")


@pytest.mark.parametrize("command", ["x", "${UNSET_HERE}"])
async def test_a_server_of_mcp_json_is_changed_there(workplace: Workplace, command: str) -> None:
    workplace.configure({"docs": {"command": command}})

    for words in (("add", "docs", *WEB), ("remove", "docs"), ("disable", "docs")):
        sentence = refused(workplace, words, "server_not_added")
        assert "'docs' comes from mcp.json" in sentence
    assert await rows(workplace) == []


async def test_a_server_that_mcp_json_hides_can_be_taken_away(workplace: Workplace) -> None:
    done(workplace, "add", "docs", *WEB)
    workplace.configure({"docs": {"command": "x"}})

    assert done(workplace, "remove", "docs") == "Removed docs.\n"
    assert listed(workplace) == []


async def test_the_name_of_a_plugin_is_refused(workplace: Workplace) -> None:
    workplace.add_plugin("greeter", GREETER)
    assert "greeter__greet" in workplace.run("list").stdout

    for words in (("add", "greeter", *WEB), ("remove", "greeter"), ("enable", "greeter")):
        sentence = refused(workplace, words, "server_not_added")
        assert "'greeter' comes from the folder of plugins" in sentence
    assert "greeter__greet" in workplace.run("list").stdout


@pytest.mark.parametrize("word", ["remove", "enable", "disable"])
async def test_a_server_that_is_not_there_is_a_sentence_with_those_that_are(
    workplace: Workplace, word: str
) -> None:
    done(workplace, "add", "docs", *WEB)

    assert "Did you mean 'docs'?" in refused(workplace, (word, "dosc"), "server_not_found")


async def test_an_mcp_json_that_cannot_be_read_is_told_of_and_hinders_nothing(
    workplace: Workplace,
) -> None:
    (workplace.folder / "mcp.json").write_text("{")

    ended = server(workplace, "add", "docs", *WEB)

    assert ended.returncode == 0
    assert "[config_syntax]" in ended.stderr
    assert len(await rows(workplace)) == 1

"""
Secrets planted wherever there may be some, everything exercised, and all output searched for them.

What is searched: what every command prints, the log at its most talkative, every answer over HTTP,
the metrics, every file of the home, and every row of the database. Not searched: mcp.json and the
vault's key, which are where the secrets are, and what a tool answers, which is its caller's.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.cli.conftest import Workplace
from tests.databases import database_of
from tests.journeys.raw_client import RawClient, Refused, raw_client
from tests.servers.processes import end_group
from tests.servers.raw_http import Reply, Request, serve

pytestmark = pytest.mark.anyio

LIMIT = 120.0

CANARIES = {
    name: f"canary-{name}-7f3a9"
    for name in (
        *("header", "query", "password", "env", "argument", "option", "file-env"),
        *("database", "qdrant", "embedding", "redis", "client", "vault", "api-key"),
    )
}

PROGRAM = """
import json, os, sys
print("my environment:", dict(os.environ), file=sys.stderr, flush=True)
print("my arguments:", sys.argv, file=sys.stderr, flush=True)
print("this is no message", dict(os.environ), flush=True)
if "--die" in sys.argv:
    print("fatal error: cannot work with", dict(os.environ), sys.argv, file=sys.stderr, flush=True)
    sys.exit(3)
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] == "initialize":
        answer["result"] = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                            "serverInfo": {"name": "program", "version": "1"}}
    elif request["method"] == "tools/list":
        answer["result"] = {"tools": [{"name": "leak", "inputSchema": {"type": "object"}}]}
    else:
        answer["error"] = {"code": -32000, "message": f"failed with {dict(os.environ)} {sys.argv}",
                           "data": {"environment": dict(os.environ)}}
    print(json.dumps(answer), flush=True)
"""


async def echo_in_errors(request: Request, reply: Reply) -> None:
    """An MCP server that says in every error what it was told."""
    said = f"I was told {dict(request.headers)} at {request.path}"
    if request.method != "POST" or "id" not in request.message:
        await reply.whole(405 if request.method == "GET" else 202)
    elif request.message["method"] == "initialize":
        greeting: dict[str, Any] = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}, "resources": {}},
            "serverInfo": {"name": "echo", "version": "1"},
        }
        await reply.result(request, greeting)
    elif request.message["method"] == "tools/list":
        tool = {"name": "leak", "inputSchema": {"type": "object"}}
        await reply.result(request, {"tools": [tool]})
    else:
        error = {"code": -32000, "message": said, "data": {"headers": dict(request.headers)}}
        message = {"jsonrpc": "2.0", "id": request.message["id"], "error": error}
        await reply.json(message)


async def refuse(request: Request, reply: Reply) -> None:
    """Anything over HTTP that refuses whatever it is told, and repeats it."""
    said = f"I will not take {dict(request.headers)} at {request.path}"
    await reply.whole(400, said.encode(), {"content-type": "text/plain"})


@dataclass
class Aviary:
    """Trunkline with every canary in its place, and all that was seen of it."""

    place: Workplace
    variables: Mapping[str, str]
    seen: dict[str, str] = field(default_factory=dict[str, str])

    async def run(self, *words: str, stdin: str = "") -> None:
        """Run a command and keep what it prints."""
        ended = await asyncio.to_thread(
            lambda: self.place.run(*words, stdin=stdin, **self.variables)
        )
        self.seen[f"trunkline {' '.join(words)}"] = ended.stdout + ended.stderr

    @asynccontextmanager
    async def serving(self, *words: str) -> AsyncGenerator[str]:
        """Serve over HTTP, and keep the log."""
        process = await asyncio.create_subprocess_exec(
            *self.place.command("serve", "--http", ":0", "--log-level", "debug", *words),
            cwd=self.place.folder,
            env={**self.place.environment, **self.variables},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=1024 * 1024,
        )
        assert process.stderr is not None
        lines: list[str] = []
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def read(stream: asyncio.StreamReader) -> None:
            async for line in stream:
                lines.append(line.decode())
                if "listens on" in lines[-1] and not listening.done():
                    listening.set_result(lines[-1].split()[-1])

        reading = asyncio.create_task(read(process.stderr))
        try:
            yield await asyncio.wait_for(listening, LIMIT)
        finally:
            end_group(process.pid)
            await process.wait()
            await reading
            self.seen["the log"] = "".join(lines)

    def leaks(self) -> dict[str, list[str]]:
        """Where which canaries were seen."""
        found = {
            where: [name for name, canary in CANARIES.items() if canary in text]
            for where, text in self.seen.items()
        }
        return {where: names for where, names in found.items() if names}


def configuration(echo: str, refusing: str, program: Path) -> dict[str, Any]:
    run = {"command": sys.executable, "cwd": str(program.parent)}
    args = [str(program), f"--api-key={CANARIES['argument']}", "--token", CANARIES["option"]]
    env = {"SOME_TOKEN": CANARIES["env"], "FROM_ENVIRONMENT": "${CANARY_VARIABLE}"}
    headers = {
        "Authorization": f"Bearer {CANARIES['header']}",
        "X-Custom": f"{CANARIES['api-key']}",
    }
    with_password = refusing.replace("http://", f"http://user:{CANARIES['password']}@")
    return {
        "echo": {"url": echo, "headers": headers},
        "personal": {"url": echo, "headers": {"Authorization": "Bearer ${user.token:github}"}},
        "passing": {"url": echo, "headers": {"X-Passed": "${client.authorization}"}},
        "refusing": {"url": f"{refusing}?key={CANARIES['query']}", "headers": headers},
        "locked": {"url": with_password},
        "program": {**run, "args": args, "env": env},
        "dying": {**run, "args": [*args, "--die"], "env": env},
        "private": {**run, "args": args, "env": {"T": "${user.token:github}"}},
        "wrong": {"url": echo, "headers": {"A": CANARIES["header"]}, "sharing": 1},
    }


@asynccontextmanager
async def aviary(folder: Path) -> AsyncGenerator[Aviary]:
    async with AsyncExitStack() as stack:
        echo = await stack.enter_async_context(serve(echo_in_errors))
        refusing = await stack.enter_async_context(serve(refuse))
        program = folder / "program.py"
        program.write_text(PROGRAM)
        place = Workplace(folder)
        place.configure(configuration(echo.url, refusing.url, program))
        dsn = database_of(folder / "home")
        origin = refusing.url.removesuffix("/mcp")
        yield Aviary(
            place,
            {
                "CANARY_VARIABLE": CANARIES["file-env"],
                "DATABASE_URL": dsn.replace("@/", f":{CANARIES['database']}@/"),
                "QDRANT_URL": origin,
                "QDRANT_API_KEY": CANARIES["qdrant"],
                "EMBEDDING_URL": f"{origin}/v1",
                "EMBEDDING_KEY": CANARIES["embedding"],
                "REDIS_URL": f"redis://:{CANARIES['redis']}@127.0.0.1:1/0",
            },
        )


async def exercise(birds: Aviary, url: str) -> None:
    """Ask the gateway for everything that may go wrong, with a credential of the client's own."""
    headers = {"Authorization": f"Bearer {CANARIES['client']}"}
    async with raw_client(f"{url}/mcp", "modern", opened=False) as client:
        for presented in ({}, headers):
            await listed(client, presented)
            for server in ("echo", "personal", "passing", "program", "private", "dying"):
                await asked(birds, client, f"{server}__leak", {}, presented)
            await asked(birds, client, "list_servers", {}, presented)
            for server in ("echo", "dying", "refusing", "locked", "personal", "wrong"):
                await asked(birds, client, "server_status", {"name": server}, presented)
            await asked(birds, client, "search_tools", {"query": "leak"}, presented)
            await asked(birds, client, "no_such_tool", {"a": 1}, presented)
    async with aiohttp.ClientSession() as http:
        for path in ("/health", "/ready", "/metrics", "/mcp", "/api/v1/servers", "/nowhere"):
            async with http.get(f"{url}{path}", headers=headers) as response:
                text = await response.text() if "event" not in response.content_type else ""
                birds.seen[f"GET {path}"] = f"{response.headers}{text}"


async def listed(client: RawClient, presented: Mapping[str, str]) -> None:
    """Wait until what is there has been listed."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                tools = await client.request("tools/list", headers=presented)
            except Exception:  # noqa: BLE001 - a credential that is not let in is not what is tested
                return
            names = {tool["name"] for tool in tools["tools"]}
            if {"echo__leak", "program__leak", "personal__leak"} <= names:
                return
            await asyncio.sleep(0.1)


async def asked(
    birds: Aviary, client: RawClient, tool: str, arguments: Any, presented: Mapping[str, str]
) -> None:
    """Call a tool and keep what comes."""
    where = f"{tool} {arguments} {'with' if presented else 'without'} a credential"
    try:
        result = await client.request(
            "tools/call", {"name": tool, "arguments": arguments}, headers=presented
        )
        birds.seen[where] = json.dumps(result)
    except Refused as error:
        birds.seen[where] = f"{error.message} {error.data}"
    except Exception as error:  # noqa: BLE001 - any answer is looked at
        birds.seen[where] = repr(error)


async def everything_stored(folder: Path) -> dict[str, str]:
    """The files of the home but for the key, and the rows of every table."""
    found = {
        str(path): path.read_bytes().decode("utf-8", "replace")
        for path in (folder / "home").rglob("*")
        if path.is_file() and path.name != "vault.key"
    }
    connection = await asyncpg.connect(database_of(folder / "home"))
    try:
        tables = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        for table in tables:
            rows = await connection.fetch(f"SELECT one::text AS text FROM {table['name']} AS one")
            found[table["name"]] = "\n".join(row["text"] for row in rows)
    finally:
        await connection.close()
    return found


@pytest.mark.timeout(300)
async def test_no_secret_is_shown_or_stored_anywhere(tmp_path: Path) -> None:
    async with aviary(tmp_path) as birds:
        token = CANARIES["vault"]
        await birds.run("vault", "set", "local", "github", stdin=token)
        async with birds.serving() as url:
            await exercise(birds, url)
        for words in (
            ("check", "--timeout", "20", "--log-level", "debug"),
            ("check", "--json", "--timeout", "20"),
            ("list", "--json", "--log-level", "debug"),
            ("call", "echo__leak", "--log-level", "debug"),
            ("call", "personal__leak", "--json"),
            ("call", "program__leak"),
            ("call", "refusing__leak"),
            ("search", "leak", "--json", "--log-level", "debug"),
            ("server", "add", "more", "--url", "https://x/", "--header", "A: ${CANARY_VARIABLE}"),
            ("server", "list", "--json"),
            ("vault", "status", "--json"),
            ("vault", "rotate"),
            ("cache", "stats"),
            ("reindex",),
            ("migrate", "status"),
        ):
            await birds.run(*words)
        birds.seen |= await everything_stored(tmp_path)

    assert birds.leaks() == {}
    told = birds.seen["trunkline check --json --timeout 20"]
    assert "***" in told, "nothing was masked, so nothing was looked at"
    for server in ("echo", "personal"):
        assert "I was told" in birds.seen[f"{server}__leak {{}} without a credential"]
    assert "my environment" in birds.seen["the log"]
    assert "***" in birds.seen["the log"]

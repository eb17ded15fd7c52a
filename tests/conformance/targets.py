"""
What the suite is run against: the fixture itself, and Trunkline in front of it in every way.

    direct                suite ── http ── fixture
    http, stdio, sse      suite ── http ── Trunkline ── http | stdio | sse ── fixture
    handshake-http, ...   the same, with a fixture that speaks the handshake era only
"""

import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import anyio
from mcp import Client, MCPError

from tests.conformance.suite import Revision
from tests.servers.processes import ROOT, Era, end_group, environment, running, stdio_entry

FIXTURE: Final = "tests.conformance.fixture"
READY_LIMIT: Final = 60.0
"""Seconds Trunkline may take until it lists the fixture's tools."""

STOP_LIMIT: Final = 10.0
POLL: Final = 0.2
"""Seconds between two looks at whether it is ready."""


@dataclass(frozen=True, slots=True)
class Target:
    """One server to run the suite against."""

    name: str
    downstream: Literal["http", "stdio", "sse"] | None
    """How Trunkline reaches the fixture; None leaves Trunkline out."""

    era: Era = "both"

    @property
    def handshake_only(self) -> bool:
        """Whether what is behind Trunkline cannot speak the modern era."""
        return self.era == "handshake"


TARGETS: Final = {
    target.name: target
    for target in (
        Target("direct", None),
        Target("http", "http"),
        Target("stdio", "stdio"),
        Target("sse", "sse", "handshake"),
        Target("handshake-http", "http", "handshake"),
        Target("handshake-stdio", "stdio", "handshake"),
    )
}

INAPPLICABLE: Final[Mapping[tuple[Revision, str], str]] = {
    ("2026-07-28", "input-required-result-basic-elicitation"): (
        "looks for the question under the key `user_name`; a handshake server asks without a key"
    ),
    ("2026-07-28", "input-required-result-multiple-input-requests"): (
        "wants three questions in one result; a handshake server sends one request after the other"
    ),
    ("2026-07-28", "input-required-result-ignore-extra-params"): (
        "answers in the first request, without state; a handshake server has not asked yet"
    ),
}
"""What a modern client cannot get from a handshake-only server, whoever stands between, and why."""


class NotReady(Exception):
    """Trunkline did not come up, or not with the fixture's tools. `str()` ends with its log."""


@asynccontextmanager
async def serving(target: Target, sharing: str | None = None) -> AsyncGenerator[str]:
    """
    Start what *target* needs, yield the URL to test, and end it all.

    *sharing* goes into the downstream's entry in mcp.json; None leaves Trunkline's default.
    """
    further = {"sharing": sharing} if sharing else {}
    if target.downstream is None:
        async with running(FIXTURE, era=target.era) as fixture:
            yield fixture.url
    elif target.downstream == "stdio":
        async with _trunkline({**stdio_entry(FIXTURE, era=target.era), **further}) as url:
            yield url
    else:
        async with (
            running(FIXTURE, transport=target.downstream, era=target.era) as fixture,
            _trunkline({**fixture.entry(), **further}) as url,
        ):
            yield url


@asynccontextmanager
async def _trunkline(entry: dict[str, Any]) -> AsyncGenerator[str]:
    """Run Trunkline with one downstream and no namespace, so that it can stand in for it."""
    with TemporaryDirectory(prefix="trunkline-") as folder:
        home = Path(folder)
        config, plugins, log = home / "mcp.json", home / "plugins", home / "log"
        config.write_text(json.dumps({"mcpServers": {"fixture": {**entry, "namespace": ""}}}))
        plugins.mkdir()
        address = f"127.0.0.1:{_free_port()}"
        with log.open("wb") as stderr:
            process = await anyio.open_process(
                [
                    *(sys.executable, "-m", "trunkline", "serve", "--http", address),
                    *("--config", str(config), "--plugins", str(plugins)),
                ],
                stdin=None,
                stdout=stderr,
                stderr=stderr,
                cwd=ROOT,
                env={**environment(), "TRUNKLINE_HOME": str(home / "state")},
                start_new_session=True,
            )
        url = f"http://{address}/mcp"
        try:
            await _await_tools(url, process, log)
            yield url
        finally:
            with anyio.CancelScope(shield=True):
                await _stop(process)


async def _await_tools(url: str, process: anyio.abc.Process, log: Path) -> None:
    with anyio.move_on_after(READY_LIMIT):
        while process.returncode is None:
            if await _lists_tools(url):
                return
            await anyio.sleep(POLL)
    ended = process.returncode is not None
    reason = f"ended with {process.returncode}" if ended else "did not list the fixture's tools"
    said = await anyio.Path(log).read_text(errors="replace")
    raise NotReady(f"Trunkline {reason}. Its log:\n{said[-3000:]}")


async def _lists_tools(url: str) -> bool:
    host, port = url.removeprefix("http://").removesuffix("/mcp").split(":")
    try:
        await (await anyio.connect_tcp(host, int(port))).aclose()
    except OSError:
        return False
    try:
        async with Client(url, mode="legacy") as client:
            tools = (await client.list_tools()).tools
    except MCPError:
        return False
    return any(tool.name == "test_simple_text" for tool in tools)


async def _stop(process: anyio.abc.Process) -> None:
    """Ask it to end, so that it can end its children; then make sure."""
    if process.returncode is None:
        os.kill(process.pid, signal.SIGTERM)
        with anyio.move_on_after(STOP_LIMIT):
            await process.wait()
    end_group(process.pid)
    await process.aclose()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]

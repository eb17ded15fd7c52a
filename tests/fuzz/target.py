"""
A whole gateway as a process, with secrets planted where it keeps its own.

    with target(folder) as gateway:
        answer = gateway.post(message, {"mcp-session-id": gateway.session()})

Whatever it answers passes through `Target.judge`, and what it logs through `Target.judge_log`.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from tests.databases import database_of
from tests.servers.processes import ROOT, end_group, environment

CANARY: Final = "canary-9e41c7d0"
"""Stands in a header, a variable and a URL of mcp.json."""

LEAKS: Final = {
    "a secret": re.compile(CANARY),
    "a traceback": re.compile(r"Traceback \(most recent call last\)"),
    "a file of ours": re.compile(r'File "|site-packages|' + re.escape(str(ROOT))),
    "a table": re.compile(r"asyncpg|UniqueViolation|relation \\?\""),
    "an error that nobody foresaw": re.compile(r'"error": ?\{"code": ?0,'),
    "an object": re.compile(r"<[\w.]+ object at 0x"),
}
"""What no answer may hold."""

START_LIMIT: Final = 60.0
"""Seconds the gateway may take to start."""

PATIENCE: Final = 20.0
"""Seconds one answer may take."""

BOTH: Final = "application/json, text/event-stream"
CONFIG: Final = """
{"mcpServers": {
    "all": {"command": %(python)s, "args": ["-m", "tests.servers.everything"], "cwd": %(root)s,
            "env": {"API_KEY": "${FUZZ_CANARY}"}},
    "away": {"url": "http://127.0.0.1:9/mcp?key=${FUZZ_CANARY}",
             "headers": {"Authorization": "Bearer ${FUZZ_CANARY}"}}
}}
"""


@dataclass
class Target:
    """A gateway that runs."""

    url: str
    log: Path
    http: httpx.Client
    heard: list[str] = field(default_factory=list[str])
    """What came on the stream of `listen`."""

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str | bytes] | None = None,
        content: bytes | None = None,
    ) -> tuple[int, str]:
        """One request; returns the status and as much of the answer as comes within a moment."""
        raw = [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in (headers or {}).items()
        ]
        request = self.http.build_request(
            method, path, headers=raw, content=content, timeout=PATIENCE
        )
        response = self.http.send(request, stream=True)
        try:
            return response.status_code, self.judge(response, "".join(self._read(response)))
        finally:
            response.close()

    def post(self, content: bytes, headers: Mapping[str, str | bytes]) -> tuple[int, str]:
        """One message to /mcp."""
        own = {"content-type": "application/json", "accept": BOTH}
        return self.request("POST", "/mcp", headers={**own, **headers}, content=content)

    def session(self) -> str:
        """A new session of a handshake client."""
        content = (
            b'{"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"capabilities": {},'
            b'"protocolVersion": "2025-11-25", "clientInfo": {"name": "fuzz", "version": "1"}}}'
        )
        own = {"content-type": "application/json", "accept": BOTH}
        response = self.http.post("/mcp", content=content, headers=own, timeout=PATIENCE)
        assert response.status_code == 200, response.text
        return response.headers["mcp-session-id"]

    @contextmanager
    def listen(self) -> Generator[str]:
        """An open /sse stream, whose every line goes to `heard`; yields where to POST."""
        with self.http.stream("GET", "/sse", timeout=None) as response:
            lines = response.iter_lines()
            path = next(line[6:] for line in lines if line.startswith("data: "))

            def read() -> None:
                try:
                    for line in lines:
                        self.heard.append(line)
                except httpx.HTTPError:
                    pass  # the stream is closed at the end of the block

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            yield path
            # An answer to a last question says that everything before has been heard.
            self.request("POST", path, content=b'{"jsonrpc":"2.0","id":"last","method":"ping"}')
            wait_for(lambda: any('"last"' in line for line in self.heard))

    def judge(self, response: httpx.Response, text: str) -> str:
        """Fail for an answer that must not be."""
        status = response.status_code
        assert status < 500 or status == 501, f"{status}: {text[:500]}"
        everything = f"{response.headers} {text}"
        for what, pattern in LEAKS.items():
            found = pattern.search(everything)
            assert found is None, f"{what}: {everything[max(0, found.start() - 300) :][:800]}"
        return text

    def judge_log(self) -> None:
        """Fail if something was logged that nobody foresaw, or that is secret."""
        log = self.log.read_text(errors="replace")
        for what in ("a secret", "a traceback"):
            found = LEAKS[what].search(log)
            assert found is None, f"{what}: {log[max(0, found.start() - 1500) :][:4000]}"

    def assert_well(self) -> None:
        """Fail unless the gateway goes on serving as it did at first."""
        listing = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
        status, text = self.post(listing, {"mcp-session-id": self.session()})
        assert status == 200
        assert "clock__now" in text
        assert "all__echo" in text

    def _read(self, response: httpx.Response) -> Generator[str]:
        """The body, or of a stream what comes before the first answer or pause."""
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        if is_stream and response.request.method == "GET":
            return
        until = time.monotonic() + PATIENCE
        for chunk in response.iter_text():
            yield chunk
            if is_stream and ('"result"' in chunk or '"error"' in chunk or "listen" in chunk):
                return
            assert time.monotonic() < until, "an answer without end"


@contextmanager
def target(folder: Path) -> Generator[Target]:
    """A gateway with state under *folder*, the example plugins and a server behind it."""
    values = {"python": _quoted(sys.executable), "root": _quoted(str(ROOT))}
    (folder / "mcp.json").write_text(CONFIG % values)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "trunkline", "serve", "--http", "127.0.0.1:0"],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield from _ready(process, log)
        finally:
            end_group(process.pid)
            process.wait(10)


def _ready(process: "subprocess.Popen[bytes]", log: Path) -> Generator[Target]:
    found: list[str] = []

    def is_listening() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")
        found[:] = re.findall(r"http://127\.0\.0\.1:\d+", log.read_text(errors="replace"))
        return bool(found)

    wait_for(is_listening)
    with httpx.Client(base_url=found[0], trust_env=False, timeout=PATIENCE) as http:
        gateway = Target(found[0], log, http)
        wait_for(lambda: "all__echo" in _listed(gateway))
        yield gateway
        gateway.judge_log()


def _listed(gateway: Target) -> str:
    listing = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
    return gateway.post(listing, {"mcp-session-id": gateway.session()})[1]


def _environment(folder: Path) -> dict[str, str]:
    elsewhere = ("TRUNKLINE_", "XDG_", "DATABASE_URL", "REDIS_URL", "QDRANT_URL", "EMBEDDING_URL")
    return {
        **{k: v for k, v in environment().items() if not k.startswith(elsewhere)},
        "HOME": str(folder),
        "NOTES_FOLDER": str(folder / "notes"),
        "TRUNKLINE_HOME": str(folder / "home"),
        "TRUNKLINE_PLUGINS__FOLDERS": f"[{_quoted(str(ROOT / 'plugins'))}]",
        "TRUNKLINE_EXPOSURE": "full",
        "TRUNKLINE_HTTP__REQUEST_TIMEOUT": "2",
        "TRUNKLINE_HTTP__MAX_BODY": "1000000",
        "DATABASE_URL": database_of(folder / "home"),
        "FUZZ_CANARY": CANARY,
        "PYTHONPATH": os.pathsep.join((str(ROOT / "server"), str(ROOT))),
    }


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def wait_for(condition: Any, seconds: float = START_LIMIT) -> None:
    """Poll until it is so. Raises `TimeoutError`."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("it did not come to be")
        time.sleep(0.05)

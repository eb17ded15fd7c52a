"""
The wheel works by itself: installed into an empty folder, with no checkout in reach.

The dependencies come from the environment that runs the tests. A folder on PYTHONPATH has its
modules found but its `.pth` files ignored, and it is such a file that leads to the checkout.
"""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers.processes import end_group

ROOT = Path(__file__).parents[2]
PYTHON = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
LIMIT = 60.0
"""Seconds any of the subprocesses may take."""

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="needs the interpreter beneath the venv"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it would be published."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=LIMIT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the wheel is installed in."""
    folder = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target"]
    subprocess.run(
        [*install, str(folder), str(wheel)], check=True, capture_output=True, timeout=LIMIT
    )
    return folder


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> dict[str, str]:
    """An environment in which only the wheel and its dependencies can be imported."""
    kept = {name: value for name, value in os.environ.items() if name in {"LANG", "TMPDIR"}}
    return {
        **kept,
        "HOME": str(tmp_path),
        "PATH": os.pathsep.join((str(installed / "bin"), str(Path(sys.executable).parent), "/bin")),
        "PYTHONPATH": os.pathsep.join((str(installed), sysconfig.get_path("purelib"))),
        "TRUNKLINE_HOME": str(tmp_path / "home"),
    }


def run(
    environment: dict[str, str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the installed `trunkline`."""
    return subprocess.run(
        [str(PYTHON), "-m", "trunkline", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_the_wheel_carries_what_the_program_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    share = {name.removeprefix("trunkline/share/") for name in names if "/share/" in name}
    assert "trunkline/py.typed" in names
    assert "mcp.json" in share
    assert {f"plugins/{path.name}" for path in (ROOT / "plugins").glob("*.py")} <= share
    assert {
        f"sql/{path.relative_to(ROOT / 'sql')}" for path in (ROOT / "sql").rglob("*.sql")
    } <= share
    assert not [name for name in names if name.endswith(".pyc") or name.startswith("tests/")]


def test_the_program_that_runs_is_the_installed_one(
    environment: dict[str, str], installed: Path, tmp_path: Path
) -> None:
    where = subprocess.run(
        [str(PYTHON), "-c", "import trunkline; print(trunkline.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT,
    )

    assert Path(where.stdout.strip()).is_relative_to(installed)
    assert run(environment, tmp_path, "--version").stdout.startswith("trunkline ")


@pytest.fixture
def serving(environment: dict[str, str], tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`trunkline serve` on stdin and stdout, in an empty folder."""
    with subprocess.Popen(
        [str(PYTHON), "-m", "trunkline", "serve"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            end_group(process.pid)


def ask(process: subprocess.Popen[str], request_id: int, method: str, **params: Any) -> Any:
    """Send one request and return its result, skipping what comes in between."""
    assert process.stdin is not None
    assert process.stdout is not None
    message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        answer = json.loads(line)
        if answer.get("id") == request_id and "method" not in answer:
            return answer["result"]
    raise AssertionError("stdout ended before the answer came")


def test_serve_answers_a_client_over_stdio(serving: subprocess.Popen[str]) -> None:
    result = ask(
        serving,
        1,
        "initialize",
        protocolVersion="2025-11-25",
        capabilities={},
        clientInfo={"name": "test", "version": "1"},
    )

    assert result["serverInfo"]["name"] == "trunkline"
    assert "tools" in result["capabilities"]


def test_the_example_plugins_and_the_default_servers_are_there(
    environment: dict[str, str], tmp_path: Path
) -> None:
    found = json.loads(run(environment, tmp_path, "check", "--json").stdout)

    servers = {server["name"]: server for server in found["servers"]}
    default = json.loads((ROOT / "mcp.json").read_text())["mcpServers"]
    assert servers["clock"]["state"] == "CONNECTED"
    assert default.keys() <= servers.keys()
    assert found["problems"] == []

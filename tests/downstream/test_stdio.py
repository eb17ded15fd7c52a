"""The stdio transport against a real child process that controls every byte."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop
from anyio import CancelScope

from trunkline.downstream.channel import Channel, ChannelLost, Inbound
from trunkline.downstream.command import inherited_environment
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.stdio import StdioChannel, open_stdio
from trunkline.errors import DownstreamUnavailable
from trunkline.settings import DownstreamSettings

pytestmark = pytest.mark.anyio

SERVER = Path(__file__).parents[1] / "servers" / "raw_stdio.py"
SETTINGS = DownstreamSettings(stop_grace=0.3, call_timeout=1.0)


def server(*flags: str, **changes: Any) -> ServerConfig:
    config = ServerConfig(
        name="raw", transport="stdio", command=sys.executable, args=("-S", str(SERVER), *flags)
    )
    return replace(config, **changes)


@asynccontextmanager
async def opened(
    config: ServerConfig, *, log: list[str] | None = None, settings: DownstreamSettings = SETTINGS
) -> AsyncGenerator[StdioChannel]:
    """A channel, all of whose waits are bounded."""
    lines: list[str] = [] if log is None else log
    async with asyncio.timeout(60), open_stdio(config, settings, on_log=lines.append) as channel:
        assert isinstance(channel, StdioChannel)
        yield channel


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that happens outside of this process."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - another process sets no event of ours
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# -- messages ---------------------------------------------------------------------------------


async def test_a_request_gets_its_own_answer_among_many() -> None:
    async with opened(server()) as channel:
        requests = [channel.request("echo", {"n": n}) for n in range(200)]

        answers = await asyncio.gather(*requests)

    assert answers == [{"n": n} for n in range(200)]


async def test_a_result_of_twenty_megabytes_arrives_whole() -> None:
    async with opened(server()) as channel:
        result = await channel.request("big", {"size": 20_000_000})

    assert len(result["text"]) == 20_000_000


async def test_large_requests_of_concurrent_callers_do_not_tear_each_other() -> None:
    texts = [character * 1_000_000 for character in "abcdef"]
    async with opened(server()) as channel:
        requests = [channel.request("echo", {"text": text}) for text in texts]

        answers = await asyncio.gather(*requests)

    assert [answer["text"] for answer in answers] == texts


async def test_garbage_on_stdout_is_skipped_counted_and_reported_a_few_times() -> None:
    log: list[str] = []
    async with opened(server(), log=log) as channel:
        result = await channel.request("garbage", {"lines": 50})

        assert result == {"lines": 50}
        assert channel.garbage == 50 * 4
    assert 0 < len(log) < 10
    assert "Server listening..." in log[0]


async def test_a_byte_order_mark_and_a_carriage_return_do_no_harm() -> None:
    async with opened(server()) as channel:
        assert await channel.request("dressed", {"n": 1}) == {"n": 1}


async def test_a_batch_is_received_item_by_item() -> None:
    strays: list[Inbound] = []
    async with opened(server()) as channel:
        channel.on_stray = strays.append

        assert await channel.request("batch", {"n": 1}) == {"n": 1}

    assert [stray.method for stray in strays] == ["notifications/message"]


async def test_stderr_arrives_line_by_line_and_long_lines_are_cut() -> None:
    log: list[str] = []
    async with opened(server(), log=log) as channel:
        await channel.request("log", {"text": "one\ntwo\n" + "x" * 100_000 + "\nthree\n"})
        await until(lambda: "three" in log)

    assert log[:2] == ["one", "two"]
    assert max(len(line) for line in log) < 3_000


async def test_a_flood_on_stderr_is_cut_and_counted() -> None:
    log: list[str] = []
    async with opened(server(), log=log) as channel:
        await channel.request("log", {"text": "noise\n" * 50_000})

        async def quiet() -> bool:
            await channel.request("log", {"text": "calm\n"})
            return any("more lines on stderr were left out" in line for line in log)

        while not await quiet():
            pass

    assert log.count("noise") < 5_000


# -- the start --------------------------------------------------------------------------------


async def test_a_missing_command_is_explained() -> None:
    with pytest.raises(DownstreamUnavailable, match=r"'npx-of-nobody' was not found.*Install it"):
        async with opened(server(command="npx-of-nobody")):
            pass


async def test_a_script_without_its_interpreter_is_explained(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)

    with pytest.raises(DownstreamUnavailable, match="the interpreter that its first line names"):
        async with opened(server(command=str(script))):
            pass


async def test_a_missing_directory_is_explained() -> None:
    with pytest.raises(DownstreamUnavailable, match=r'directory /no/such/place.*"cwd"'):
        async with opened(server(cwd="/no/such/place")):
            pass


async def test_a_command_beside_our_python_is_found_without_a_path(tmp_path: Path) -> None:
    beside = Path(sys.executable).name
    config = server(command=beside, env={"PATH": str(tmp_path)})
    async with opened(config) as channel:
        assert await channel.request("echo", {"n": 1}) == {"n": 1}


async def test_a_relative_command_starts_from_its_own_directory(tmp_path: Path) -> None:
    (tmp_path / "run").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (tmp_path / "run").chmod(0o755)
    config = server(command="./run", args=(str(SERVER),), cwd=str(tmp_path))
    async with opened(config) as channel:
        told = await channel.request("environment", None)

    assert told["cwd"] == str(tmp_path)


async def test_a_child_gets_its_own_variables_and_none_of_our_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:secret@host/db")
    async with opened(server(env={"TOKEN": "t"})) as channel:
        env = (await channel.request("environment", None))["env"]

    assert env["TOKEN"] == "t"
    assert env["PATH"] == os.environ["PATH"]
    assert "DATABASE_URL" not in env


def test_locale_proxy_and_certificate_variables_are_inherited() -> None:
    kept = {"LC_ALL": "C", "https_proxy": "p", "SSL_CERT_FILE": "c", "XDG_DATA_HOME": "d"}

    assert inherited_environment({**kept, "AWS_SECRET_ACCESS_KEY": "s"}) == kept


# -- the end ----------------------------------------------------------------------------------


async def test_a_death_is_noticed_and_quotes_the_last_telling_line() -> None:
    trace = "Traceback:\nModuleNotFoundError: No module named 'x'\nNode.js v22\n"
    async with opened(server()) as channel:
        with pytest.raises(ChannelLost) as lost:
            await channel.request("die", {"status": 3, "stderr": trace})

    assert str(lost.value) == "it exited with status 3: ModuleNotFoundError: No module named 'x'."
    assert lost.value.sent


async def test_a_killed_child_is_noticed_without_a_request() -> None:
    async with opened(server()) as channel:
        assert channel.child.pid is not None
        os.kill(channel.child.pid, 9)

        await channel.closed.wait()

    assert channel.reason == "it was ended by SIGKILL."


async def test_a_closed_output_is_a_death() -> None:
    async with opened(server()) as channel:
        with pytest.raises(ChannelLost, match="it closed its output"):
            await channel.request("close_output", None)


async def test_a_death_is_noticed_while_a_grandchild_holds_the_pipes() -> None:
    async with opened(server()) as channel:
        grandchild = (await channel.request("grandchild", {}))["pid"]
        with pytest.raises(ChannelLost, match="it exited with status 5"):
            await channel.request("die", {"status": 5})

    await until(lambda: not is_running(grandchild))


async def test_after_the_end_requests_are_known_not_to_have_run() -> None:
    async with opened(server()) as channel:
        with pytest.raises(ChannelLost):
            await channel.request("die", {"status": 0})
        with pytest.raises(ChannelLost) as lost:
            await channel.request("echo", None)

    assert not lost.value.sent


async def test_a_child_that_stops_reading_is_given_up() -> None:
    async with opened(server()) as channel:
        await channel.request("stop_reading", None)

        with pytest.raises(ChannelLost, match="it has read nothing for 1 second"):
            await channel.request("echo", {"text": "x" * 5_000_000})


async def test_losing_the_channel_frees_a_writer_that_waits_for_the_child() -> None:
    patient = DownstreamSettings(stop_grace=0.3, call_timeout=600)
    async with opened(server(), settings=patient) as channel:
        await channel.request("stop_reading", None)
        async with asyncio.TaskGroup() as tasks:
            stuck = tasks.create_task(_lost(channel, {"text": "x" * 5_000_000}))
            await until(lambda: channel.child.congested)

            channel.lose("enough")

    assert str(stuck.result()) == "enough"


async def _lost(channel: Channel, params: dict[str, Any]) -> ChannelLost:
    with pytest.raises(ChannelLost) as lost:
        await channel.request("echo", params)
    return lost.value


@pytest.mark.parametrize("flag", ["deaf", "stubborn"])
async def test_a_child_that_does_not_leave_is_made_to(flag: str) -> None:
    async with opened(server(flag)) as channel:
        await channel.request("echo", None)
        pid = channel.child.pid

    assert pid is not None
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("quiet", [True, False])
async def test_a_grandchild_is_ended_even_when_the_child_leaves_by_itself(quiet: bool) -> None:
    async with opened(server()) as channel:
        grandchild = (await channel.request("grandchild", {"quiet": quiet}))["pid"]
        assert is_running(grandchild)

    await until(lambda: not is_running(grandchild))


async def test_the_child_is_ended_when_the_owner_is_cancelled_again_and_again() -> None:
    pids: list[int] = []

    async def own() -> None:
        async with opened(server("stubborn")) as channel:
            pids.append((await channel.request("environment", None))["pid"])
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as tasks:
        owner = tasks.create_task(own())
        await until(lambda: bool(pids))
        while not owner.done():
            owner.cancel()
            await asyncio.sleep(0.01)

    assert owner.cancelled()
    assert not psutil.pid_exists(pids[0])


async def test_what_the_borrower_raises_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with opened(server()):
            raise KeyError


async def test_the_child_is_ended_when_an_outer_scope_is_cancelled() -> None:
    pids: list[int] = []
    with CancelScope() as scope:
        async with opened(server("stubborn")) as channel:
            pids.append((await channel.request("environment", None))["pid"])
            scope.cancel()
            await asyncio.Event().wait()

    assert scope.cancelled_caught
    assert not psutil.pid_exists(pids[0])


OWNER = """
import asyncio
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.stdio import open_stdio
from trunkline.settings import DownstreamSettings

async def own():
    config = ServerConfig(name="raw", transport="stdio", command=sys.executable, args=sys.argv[1:])
    async with open_stdio(config, DownstreamSettings(), on_log=print) as channel:
        print((await channel.request("environment", None))["pid"], flush=True)
        await asyncio.Event().wait()

asyncio.run(own())
"""


async def test_the_child_leaves_when_we_are_killed() -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{OWNER}", str(SERVER)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert owner.stdout is not None
    child = int(await owner.stdout.readline())
    assert is_running(child)

    owner.kill()
    await owner.wait()

    await until(lambda: not is_running(child))


async def test_fifty_rounds_of_all_kinds_leave_nothing_behind(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    here = psutil.Process()
    others = here.children()
    async with opened(server()) as channel:
        await channel.request("echo", None)
    await until(lambda: _children(here, others) == [])
    before = here.num_fds(), len(asyncio.all_tasks())

    for number in range(50):
        await _round(number, broken)

    await until(lambda: _children(here, others) == [])
    await until(lambda: (here.num_fds(), len(asyncio.all_tasks())) == before)


def _children(here: psutil.Process, others: list[psutil.Process]) -> list[psutil.Process]:
    """What this process has started since *others*, the stores of other tests."""
    theirs = {child for one in others for child in (one, *one.children(recursive=True))}
    return [one for one in here.children(recursive=True) if one not in theirs]


async def _round(number: int, broken: Path) -> None:
    """Use a child, let it die, cancel its start, or fail to start it."""
    match number % 4:
        case 0:
            async with opened(server()) as channel:
                await channel.request("grandchild", {"quiet": True})
        case 1:
            async with opened(server()) as channel:
                with pytest.raises(ChannelLost):
                    await channel.request("die", {"status": 1})
        case 2:
            using = asyncio.create_task(_use_for_ever())
            for _ in range(number % 9):
                await asyncio.sleep(0)  # be cancelled at a different step each time
            using.cancel()
            await asyncio.wait({using})
        case _:
            with pytest.raises(DownstreamUnavailable):
                async with opened(server(command=str(broken))):
                    pass


async def _use_for_ever() -> None:
    async with opened(server()):
        await asyncio.Event().wait()


def test_it_runs_on_uvloop() -> None:
    async def use() -> tuple[int, dict[str, Any]]:
        async with opened(server("deaf")) as channel:
            result = await channel.request("big", {"size": 5_000_000})
            await channel.request("grandchild", {"quiet": False})
            told = await channel.request("environment", None)
        assert not psutil.pid_exists(told["pid"])
        async with opened(server()) as channel:
            with pytest.raises(ChannelLost) as lost:
                await channel.request("die", {"status": 3, "stderr": "Error: no\n"})
        return len(result["text"]), {"reason": str(lost.value)}

    size, told = uvloop.run(use())

    assert size == 5_000_000
    assert told["reason"] == "it exited with status 3: Error: no."

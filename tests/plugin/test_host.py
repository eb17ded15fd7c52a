"""What happens to plugins that are good, bad, slow, hostile or changed."""

import asyncio
import json
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.plugin.conftest import CLOCK, Open, eventually

from trunkline.plugin.host import PluginHost
from trunkline.plugin.loading import in_own_thread

pytestmark = pytest.mark.anyio

Write = Callable[[str, str], Path]


def thread_names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


async def test_files_and_packages_are_found_without_being_named(
    write: Write, open_host: Open
) -> None:
    write("clock.py", CLOCK)
    write("weather/__init__.py", "from .plugin import plugin")
    write("weather/plugin.py", CLOCK.replace("clock", "weather"))

    async with open_host() as watched:
        found = [(plugin.name, plugin.summary) for plugin in watched.host.plugins]

    assert found == [("clock", "Time."), ("weather", "Time.")]


async def test_shared_code_hidden_files_and_tests_are_no_plugins(
    write: Write, open_host: Open
) -> None:
    names = ("_draft.py", ".hidden.py", "test_clock.py", "clock_test.py", "conftest.py")
    for name in (*names, "tests/__init__.py", "notes.txt", "data/clock.py"):
        write(name, CLOCK)

    async with open_host() as watched:
        assert watched.host.plugins == []
        assert watched.host.failures == []


async def test_one_module_may_offer_objects_and_functions(write: Write, open_host: Open) -> None:
    write(
        "mixed.py",
        '''
        """Everything at once."""
        from trunkline import Plugin

        first = Plugin("first")
        second = Plugin("second", namespace="")

        @first.tool
        def one() -> int: return 1

        @second.prompt
        def two() -> str: return "2"

        def register(mcp):
            @mcp.tool
            def three() -> int: return 3

        async def register_mixed(mcp):
            @mcp.tool
            async def four() -> int: return 4
        ''',
    )

    async with open_host() as watched:
        mixed = watched.plugin("mixed")
        second = watched.plugin("second")
        tools = [tool.name for tool in await mixed.server.list_tools()] if mixed else []
        names = [plugin.name for plugin in watched.host.plugins]

    assert names == ["first", "second", "mixed"]
    assert tools == ["three", "four"]
    assert mixed is not None
    assert mixed.summary == "Everything at once."
    assert second is not None
    assert second.namespace == ""


async def test_a_function_registers_on_the_plugin_of_the_files_own_name(
    write: Write, open_host: Open
) -> None:
    write(
        "clock.py",
        f"""{CLOCK}
    def register_clock(mcp):
        @mcp.tool
        def later() -> str: return "one"
    """,
    )

    async with open_host() as watched:
        clock = watched.plugin("clock")
        assert clock is not None
        assert [tool.name for tool in await clock.server.list_tools()] == ["now", "later"]


async def test_a_function_imported_from_a_library_is_not_called(
    write: Write, open_host: Open
) -> None:
    write("clock.py", f"{CLOCK}\n    from copyreg import constructor as register\n")

    async with open_host() as watched:
        assert [plugin.name for plugin in watched.host.plugins] == ["clock"]


BROKEN = {
    "syntax": ("def x(:", "plugin_import_failed", ["line 1", "syntax.py"]),
    "a.b": ("", "plugin_import_failed", ["its name has a dot in it"]),
    "nulls": ("x = 1\0", "plugin_import_failed", ["null bytes"]),
    "missing": ("import no_such_thing.part", "plugin_import_failed", ["pip install no_such_thing"]),
    "beside": ("from . import _gone", "plugin_import_failed", ["cannot import name '_gone'"]),
    "within": ("from ._gone import x", "plugin_import_failed", ["no module '_gone' beside it"]),
    "absolute": ("import clock", "plugin_import_failed", ["Write `from . import clock`"]),
    "raises": (
        "x = 1\n1 / 0",
        "plugin_import_failed",
        ["ZeroDivisionError", "line 2 of raises.py"],
    ),
    "quits": ("import sys; sys.exit(3)", "plugin_import_failed", ["calls sys.exit(3)"]),
    "interrupts": ("raise KeyboardInterrupt", "plugin_import_failed", ["KeyboardInterrupt"]),
    "blank": ("", "plugin_empty", ["register_blank(mcp)"]),
    "bare": ("from trunkline import Plugin\nplugin = Plugin('bare')", "plugin_empty", ["no tool"]),
    "bad_name": (
        "from trunkline import Plugin\nplugin = Plugin('a b')",
        "plugin_import_failed",
        ["'a b'"],
    ),
    "plain": (
        "def register(mcp): raise OSError('no route')",
        "plugin_registration_failed",
        ["Registration failed for plain: OSError: no route"],
    ),
    "my_tools": (
        "async def register_my_tools(mcp): raise ValueError('Invalid config')",
        "plugin_registration_failed",
        ["Async registration failed for my_tools: ValueError: Invalid config"],
    ),
    "late_quit": (
        "import sys\nasync def register(mcp): sys.exit('enough')",
        "plugin_registration_failed",
        ["Async registration failed for late_quit: it calls sys.exit('enough')"],
    ),
    "gives_up": (
        "import asyncio\nasync def register(mcp): raise asyncio.CancelledError",
        "plugin_registration_failed",
        ["Async registration failed for gives_up: it cancelled itself"],
    ),
    "odd": (
        """
        from trunkline import Plugin
        plugin = Plugin("odd")
        async def list_tools(**options): raise OSError("odd")
        plugin.server.list_tools = list_tools
        """,
        "plugin_registration_failed",
        ["Registration failed for odd: OSError: odd"],
    ),
    "oddity": (
        "class Oddity(BaseException): pass\nasync def register(mcp): raise Oddity('odd')",
        "plugin_registration_failed",
        ["Registration failed for oddity: Oddity: odd"],
    ),
    "twice": (
        "def register(mcp):\n    for n in 1, 2: mcp.tool(lambda: n, name='same')",
        "plugin_registration_failed",
        ["already exists"],
    ),
    "no_start": (
        """
        from trunkline import Plugin
        plugin = Plugin("no_start")
        @plugin.on_start
        async def connect(): raise OSError("refused")
        """,
        "plugin_registration_failed",
        ["failed to start: OSError: refused"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_plugin_is_reported_by_name_and_its_neighbour_serves(
    name: str, write: Write, open_host: Open
) -> None:
    text, code, says = BROKEN[name]
    write("clock.py", CLOCK)
    write(f"{name}.py", text)

    async with open_host() as watched:
        failure = watched.failure(name)
        served = await watched.call("clock", "now")

    assert served == "noon"
    assert failure is not None
    assert failure.code == code
    for words in says:
        assert words in failure.sentence


async def test_a_failed_async_registration_leaves_its_sentence_in_the_log(
    write: Write, open_host: Open
) -> None:
    write("my_tools.py", BROKEN["my_tools"][0])

    with structlog.testing.capture_logs() as events:
        async with open_host():
            pass

    assert [(event["event"], event["plugin"]) for event in events] == [
        ("plugin.failed", "my_tools")
    ]
    sentence = "Async registration failed for my_tools: ValueError: Invalid config"
    assert events[0]["reason"] == sentence


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import threading; threading.Event().wait()", "still being imported"),
        ("while True: pass", "still being imported"),
        ("import asyncio\nasync def register(mcp): await asyncio.Event().wait()", "registering"),
        ("import threading\ndef register(mcp): threading.Event().wait()", "registering"),
        (
            """
            import asyncio
            from trunkline import Plugin
            plugin = Plugin("slow")
            @plugin.on_start
            async def start(): await asyncio.Event().wait()
            """,
            "still starting",
        ),
    ],
)
async def test_a_plugin_that_hangs_delays_nobody_and_is_reported(
    text: str, says: str, write: Write, open_host: Open
) -> None:
    write("clock.py", CLOCK)
    write("a_slow.py", text)

    async with open_host(register_timeout=3.0, settled=False) as watched:
        await watched.until(lambda: watched.plugin("clock"))
        already = watched.failure("a_slow")
        await watched.until(lambda: watched.failure("a_slow"))
        failure = watched.failure("a_slow")

    assert already is None, "the good plugin had to wait for the slow one"
    assert failure is not None
    assert failure.code == "plugin_timeout"
    assert says in failure.sentence


async def test_an_import_that_computes_without_end_is_interrupted(
    write: Write, open_host: Open
) -> None:
    write("burning.py", "while True: pass")

    async with open_host(register_timeout=1.0):
        await eventually(lambda: "plugin burning" not in thread_names())


@pytest.mark.parametrize(("own", "torn"), [("plugin.py", True), ("other.py", False)])
async def test_only_code_of_the_plugin_itself_is_torn_out_of_its_work(
    tmp_path: Path, own: str, torn: bool
) -> None:
    stop, ended = threading.Event(), threading.Event()
    text = "def work():\n    try:\n        while not stop(): pass\n    finally: ended()"
    scope: dict[str, Any] = {"stop": stop.is_set, "ended": ended.set}
    exec(compile(text, tmp_path / "plugin.py", "exec"), scope)

    working = in_own_thread("busy", scope["work"], tmp_path / own)
    working.cancel()

    try:
        assert await asyncio.to_thread(ended.wait, 10 if torn else 0.5) is torn
    finally:
        stop.set()


async def test_the_first_of_two_plugins_keeps_the_name_until_it_goes(
    tmp_path: Path, open_host: Open
) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
        text = CLOCK.replace("noon", folder.name).replace("\n    ", "\n")
        (folder / "clock.py").write_text(text)

    async with open_host(mine, theirs) as watched:
        first = await watched.call("clock", "now")
        failure = watched.failure("clock")
        (mine / "clock.py").unlink()
        await watched.until(lambda: not watched.host.failures)
        second = await watched.call("clock", "now")

    assert (first, second) == ("mine", "theirs")
    assert failure is not None
    assert failure.code == "plugin_name_taken"
    assert f"{mine / 'clock.py'} keeps the name" in failure.sentence


async def test_a_plugin_clashes_with_no_installed_module(write: Write, open_host: Open) -> None:
    write("json.py", CLOCK.replace("clock", "json"))

    async with open_host() as watched:
        served = [plugin.name for plugin in watched.host.plugins]

    assert served == ["json"]
    assert sys.modules["json"] is json


async def test_an_added_a_changed_and_a_removed_file_are_picked_up(
    write: Write, open_host: Open
) -> None:
    async with open_host() as watched:
        path = write("clock.py", CLOCK)
        await watched.until(lambda: watched.plugin("clock"))
        before = watched.plugin("clock")

        write("clock.py", CLOCK.replace("noon", "dusk"))
        await watched.until(lambda: watched.plugin("clock") is not before)
        changed = await watched.call("clock", "now")
        after = watched.plugin("clock")

        path.unlink()
        await watched.until(lambda: not watched.host.plugins)

    assert changed == "dusk"
    assert before is not None
    assert after is not None
    assert after.server is not before.server


async def test_an_edit_of_equal_length_within_a_second_is_seen(
    write: Write, open_host: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where Python keeps bytecode, it takes such an edit for none.
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    write("clock.py", CLOCK)

    async with open_host() as watched:
        for text in ("aaaa", "bbbb", "cccc", "dddd"):
            before = watched.plugin("clock")
            write("clock.py", CLOCK.replace("noon", text))
            await watched.until(lambda before=before: watched.plugin("clock") is not before)
            assert await watched.call("clock", "now") == text


async def test_the_parts_of_a_package_and_shared_code_reload_with_it(
    write: Write, open_host: Open
) -> None:
    write("_words.py", "WORD = 'noon'")
    write("pack/__init__.py", "from .inner.deep import plugin")
    write("pack/inner/__init__.py", "")
    write(
        "pack/inner/deep.py",
        CLOCK.replace("from trunkline", "from ..._words import WORD\n    from trunkline").replace(
            '"noon"', "WORD"
        ),
    )

    async with open_host() as watched:
        first = await watched.call("clock", "now")
        before = watched.plugin("clock")
        write("_words.py", "WORD = 'dusk'")
        await watched.until(lambda: watched.plugin("clock") is not before)
        second = await watched.call("clock", "now")
        shutil.rmtree(watched.host.folders[0] / "pack")
        await watched.until(lambda: not watched.host.plugins)

    assert (first, second) == ("noon", "dusk")


async def test_a_change_that_fails_keeps_the_last_good_version(
    write: Write, open_host: Open
) -> None:
    write("clock.py", CLOCK)

    async with open_host() as watched:
        before = watched.plugin("clock")
        write("clock.py", "def x(:")
        await watched.until(lambda: watched.failure("clock"))
        meanwhile = watched.plugin("clock")
        served = await watched.call("clock", "now")

        write("clock.py", CLOCK.replace("noon", "dusk"))
        await watched.until(lambda: not watched.host.failures)
        repaired = await watched.call("clock", "now")

    assert meanwhile is before
    assert (served, repaired) == ("noon", "dusk")


async def test_a_failed_plugin_is_tried_again_when_the_part_it_missed_appears(
    write: Write, open_host: Open
) -> None:
    write("clock.py", f"from ._words import WORD\n{CLOCK}".replace("\n    ", "\n"))

    async with open_host() as watched:
        missing = watched.failure("clock")
        write("_words.py", "WORD = 1")
        await watched.until(lambda: watched.plugin("clock"))

    assert missing is not None


async def test_an_import_that_hangs_is_given_up_when_its_file_is_repaired(
    write: Write, open_host: Open, tmp_path: Path
) -> None:
    write(
        "clock.py",
        f"""
        import threading
        open({str(tmp_path / "importing")!r}, "w").close()
        threading.Event().wait()
        """,
    )

    async with open_host(register_timeout=600, settled=False) as watched:
        await eventually((tmp_path / "importing").exists)
        write("clock.py", CLOCK)
        await watched.until(lambda: watched.plugin("clock"))


async def test_a_folder_that_does_not_exist_is_reported_and_picked_up_later(
    folder: Path, tmp_path: Path, open_host: Open
) -> None:
    later = tmp_path / "later"

    async with open_host(folder, later) as watched:
        missing = watched.failure("later")
        draft = tmp_path / "draft"
        draft.mkdir()
        (draft / "clock.py").write_text(CLOCK.replace("\n    ", "\n"))
        draft.rename(later)
        await watched.until(lambda: watched.plugin("clock"))
        left = watched.host.failures

    assert missing is not None
    assert missing.code == "plugin_folder_missing"
    assert left == []


async def test_a_folder_that_need_not_exist_is_no_failure(tmp_path: Path) -> None:
    host = PluginHost([tmp_path / "none"], register_timeout=5, missing_ok=True)

    async with host.open(), asyncio.timeout(10):
        await host.settled.wait()

    assert (host.plugins, host.failures) == ([], [])


async def test_hooks_run_around_the_service_of_each_version(
    write: Write, open_host: Open, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    text = f"""{CLOCK}
    from pathlib import Path

    def note(word):
        with Path({str(diary)!r}).open("a") as file:
            file.write(word + " ")

    @plugin.on_start
    async def start(): note("start-noon")

    @plugin.on_stop
    async def stop(): note("stop-noon")
    """
    write("clock.py", text)

    async with open_host() as watched:
        before = watched.plugin("clock")
        write("clock.py", text.replace("noon", "dusk"))
        await watched.until(lambda: watched.plugin("clock") is not before)
    words = diary.read_text().split()

    assert words[:2] == ["start-noon", "start-dusk"]
    assert sorted(words[2:]) == ["stop-dusk", "stop-noon"]


async def test_a_stop_hook_that_fails_or_hangs_does_not_keep_the_host_open(
    write: Write, open_host: Open
) -> None:
    hook = "\n    @plugin.on_stop\n    async def stop(): "
    write("clock.py", f"{CLOCK}{hook}raise OSError")
    write("bell.py", f"{CLOCK.replace('clock', 'bell')}{hook}await __import__('asyncio').sleep(99)")

    async with asyncio.timeout(15):
        async with open_host() as watched:
            assert len(watched.host.plugins) == 2


async def test_nothing_is_left_behind(write: Write, open_host: Open) -> None:
    write("clock.py", CLOCK)
    write("broken.py", "1 / 0")
    tasks, threads = len(asyncio.all_tasks()), set(threading.enumerate())

    for _ in range(10):
        async with open_host() as watched:
            assert watched.plugin("clock")

    assert len(asyncio.all_tasks()) == tasks
    assert not [name for name in sys.modules if name.startswith("_trunkline_plugin_")]
    await eventually(
        lambda: (
            not any(
                thread.name.startswith("plugin ") for thread in set(threading.enumerate()) - threads
            )
        )
    )

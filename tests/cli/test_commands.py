"""`check`, `list` and `call`, run as programs in front of real servers."""

import json
import subprocess

import pytest
from tests.cli.conftest import Workplace
from tests.servers.processes import stdio_entry

BROKEN = '{\n  "mcpServers": {\n    "a": {"command": "x"\n  }\n}\n'
MISSING = {"command": "no-such-program-anywhere"}
GREETER = '''
from trunkline import Plugin

plugin = Plugin("greeter", summary="Says hello.")


@plugin.tool
def greet(name: str, times: int = 1) -> str:
    """Say hello."""
    return f"Hello, {name}!" * times
'''


def test_check_is_content_when_all_is_well(workplace: Workplace) -> None:
    workplace.configure({"all": stdio_entry("everything"), "off": {**MISSING, "disabled": True}})
    workplace.add_plugin("greeter", GREETER)

    done = workplace.run("check")

    rows = {line.split()[0]: line.split()[1:3] for line in done.stdout.splitlines() if line.strip()}
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows["greeter"] == ["CONNECTED", "1"]
    assert rows["all"][0] == "CONNECTED"
    assert rows["off"][0] == "DISCONNECTED"
    assert done.stderr == ""


def test_check_says_what_is_degraded_and_why(workplace: Workplace) -> None:
    workplace.configure({"gone": MISSING, "odd": {"command": "x", "tiemout": 3}})
    workplace.add_plugin("broken", "import a_module_nobody_has")

    shown = workplace.run("check")
    told = json.loads(workplace.run("check", "--json").stdout)

    servers = {server["name"]: server for server in told["servers"]}
    (problem,) = told["problems"]
    assert shown.returncode == 1
    assert told["verdict"] == "degraded"
    assert servers["gone"]["state"] == "ERROR"
    assert "no-such-program-anywhere" in servers["gone"]["last_error"]
    assert "a_module_nobody_has" in servers["broken"]["last_error"]
    assert problem["server"] == "odd"
    assert f"mcp.json:{problem['line']}:{problem['column']}: " in shown.stdout
    assert "timeout" in shown.stdout
    assert f"[{problem['code']}]" in shown.stdout


def test_check_points_at_the_place_where_mcp_json_is_broken(workplace: Workplace) -> None:
    (workplace.folder / "mcp.json").write_text(BROKEN)

    done = workplace.run("check")

    assert done.returncode == 2
    assert "mcp.json:6:" in done.stdout or "mcp.json:5:" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_problem_that_is_no_servers_own_degrades_too(workplace: Workplace) -> None:
    (workplace.folder / "mcp.json").write_text(
        json.dumps({"mcpServers": {"off": {**MISSING, "disabled": True}}, "mcpServer": {}})
    )

    done = workplace.run("check")

    assert done.returncode == 1
    assert "[config_unknown_key]" in done.stdout


def test_list_prints_what_a_client_gets(workplace: Workplace) -> None:
    workplace.configure({"all": stdio_entry("everything")})

    plain = workplace.run("list")
    tools = json.loads(workplace.run("list", "tools", "--json").stdout)["tools"]
    templates = json.loads(workplace.run("list", "templates", "--json").stdout)

    echo = next(tool for tool in tools if tool["name"] == "all__echo")
    assert plain.returncode == 0
    assert [line.split()[0] for line in plain.stdout.splitlines()[1:]] == [
        tool["name"] for tool in tools
    ]
    assert "x-vendor" in echo
    assert templates["resourceTemplates"]


def test_list_ends_quietly_when_its_reader_has_seen_enough(workplace: Workplace) -> None:
    workplace.add_plugin("greeter", GREETER)
    workplace.configure({})

    with subprocess.Popen(
        workplace.command("list"),
        cwd=workplace.folder,
        env=workplace.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()

    assert errors == b""
    assert process.returncode == 0


def test_call_prints_the_answer(workplace: Workplace) -> None:
    workplace.configure({})
    workplace.add_plugin("greeter", GREETER)

    pairs = workplace.run("call", "greeter__greet", "name=007", "times=2")
    stdin = workplace.run("call", "greeter__greet", "--arguments", "-", stdin='{"name": "Ada"}')
    full = workplace.run("call", "greeter__greet", "name=Ada", "--json")

    assert pairs.stdout == "Hello, 007!Hello, 007!\n", pairs.stderr
    assert stdin.stdout == "Hello, Ada!\n"
    assert json.loads(full.stdout)["structuredContent"] == {"result": "Hello, Ada!"}
    assert {done.returncode for done in (pairs, stdin, full)} == {0}


def test_a_call_that_fails_exits_1_and_one_that_makes_no_sense_2(workplace: Workplace) -> None:
    workplace.configure({"all": stdio_entry("everything")})
    workplace.add_plugin("greeter", GREETER)

    failed = workplace.run("call", "all__fail", "message=no luck")
    unknown = workplace.run("call", "greet")
    mistyped = workplace.run("call", "greeter__greet", "name=Ada", "times=often")
    twice = workplace.run("call", "greeter__greet", "name=Ada", "--arguments", "{}")

    assert (failed.returncode, failed.stdout) == (1, "no luck\n")
    assert unknown.returncode == 1
    assert "'greeter__greet'" in unknown.stderr
    assert unknown.stderr.endswith("[tool_not_found]\n")
    assert mistyped.returncode == 2
    assert mistyped.stderr == (
        "Error: times=often is not of the type integer. Write times=3. [invalid_arguments]\n"
    )
    assert twice.returncode == 2
    assert twice.stderr.endswith("[usage]\n")


def test_a_tool_that_is_known_from_before_can_be_called_at_once(workplace: Workplace) -> None:
    workplace.configure({"all": stdio_entry("everything")})

    first = workplace.run("call", "all__big", "bytes=3")
    second = workplace.run("call", "all__big", "bytes=3")

    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert second.stdout == first.stdout


def test_a_call_ends_at_its_timeout(workplace: Workplace) -> None:
    workplace.configure({"all": stdio_entry("everything")})

    done = workplace.run("call", "all__hold", "key=never", "--timeout", "5")

    assert done.returncode == 1
    assert done.stderr.endswith(
        "longer than 5 seconds. Give it more time with --timeout. [command_timeout]\n"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serv"], 'Did you mean "serve"?'),
        (["list", "tolls"], "tools"),
        (["check", "--jsno"], "Did you mean --json? See `trunkline check --help`. [usage]"),
        (["call"], "NAME"),
        (["serve", "--http", "nonsense:"], "is no address to listen on"),
        (["serve", "--log-level", "loud"], "--log-level"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_sentence(
    workplace: Workplace, arguments: list[str], sentence: str
) -> None:
    done = workplace.run(*arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("Error: ")
    assert sentence in done.stderr


def test_a_setting_that_makes_no_sense_is_one_sentence(workplace: Workplace) -> None:
    done = workplace.run("list", TRUNKLINE_DOWNSTREAM__CALL_TIMEOUT="soon")

    assert done.returncode == 2
    assert done.stderr.startswith("Error: TRUNKLINE_DOWNSTREAM__CALL_TIMEOUT is 'soon': ")
    assert done.stderr.endswith("[settings_invalid]\n")

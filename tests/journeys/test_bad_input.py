"""What is wrong gets a sentence and a code, and nobody else notices."""

from pathlib import Path

import pytest

from tests.gateway_under_test import gateway, until
from tests.journeys.conftest import ERAS
from tests.journeys.raw_client import Json, RawClient, Refused, raw_client
from tests.servers.processes import stdio_entry

pytestmark = pytest.mark.anyio


def misbehaving(*switches: str) -> Json:
    """A badly behaved server."""
    return stdio_entry("misbehaving", args=switches)


GOOD = misbehaving()
"""A neighbour, which starts quickly and does nothing wrong."""


async def assert_served(client: RawClient) -> None:
    """The neighbour is there and answers."""
    listed = [tool["name"] for tool in (await client.request("tools/list"))["tools"]]
    assert "good__ok" in listed
    assert (await client.call("good__ok"))["content"][0]["text"] == "ok is well"


@pytest.mark.parametrize("era", ERAS)
async def test_garbage_on_stdout_is_skipped(tmp_path: Path, era: str) -> None:
    servers = {"good": GOOD, "bad": misbehaving("--garbage")}
    async with gateway(servers, tmp_path) as trunkline, raw_client(trunkline.mcp, era) as client:
        answered = await client.call("bad__ok")
        await assert_served(client)

    assert not answered.get("isError")


@pytest.mark.parametrize("era", ERAS)
async def test_a_result_of_20_mb_comes_through(tmp_path: Path, era: str) -> None:
    servers = {"good": GOOD, "bad": misbehaving()}
    async with gateway(servers, tmp_path) as trunkline, raw_client(trunkline.mcp, era) as client:
        huge = await client.call("bad__huge")
        await assert_served(client)

    assert len(huge["content"][0]["text"]) == 20 * 1024 * 1024


async def test_odd_tools_are_mended_or_left_out_with_a_reason_each(tmp_path: Path) -> None:
    servers = {"good": GOOD, "bad": misbehaving("--odd-tools")}
    async with (
        gateway(servers, tmp_path) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        listed = [tool["name"] for tool in (await client.request("tools/list"))["tools"]]
        problems = trunkline.report("bad").problems
        await assert_served(client)

    served = [name.removeprefix("bad__") for name in listed if name.startswith("bad__")]
    assert served[7:-3] == ["schemaless"]
    assert served[-3].startswith("xxxx")
    assert len("bad__" + served[-3]) == 64
    assert served[-2:] == ["twin", "sp_ce_d____name"]
    assert problems == (
        "The tool 'broken_schema' was left out: its inputSchema is of type 'banana', not 'object'.",
        "The tool 'schema_of_text' was left out: its inputSchema is not an object.",
        "The tool 'schemaless' has no inputSchema; it is served with one that accepts any object.",
        "A tool was left out: it has no name.",
        "The tool 'twin' is listed twice; the first one is served.",
        "A tool was left out: it has no name.",
        "A tool was left out: it has no name.",
        "A tool was left out: it is not an object.",
    )


async def test_what_is_known_of_odd_tools_is_served_after_a_restart(tmp_path: Path) -> None:
    servers = {"bad": misbehaving("--odd-tools")}
    async with gateway(servers, tmp_path):
        pass
    async with (
        gateway({"bad": {**servers["bad"], "lazy": True}}, tmp_path) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        listed = await client.request("tools/list")
        state = trunkline.report("bad").state

    assert state == "DISCONNECTED"
    assert "bad__ok" in {tool["name"] for tool in listed["tools"]}


async def test_a_tool_with_a_300_character_name_can_be_called(tmp_path: Path) -> None:
    async with (
        gateway({"bad": misbehaving("--odd-tools")}, tmp_path) as trunkline,
        raw_client(trunkline.mcp, "handshake") as client,
    ):
        listed = [tool["name"] for tool in (await client.request("tools/list"))["tools"]]
        (name,) = [name for name in listed if name.startswith("bad__xxxx")]
        answered = await client.call(name)

    assert answered["content"][0]["text"] == f"{'x' * 300} is well"


@pytest.mark.parametrize("era", ERAS)
async def test_a_command_that_does_not_exist_is_named(tmp_path: Path, era: str) -> None:
    servers = {"good": GOOD, "bad": {"command": "no-such-command-at-all"}}
    async with gateway(servers, tmp_path) as trunkline, raw_client(trunkline.mcp, era) as client:
        report = trunkline.report("bad")
        with pytest.raises(Refused, match="There is no tool named 'bad__anything'"):
            await client.call("bad__anything")
        await assert_served(client)

    assert report.state == "ERROR"
    assert "no-such-command-at-all" in report.reason
    assert report.next_try is not None


@pytest.mark.parametrize("era", ERAS)
async def test_a_server_that_is_away_fails_its_tool_and_says_so(tmp_path: Path, era: str) -> None:
    gone = {"url": "http://127.0.0.1:9/mcp"}
    servers = {"good": GOOD, "bad": misbehaving()}
    async with gateway(servers, tmp_path) as trunkline, raw_client(trunkline.mcp, era) as client:
        died = await client.call("bad__die")
        trunkline.configure({"good": GOOD, "bad": gone})
        await until(lambda: trunkline.report("bad").kind == "streamable-http")
        away = await client.call("bad__ok")
        await assert_served(client)

    for failed in (died, away):
        assert failed["isError"] is True
        assert failed["_meta"]["trunkline/error"] == {
            "code": "downstream_unavailable",
            "server": "bad",
        }
    assert "may have run" in died["content"][0]["text"]
    assert "nothing answers at" in away["content"][0]["text"]


BROKEN = {
    "missing": (None, "config_missing"),
    "empty": ("", "config_syntax"),
    "no JSON": ('{"mcpServers": {"good": {"command": "x",,}}}', "config_syntax"),
    "no object": ("[1, 2]", "config_invalid"),
    "an unknown key": ('{"mcpServers": {"bad": {"comand": "x"}}}', "config_unknown_key"),
}
"""What is wrong with the file, how it reads (None: there is none), and the code that gets."""


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_mcp_json_is_reported_and_taken_once_it_is_repaired(
    tmp_path: Path, how: str
) -> None:
    text, code = BROKEN[how]
    async with gateway(text, tmp_path) as trunkline:
        async with raw_client(trunkline.mcp, "modern") as client, client.listening(lists=["tools"]):
            nothing = await client.request("tools/list")
            problems = trunkline.app.problems()
            trunkline.configure({"good": GOOD})
            await client.hear("notifications/tools/list_changed")
            await assert_served(client)
        left = trunkline.app.problems()

    assert nothing["tools"] == []
    assert problems[0].code == code
    assert problems[0].message.endswith((".", "?"))
    assert left == []


@pytest.mark.parametrize("how", ["missing", "empty", "no JSON", "no object"])
async def test_what_runs_goes_on_while_mcp_json_is_broken(tmp_path: Path, how: str) -> None:
    async with (
        gateway({"good": GOOD}, tmp_path) as trunkline,
        raw_client(trunkline.mcp, "modern") as client,
    ):
        before = (await client.structured("good__pids"))["pid"]
        text, code = BROKEN[how]
        if text is None:
            trunkline.config.unlink()
        else:
            trunkline.config.write_text(text)
        await until(trunkline.app.problems)
        told = trunkline.app.problems()[0].code
        await assert_served(client)
        after = (await client.structured("good__pids"))["pid"]

    assert after == before
    assert told == code


async def test_a_request_before_the_handshake_is_refused_with_a_sentence(tmp_path: Path) -> None:
    async with (
        gateway({"good": GOOD}, tmp_path) as trunkline,
        raw_client(trunkline.mcp, "handshake", opened=False) as client,
    ):
        for method in ("tools/list", "tools/call", "ping"):
            with pytest.raises(Refused, match="Send `initialize` first") as refused:
                await client.request(method, {"name": "good__ok"})

            assert (refused.value.code, refused.value.status) == (-32600, 400)

"""The example plugins do what they say, for a real client."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client, FastMCP
from fastmcp.client.elicitation import ElicitResult
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent, TextResourceContents

pytestmark = pytest.mark.anyio

Servers = dict[str, FastMCP[Any]]


async def test_every_example_is_found_and_has_a_summary(examples: Servers) -> None:
    assert sorted(examples) == ["clock", "interview", "notes", "units"]
    assert all(server.instructions for server in examples.values())


async def test_every_tool_of_an_example_is_described(examples: Servers) -> None:
    for server in examples.values():
        for tool in await server.list_tools():
            assert tool.description, tool.name


async def test_the_clock_knows_time_zones(examples: Servers) -> None:
    async with Client(examples["clock"]) as client:
        result = await client.call_tool("now", {"zone": "Asia/Kathmandu"})
        with pytest.raises(ToolError, match="'Mars/Olympus' is not a time zone"):
            await client.call_tool("now", {"zone": "Mars/Olympus"})

    assert datetime.fromisoformat(result.data).utcoffset() == timedelta(hours=5, minutes=45)


@pytest.mark.parametrize("zone", ["../../etc/passwd", "/etc/passwd", "", "\0", "a" * 5000])
async def test_the_clock_reads_no_other_files(zone: str, examples: Servers) -> None:
    async with Client(examples["clock"]) as client:
        with pytest.raises(ToolError, match="is not a time zone"):
            await client.call_tool("now", {"zone": zone})


@pytest.fixture
def notes_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, with a link in it to a secret outside of it."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "way out.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setenv("NOTES_FOLDER", str(folder))
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*.txt")}


@pytest.mark.usefixtures("notes_folder")
async def test_a_note_is_kept_found_read_and_used(examples: Servers) -> None:
    async with Client(examples["notes"]) as client:
        await client.call_tool("write_note", {"title": "To buy", "text": "bread, MILK"})
        await client.call_tool("write_note", {"title": "To read", "text": "a book"})
        found = await client.call_tool("find_notes", {"words": "milk BUY"})
        [index] = await client.read_resource("notes://index")
        [note] = await client.read_resource("notes://note/To%20buy")
        prompt = await client.get_prompt("summarize_note", {"title": "To buy"})

    assert found.data == ["To buy"]
    assert isinstance(index, TextResourceContents)
    assert index.text == "To buy\nTo read"
    assert isinstance(note, TextResourceContents)
    assert note.text == "bread, MILK"
    assert isinstance(prompt.messages[0].content, TextContent)
    assert prompt.messages[0].content.text.endswith("bread, MILK")


OUTSIDE = ["../secret", "..", "/etc/passwd", "a/b", "a\\b", "C:x", "a\0", "", ".hidden", "a\n"]


@pytest.mark.parametrize("title", OUTSIDE)
async def test_no_title_leads_out_of_the_notes_folder(
    title: str, examples: Servers, notes_folder: Path
) -> None:
    before = contents(notes_folder.parent)

    async with Client(examples["notes"]) as client:
        with pytest.raises(ToolError, match="cannot be the title of a note"):
            await client.call_tool("write_note", {"title": title, "text": "x"})
        with pytest.raises(MCPError):
            await client.read_resource(f"notes://note/{title}")

    assert contents(notes_folder.parent) == before


async def test_a_link_in_the_notes_folder_is_not_followed(
    examples: Servers, notes_folder: Path
) -> None:
    before = contents(notes_folder.parent)

    async with Client(examples["notes"]) as client:
        with pytest.raises(ToolError, match="is a link"):
            await client.call_tool("write_note", {"title": "way out", "text": "x"})
        with pytest.raises(MCPError, match="is a link"):
            await client.read_resource("notes://note/way%20out")
        found = await client.call_tool("find_notes", {"words": "secret"})

    assert found.data == []
    assert contents(notes_folder.parent) == before


@pytest.mark.usefixtures("notes_folder")
async def test_a_note_that_does_not_exist_is_said_so(examples: Servers) -> None:
    async with Client(examples["notes"]) as client:
        with pytest.raises(MCPError, match="There is no note 'Plan'"):
            await client.read_resource("notes://note/Plan")


async def test_the_interview_asks_reports_logs_and_sums_up(examples: Servers) -> None:
    asked: list[str] = []
    progress: list[tuple[float, float | None]] = []
    logged: list[Any] = []

    async def answer(message: str, response_type: Any, params: Any, context: Any) -> Any:
        asked.append(message)
        if "tried" in message:
            return ElicitResult(action="decline")
        return response_type(value=f"answer {len(asked)}")

    async def think(messages: Any, params: Any, context: Any) -> str:
        return f"Summary of: {messages[0].content.text}"

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append((done, total))

    async def on_log(message: Any) -> None:
        logged.append(message.data["msg"])

    async with Client(
        examples["interview"],
        mode="legacy",
        elicitation_handler=answer,
        sampling_handler=think,
        progress_handler=on_progress,
        log_handler=on_log,
    ) as client:
        result = await client.call_tool("interview", {"topic": "tea"})

    assert len(asked) == 3
    assert all(message.startswith("tea: ") for message in asked)
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert logged == ["3 answers about tea"]
    assert result.data.startswith("Summary of: Sum up this interview about tea")
    for words in ("answer 1", "(no answer)", "answer 3"):
        assert words in result.data


async def test_without_a_model_the_interview_returns_the_answers(examples: Servers) -> None:
    async def answer(message: str, response_type: Any, params: Any, context: Any) -> Any:
        return response_type(value="yes")

    async with Client(examples["interview"], mode="legacy", elicitation_handler=answer) as client:
        result = await client.call_tool("interview", {"topic": "tea"})

    assert result.data.splitlines()[0] == "What is it about? yes"


async def test_the_interview_ends_when_the_user_ends_it(examples: Servers) -> None:
    async def answer(message: str, response_type: Any, params: Any, context: Any) -> Any:
        return ElicitResult(action="cancel")

    async with Client(examples["interview"], mode="legacy", elicitation_handler=answer) as client:
        with pytest.raises(ToolError, match="ended the interview"):
            await client.call_tool("interview", {"topic": "tea"})


async def test_a_client_that_cannot_ask_is_told_so(examples: Servers) -> None:
    async with Client(examples["interview"], mode="legacy") as client:
        with pytest.raises(ToolError, match="cannot ask its user"):
            await client.call_tool("interview", {"topic": "tea"})


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1, "mi", "km", 1.609344),
        (12, "in", "ft", 1),
        (1, "lb", "g", 453.59237),
        (1, "gal", "l", 3.785411784),
        (212, "F", "C", 100),
        (-40, "C", "F", -40),
        (0, "K", "C", -273.15),
    ],
)
async def test_units_are_converted(
    value: float, source: str, target: str, expected: float, examples: Servers
) -> None:
    async with Client(examples["units"]) as client:
        result = await client.call_tool(
            "convert", {"value": value, "from_unit": source, "to_unit": target}
        )

    assert result.data == pytest.approx(expected, abs=1e-6)


async def test_units_of_two_quantities_are_not_converted(examples: Servers) -> None:
    async with Client(examples["units"]) as client:
        with pytest.raises(ToolError, match="'kg' cannot be converted to 'C'"):
            await client.call_tool("convert", {"value": 1, "from_unit": "kg", "to_unit": "C"})

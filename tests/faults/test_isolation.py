"""Clients that share a session: what a server asks or tells for one never reaches another."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError

from tests.gateway_under_test import Json, Person, gateway
from tests.servers.processes import running, stdio_entry

pytestmark = pytest.mark.anyio

ROUNDS = 10
ERAS = ("handshake", "modern")


async def converse(person: Person, url: str, era: str) -> list[Any]:
    """Ask, think, log and report progress, all at once and again and again."""
    results: list[Any] = []
    async with person.client(url, era) as client:

        async def call(name: str, **arguments: Any) -> None:
            meta: Any = {"io.modelcontextprotocol/logLevel": "debug"} if era == "modern" else None
            try:
                result = await client.call_tool(
                    f"one__{name}", arguments, progress_callback=person.on_progress, meta=meta
                )
            except MCPError as error:
                result = error
            results.append(result)

        for number in range(ROUNDS):
            async with asyncio.TaskGroup() as group:
                group.create_task(call("ask", message=f"{person.name} {number}"))
                group.create_task(call("think", prompt=f"{person.name} {number}"))
                group.create_task(call("log", text=person.name, levels=["info"]))
                group.create_task(call("roots"))
                group.create_task(call("slow", seconds=0.02, steps=2))
    return results


def crossed(person: Person, results: list[Any], others: list[str]) -> list[str]:
    """Traces of anybody else in what this person was asked, told or answered."""
    everything = [*person.asked, *person.logs, *results]
    return [str(item) for item in everything if any(name in str(item) for name in others)]


@pytest.mark.parametrize("era", ERAS)
async def test_over_http_everything_reaches_the_client_that_caused_it(
    tmp_path: Path, era: str
) -> None:
    people = [Person(name) for name in ("Ada", "Bob", "Cyd")]
    async with running("everything", era="handshake") as server:
        async with (
            gateway({"one": server.entry()}, tmp_path) as trunkline,
            asyncio.TaskGroup() as group,
        ):
            talks = [group.create_task(converse(one, trunkline.mcp, era)) for one in people]

    for person, talk in zip(people, talks, strict=True):
        others = [other.name for other in people if other is not person]
        assert crossed(person, talk.result(), others) == []
        assert not any(isinstance(result, MCPError) or result.is_error for result in talk.result())
        assert len(person.asked) == 2 * ROUNDS
        assert len(person.logs) == ROUNDS
        assert len(person.progress) == 2 * ROUNDS


@pytest.mark.parametrize("era", ERAS)
async def test_over_stdio_what_cannot_be_told_apart_is_refused_and_never_guessed(
    tmp_path: Path, era: str
) -> None:
    people = [Person(name) for name in ("Ada", "Bob", "Cyd")]
    async with (
        gateway({"one": stdio_entry("everything", era="handshake")}, tmp_path) as trunkline,
        asyncio.TaskGroup() as group,
    ):
        talks = [group.create_task(converse(one, trunkline.mcp, era)) for one in people]

    for person, talk in zip(people, talks, strict=True):
        others = [other.name for other in people if other is not person]
        assert crossed(person, talk.result(), others) == []
    results = [result for talk in talks for result in talk.result()]
    refused = [str(result) for result in results if isinstance(result, MCPError)]
    assert all("several clients" in refusal for refusal in refused)
    assert len(results) == len(people) * ROUNDS * 5


async def test_a_stdio_server_that_is_shared_by_nobody_can_ask_everybody(tmp_path: Path) -> None:
    entry: Json = {**stdio_entry("everything", era="handshake"), "sharing": "client"}
    people = [Person(name) for name in ("Ada", "Bob")]
    async with (
        gateway({"one": entry}, tmp_path) as trunkline,
        asyncio.TaskGroup() as group,
    ):
        talks = [group.create_task(converse(one, trunkline.mcp, "handshake")) for one in people]

    for person, talk in zip(people, talks, strict=True):
        others = [other.name for other in people if other is not person]
        assert crossed(person, talk.result(), others) == []
        assert not any(isinstance(result, MCPError) or result.is_error for result in talk.result())


async def test_a_client_of_its_own_session_is_introduced_as_it_is(tmp_path: Path) -> None:
    entry: Json = {**stdio_entry("everything", era="handshake"), "sharing": "client"}
    async with (
        gateway({"one": entry}, tmp_path) as trunkline,
        Person("Ada").client(trunkline.mcp, "handshake") as client,
    ):
        who = (await client.call_tool("one__whoami", {})).structured_content
        roots = (await client.call_tool("one__roots", {})).structured_content

    assert who is not None
    assert roots is not None
    assert who["clientInfo"]["name"] == "client-of-Ada"
    assert who["capabilities"].keys() == {"elicitation", "sampling", "roots"}
    assert roots["answer"]["roots"][0]["uri"] == "file:///home/Ada"

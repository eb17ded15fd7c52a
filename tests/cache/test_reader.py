"""Reads that come together are joined."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import pytest

from trunkline.background import background
from trunkline.cache.clients import InProcess
from trunkline.cache.failures import CacheFailure
from trunkline.cache.reader import Reader

pytestmark = pytest.mark.anyio


class Source:
    """Answers every key with the number of the question, once it may."""

    def __init__(self) -> None:
        self.questions: list[list[str]] = []
        self.may_answer = asyncio.Event()
        self.fails = False

    async def ask(self, keys: Sequence[str]) -> dict[str, Any]:
        self.questions.append(list(keys))
        number = len(self.questions)
        await self.may_answer.wait()
        if self.fails:
            raise CacheFailure("slow")
        return dict.fromkeys(keys, number)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def reader(source: Source) -> AsyncIterator[Reader]:
    async with background() as group:
        reader = Reader(source.ask)
        group.start_soon(reader.run)
        yield reader


async def test_who_comes_while_a_question_is_asked_shares_the_next_one(
    source: Source, reader: Reader
) -> None:
    answers: list[Any] = []

    async def read() -> None:
        answers.append((await reader.read(["key"]))["key"])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        for _ in range(200):
            group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        source.may_answer.set()

    assert answers == [1] + [2] * 200
    assert source.questions == [["key"], ["key"]]


async def test_a_failure_is_everybodys_who_waits_and_nobodys_who_comes_later(
    source: Source, reader: Reader
) -> None:
    source.fails = True
    failed = 0

    async def read() -> None:
        nonlocal failed
        try:
            await reader.read(["key"])
        except CacheFailure:
            failed += 1

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        source.may_answer.set()
    source.fails = False

    assert failed == 1000
    assert len(source.questions) == 1
    assert await reader.read(["key"]) == {"key": 2}


async def test_who_leaves_is_not_waited_for(source: Source, reader: Reader) -> None:
    source.may_answer.set()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await reader.read(["left"])

    assert (await reader.read(["key"]))["key"] == 1
    assert source.questions == [["key"]]


async def test_a_store_in_this_process_forgets_everything_before_it_grows_too_large() -> None:
    store = InProcess(timeout=5, patience=5, largest=10_000)
    for number in range(1000):
        await store.write(f"mcp:cache:v1:tool:{number}", b"x" * 100, 0.001)
        assert await store.client.dbsize() <= 100
    await store.close()

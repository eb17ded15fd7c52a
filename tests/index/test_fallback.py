"""Search goes on when Qdrant does not answer, nobody waits for it long, and it comes back."""

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup
from prometheus_client import REGISTRY
from qdrant_client import AsyncQdrantClient
from structlog.testing import capture_logs

from tests.index.contract import DIMENSIONS, IndexContract
from tests.index.qdrant_filling import OTHER, SPACE, point, query, ref, vector
from tests.index.qdrant_stand_in import Silence, StandIn, Status, stand_in
from trunkline.errors import IndexFailure, IndexMismatch, IndexNotFilled, IndexUnavailable
from trunkline.index.fallback import FallbackIndex
from trunkline.index.in_process import InProcessIndex
from trunkline.index.index import Match, Point
from trunkline.index.qdrant import QdrantIndex
from trunkline.index.qdrant_connection import connect
from trunkline.index.qdrant_schema import Space
from trunkline.index.retry import Backoff

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

SERVER = Path(__file__).parents[2] / "server"
PATIENCE = 1.0
ONCE = Backoff(attempts=1, timeout=5.0)


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with stand_in() as server:
        yield server


@pytest.fixture
async def index(server: StandIn) -> AsyncIterator[FallbackIndex]:
    """An empty index over both, with Qdrant's prepared and its probes running."""
    async with connect(server.url) as client, anyio.create_task_group() as group:
        remote = QdrantIndex(client, SPACE, backoff=ONCE)
        await remote.prepare()
        await remote.switch()
        index = FallbackIndex(
            remote, InProcessIndex(DIMENSIONS), patience=PATIENCE, failures=2, first_pause=0.01
        )
        group.start_soon(index.run)
        yield index
        group.cancel_scope.cancel()


async def over(
    client: AsyncQdrantClient, space: Space, points: list[Point], group: TaskGroup
) -> FallbackIndex:
    """An index over both that holds *points* in process, with its probes running."""
    remote, local = QdrantIndex(client, space, backoff=ONCE), InProcessIndex(space.dimensions)
    await local.upsert(points)
    index = FallbackIndex(remote, local, first_pause=0.01)
    group.start_soon(index.run)
    return index


async def switch(index: FallbackIndex) -> None:
    assert isinstance(index.remote, QdrantIndex)
    await index.remote.switch()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens behind our back."""
    with anyio.fail_after(10):
        while not condition():  # noqa: ASYNC110 - it tells nobody
            await anyio.sleep(0.005)


def names(matches: list[Match]) -> list[str]:
    return [match.ref.own_name for match in matches]


def events(logs: list[MutableMapping[str, Any]]) -> list[str]:
    return [log["event"] for log in logs if log["event"].startswith("qdrant.")]


class TestFallbackIndex(IndexContract):
    """Two indexes as one keep the promises of one."""


class TestFallbackIndexInProcess(IndexContract):
    """And so they do while Qdrant refuses every search."""

    @pytest.fixture
    def index(self, index: FallbackIndex, server: StandIn) -> FallbackIndex:
        server.always_fail("search", Status(503))
        return index


async def test_qdrant_is_asked_while_it_answers(server: StandIn, index: FallbackIndex) -> None:
    await index.upsert([point(1, "send letter")])

    assert names(await index.search(query("letter"))) == ["send"]

    assert len(server.seen("search")) == 1
    assert not index.degraded


@pytest.mark.parametrize("fault", [Status(503), Status(400), Status(401), Silence()], ids=repr)
async def test_search_goes_on_in_process_and_says_so(
    server: StandIn, index: FallbackIndex, fault: Status | Silence
) -> None:
    await index.upsert([point(1, "send letter")])
    server.always_fail("search", fault)

    matches, degraded = await index.answer(query("letter"))

    assert names(matches) == ["send"]
    assert degraded
    assert index.degraded
    assert index.reason is not None


async def test_one_failure_is_forgotten_with_the_next_success(
    server: StandIn, index: FallbackIndex
) -> None:
    server.fail("search", Status(503))

    with capture_logs() as logs:
        _, first = await index.answer(query("letter"))
        _, second = await index.answer(query("letter"))

    assert (first, second) == (True, False)
    assert not index.degraded
    assert index.reason is None
    assert events(logs) == []


async def test_after_a_few_failures_nobody_waits_any_more(
    server: StandIn, index: FallbackIndex
) -> None:
    server.always_fail("search", Silence())
    server.always_fail("count", Silence())

    for _ in range(50):
        await index.search(query("letter"))

    assert index.is_down
    assert len(server.seen("search")) == 2


async def test_searches_side_by_side_wait_side_by_side(
    server: StandIn, index: FallbackIndex
) -> None:
    await index.upsert([point(1, "send letter")])
    server.always_fail("search", Silence())
    server.always_fail("count", Silence())
    found: list[list[Match]] = []

    async def search() -> None:
        found.append(await index.search(query("letter")))

    with capture_logs() as logs, anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(search)

    assert events(logs) == ["qdrant.down"]
    assert [names(matches) for matches in found] == [["send"]] * 20
    assert index.is_down


async def test_an_outage_is_one_line_at_its_start_and_one_at_its_end(
    server: StandIn, index: FallbackIndex
) -> None:
    with capture_logs() as logs:
        await server.stop()
        for _ in range(20):
            await index.search(query("letter"))
        await server.start()
        await until(lambda: not index.is_down)
        await index.search(query("letter"))

    assert events(logs) == ["qdrant.down", "qdrant.up"]
    assert not index.degraded


async def test_a_qdrant_that_is_back_is_asked_again(server: StandIn, index: FallbackIndex) -> None:
    await index.upsert([point(1, "send letter")])
    await server.stop()
    for _ in range(2):
        await index.search(query("letter"))
    await server.start()

    await until(lambda: not index.is_down)
    matches, degraded = await index.answer(query("letter"))

    assert names(matches) == ["send"]
    assert not degraded


async def test_an_outage_can_be_seen_in_the_metrics(server: StandIn, index: FallbackIndex) -> None:
    def measured() -> float | None:
        return REGISTRY.get_sample_value("trunkline_index_degraded")

    await index.search(query("letter"))
    before = measured()
    await server.stop()
    for _ in range(2):
        await index.search(query("letter"))
    during = measured()
    await server.start()
    await until(lambda: not index.is_down)

    assert (before, during, measured()) == (0, 1, 0)


async def test_what_changes_while_qdrant_is_away_is_found_in_process(
    server: StandIn, index: FallbackIndex
) -> None:
    await index.upsert([point(1, "send letter"), point(2, "read letter")])
    await server.stop()

    with pytest.raises(IndexUnavailable):
        await index.upsert([point(3, "write letter")])
    with pytest.raises(IndexUnavailable):
        await index.delete([ref(1, "send")])

    assert set(names(await index.search(query("letter")))) == {"read", "write"}


async def test_what_is_repeated_after_an_outage_is_the_same_in_both(
    server: StandIn, index: FallbackIndex
) -> None:
    async def change() -> None:
        await index.upsert([point(3, "write letter")])
        await index.delete([ref(1, "send")])

    await index.upsert([point(1, "send letter")])
    await server.stop()
    with pytest.raises(IndexUnavailable):
        await change()
    await server.start()

    await change()

    assert [one async for one in index.contents()] == [one async for one in index.local.contents()]
    assert await index.count() == await index.local.count() == 1


async def test_until_qdrant_is_filled_search_is_answered_in_process(server: StandIn) -> None:
    async with connect(server.url) as client, anyio.create_task_group() as group:
        remote = QdrantIndex(client, SPACE, backoff=ONCE)
        index = FallbackIndex(remote, InProcessIndex(DIMENSIONS), first_pause=0.01)
        group.start_soon(index.run)
        await index.upsert([point(1, "send letter")])

        answers = [await index.answer(query("letter")) for _ in range(3)]
        reason = index.reason
        await remote.switch()
        await until(lambda: not index.is_down)
        answers.append(await index.answer(query("letter")))
        group.cancel_scope.cancel()

        assert [names(matches) for matches, _ in answers] == [["send"]] * 4
        assert [degraded for _, degraded in answers] == [True, True, True, False]
        assert isinstance(reason, IndexNotFilled)


async def test_search_never_stops_while_the_embedding_is_changed(server: StandIn) -> None:
    async with connect(server.url) as client, anyio.create_task_group() as group:
        points = [point(number, f"tool{number} letter") for number in range(1, 301)]
        before = await over(client, SPACE, points, group)
        after = await over(client, OTHER, points, group)
        await before.remote.upsert(points)
        await switch(before)
        changed = anyio.Event()
        answers: list[int] = []

        async def search() -> None:
            while not changed.is_set():
                answers.append(len(await before.search(query("letter", limit=300))))
                answers.append(len(await after.search(query("letter", limit=300))))

        group.start_soon(search)
        await after.remote.upsert(points)
        await switch(after)
        await until(lambda: not after.is_down)
        _, old = await before.answer(query("letter"))
        _, new = await after.answer(query("letter"))
        changed.set()
        group.cancel_scope.cancel()

        assert set(answers) == {300}
        assert (old, new) == (True, False)


async def test_a_query_of_another_space_is_the_callers_mistake_and_no_outage(
    server: StandIn, index: FallbackIndex
) -> None:
    await index.upsert([point(1, "send letter")])

    for _ in range(5):
        with pytest.raises(IndexMismatch):
            await index.search(replace(query("letter"), vector=vector("letter", 16)))

    assert not index.degraded


async def test_a_qdrant_that_pings_but_cannot_search_is_tried_less_and_less_often(
    server: StandIn, index: FallbackIndex
) -> None:
    server.always_fail("search", Status(400))

    for _ in range(4):
        for _ in range(2):
            await index.search(query("letter"))
        await until(lambda: not index.is_down)

    assert index.pause == pytest.approx(0.01 * 2**4)


async def test_errors_of_counting_are_told(server: StandIn, index: FallbackIndex) -> None:
    await server.stop()

    with pytest.raises(IndexFailure):
        await index.count()


def test_the_qdrant_client_is_not_loaded_before_there_is_a_qdrant() -> None:
    modules = "fallback, in_process, metrics, point_ids, retry"
    program = (
        f"import sys; from trunkline.index import {modules}; print('qdrant_client' in sys.modules)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        env={"PYTHONPATH": str(SERVER)},
        capture_output=True,
        text=True,
    )

    assert ran.stdout == "False\n"

"""Qdrant fails in every way it can, over real HTTP, and nothing is lost by it."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import pytest
from qdrant_client import AsyncQdrantClient
from structlog.testing import capture_logs

from tests.index.qdrant_filling import OTHER, QUICK, SPACE, point, query, ref
from tests.index.qdrant_stand_in import Cut, Fault, Silence, StandIn, Status, stand_in
from trunkline.errors import ConfigError, IndexFailure, IndexRefused, IndexUnavailable
from trunkline.index.qdrant import QdrantIndex
from trunkline.index.qdrant_connection import connect
from trunkline.index.retry import Backoff

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

IMPATIENT = Backoff(base_delay=0.001, timeout=1.0)
PASSING: list[Fault] = [
    Status(503),
    Status(500),
    Status(502, body=b"<html>Bad gateway</html>"),
    Status(429),
    Status(429, {"Retry-After": "0"}),
    Status(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    Status(408),
    Silence(),
    Cut(),
    Cut(done=True),
]


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with stand_in() as server:
        yield server


@pytest.fixture
async def client(server: StandIn) -> AsyncIterator[AsyncQdrantClient]:
    async with connect(server.url) as client:
        yield client


@pytest.fixture
async def index(client: AsyncQdrantClient) -> QdrantIndex:
    """An index with one point, searched."""
    index = QdrantIndex(client, SPACE, backoff=IMPATIENT)
    await index.upsert([point(1, "send letter")])
    await index.switch()
    return index


def events(logs: list[MutableMapping[str, Any]]) -> list[str]:
    return [log["event"] for log in logs]


@pytest.mark.parametrize("fault", PASSING, ids=repr)
async def test_an_upsert_outlives_two_failures(
    server: StandIn, index: QdrantIndex, fault: Fault
) -> None:
    server.fail("upsert", fault, fault)

    await index.upsert([point(42, "read inbox")])

    assert await index.count() == 2
    assert len(server.seen("upsert")) == 4


@pytest.mark.parametrize("fault", PASSING, ids=repr)
async def test_a_search_outlives_two_failures(
    server: StandIn, index: QdrantIndex, fault: Fault
) -> None:
    server.fail("search", fault, fault)

    (match,) = await index.search(query("letter"))

    assert match.ref == ref(1, "send")


@pytest.mark.parametrize("fault", PASSING, ids=repr)
async def test_a_deletion_outlives_two_failures_and_is_told(
    server: StandIn, index: QdrantIndex, fault: Fault
) -> None:
    server.fail("delete", fault, fault)

    with capture_logs() as logs:
        await index.delete([ref(1, "send")])

    assert await index.count() == 0
    assert "Qdrant delete point 1 failed (attempt 2/3): " in events(logs)[1]
    assert events(logs)[-1] == "Deleted vector: 1"


@pytest.mark.parametrize(
    "operation",
    ["info", "exists", "create", "describe", "index", "aliases", "upsert", "switch", "count"],
)
async def test_no_step_on_the_way_to_a_filled_index_is_lost_to_a_failure(
    server: StandIn, operation: str
) -> None:
    server.fail(operation, Cut(), Cut(done=True))

    async with connect(server.url) as client:
        index = QdrantIndex(client, SPACE, backoff=IMPATIENT)
        await index.prepare()
        await index.upsert([point(1, "send letter")])
        await index.switch()
        counted = await index.count()
        matches = await index.search(query("letter"))

    assert counted == 1
    assert [match.ref.own_name for match in matches] == ["send"]


async def test_reading_it_all_is_not_stopped_by_a_failure(
    server: StandIn, index: QdrantIndex
) -> None:
    await index.upsert([point(number, f"tool{number}") for number in range(2, 1502)])
    server.fail("scroll", Cut(), Status(503))

    numbers = {ref.db_id async for ref, _ in index.contents()}

    assert numbers == set(range(1, 1502))
    assert len(server.seen("scroll")) == 4


async def test_the_old_collection_is_dropped_in_spite_of_a_failure(
    server: StandIn, index: QdrantIndex, client: AsyncQdrantClient
) -> None:
    fresh = QdrantIndex(client, OTHER, backoff=IMPATIENT)
    await fresh.prepare()
    server.fail("drop", Cut(), Cut(done=True))

    await fresh.switch()

    assert [one.name for one in (await client.get_collections()).collections] == [fresh.collection]


async def test_the_log_says_what_failed_and_how(server: StandIn, index: QdrantIndex) -> None:
    server.fail("upsert", Cut(), Silence())

    with capture_logs() as logs:
        await index.upsert([point(42, "read inbox")])

    assert events(logs) == [
        "Qdrant upsert point 42 failed (attempt 1/3): ConnectionError. Retrying in 0.0s...",
        "Qdrant upsert point 42 failed (attempt 2/3): TimeoutError. Retrying in 0.0s...",
    ]


async def test_many_points_are_one_line_in_the_log(server: StandIn, index: QdrantIndex) -> None:
    server.fail("upsert", Status(503))

    with capture_logs() as logs:
        await index.upsert([point(number, f"tool{number}") for number in range(1, 21)])

    (line,) = events(logs)
    assert line == (
        "Qdrant upsert points 1, 2, 3, 4, 5 and 15 more failed (attempt 1/3): "
        "503 Service Unavailable. Retrying in 0.0s..."
    )


async def test_a_wait_that_qdrant_asks_for_is_in_the_log(
    server: StandIn, index: QdrantIndex
) -> None:
    server.fail("upsert", Status(429, {"Retry-After": "1"}))

    with capture_logs() as logs:
        await index.upsert([point(42, "read inbox")])

    assert events(logs) == [
        "Qdrant upsert point 42 failed (attempt 1/3): 429 Too Many Requests. Retrying in 1.0s..."
    ]


@pytest.mark.parametrize("operation", ["upsert", "search", "delete", "count", "scroll"])
async def test_a_third_failure_is_an_error_with_a_sentence(
    server: StandIn, index: QdrantIndex, operation: str
) -> None:
    server.always_fail(operation, Status(503))
    before = len(server.seen(operation))
    calls = {
        "upsert": lambda: index.upsert([point(1, "send letter")]),
        "search": lambda: index.search(query("letter")),
        "delete": lambda: index.delete([ref(1, "send")]),
        "count": index.count,
        "scroll": lambda: anext(index.contents()),
    }

    with pytest.raises(IndexUnavailable, match=r"does not answer \(503 Service Unavailable\)"):
        await calls[operation]()

    assert len(server.seen(operation)) - before == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Status(400), "on purpose"),
        (Status(404), "on purpose"),
        (Status(401), "QDRANT_API_KEY"),
        (Status(403), "QDRANT_API_KEY"),
        (Status(400, body=b"<html>no</html>"), "<html>no</html>"),
        (Status(400, body=b"[]"), "[]"),
        (Status(200, body=b"<html>hello</html>"), "does not speak Qdrant"),
        (Status(200, body=b'{"result": 5}'), "does not speak Qdrant"),
        (Status(200, body=b""), "does not speak Qdrant"),
    ],
    ids=repr,
)
async def test_a_refusal_is_raised_at_once(
    server: StandIn, index: QdrantIndex, fault: Status, said: str
) -> None:
    server.fail("upsert", fault)

    with capture_logs() as logs, pytest.raises(IndexRefused) as refused:
        await index.upsert([point(42, "read inbox")])

    assert said in str(refused.value)
    assert len(server.seen("upsert")) == 2
    assert logs == []


async def test_a_search_that_is_refused_says_why(server: StandIn, index: QdrantIndex) -> None:
    server.fail("search", Status(400))

    with pytest.raises(IndexRefused, match="on purpose"):
        await index.search(query("letter"))


async def test_a_server_that_restarts_in_the_middle_of_an_upsert_loses_nothing(
    server: StandIn,
) -> None:
    async with connect(server.url) as client:
        index = QdrantIndex(client, SPACE, backoff=Backoff(base_delay=0.05))
        await index.prepare()
        await index.switch()
        server.fail("upsert", Silence())

        async with anyio.create_task_group() as group:
            points = [point(number, f"tool{number} letter") for number in range(1, 151)]
            group.start_soon(index.upsert, points)
            await server.wait_for("upsert")
            await server.stop()
            await server.start()

        assert await index.count() == 150
        assert len(await index.search(query("letter", limit=200))) == 150


@pytest.mark.parametrize("seed", range(5))
async def test_what_is_repeated_until_it_is_done_ends_as_it_was_meant(
    server: StandIn, index: QdrantIndex, seed: int
) -> None:
    chance, meant = random.Random(seed), {1: "send letter"}
    faults: list[Fault] = [Status(503), Status(400), Cut(), Cut(done=True)]

    for _ in range(30):
        for operation in ("upsert", "delete"):
            server.fail(operation, *chance.choices(faults, k=chance.randrange(5)))
        number = chance.randrange(1, 8)
        if chance.random() < 0.6:
            meant[number] = f"tool{number} take{chance.randrange(9)}"
            await done(lambda n=number: index.upsert([point(n, meant[n])]))
        else:
            meant.pop(number, None)
            await done(lambda n=number: index.delete([ref(n, f"tool{n}")]))

    expected = {number: point(number, text).content_hash for number, text in meant.items()}
    assert {ref.db_id: digest async for ref, digest in index.contents()} == expected


async def done(change: Callable[[], Awaitable[None]]) -> None:
    """Make a change, as often as it takes."""
    while True:
        try:
            return await change()
        except IndexFailure:
            continue


async def test_a_server_that_is_not_there_yet_is_waited_for(server: StandIn) -> None:
    await server.stop()
    async with connect(server.url) as client:
        index = QdrantIndex(client, SPACE, backoff=Backoff(base_delay=0.001))
        with pytest.raises(IndexUnavailable):
            await index.prepare()
        await server.start()

        await index.upsert([point(1, "send letter")])
        await index.switch()

        assert len(await index.search(query("letter"))) == 1


async def test_a_connection_is_used_again_and_its_end_is_noticed(
    server: StandIn, index: QdrantIndex
) -> None:
    for _ in range(20):
        await index.search(query("letter"))
    connections = server.connections
    await server.stop()
    await server.start()

    with capture_logs() as logs:
        assert len(await index.search(query("letter"))) == 1

    assert connections == 1
    assert server.connections == 2
    assert logs == []


async def test_a_key_is_sent_and_a_wrong_one_is_a_sentence() -> None:
    async with stand_in(api_key="right") as server:
        async with connect(server.url, api_key="right") as client:
            await QdrantIndex(client, SPACE, backoff=QUICK).prepare()
        async with connect(server.url, api_key="wrong") as client:
            with pytest.raises(IndexRefused, match="QDRANT_API_KEY") as refused:
                await QdrantIndex(client, SPACE, backoff=QUICK).prepare()

    assert "wrong" not in str(refused.value)


async def test_a_qdrant_that_is_too_old_is_a_sentence(server: StandIn) -> None:
    server.version = "1.18.3"

    async with connect(server.url) as client:
        with pytest.raises(IndexRefused, match=r"1\.18\.3.* 1\.19"):
            await QdrantIndex(client, SPACE, backoff=QUICK).prepare()


async def test_a_version_that_says_nothing_is_let_pass(server: StandIn) -> None:
    server.version = "dev"

    async with connect(server.url) as client:
        assert not await QdrantIndex(client, SPACE, backoff=QUICK).prepare()


async def test_a_ping_is_one_question_and_no_line_in_the_log(
    server: StandIn, index: QdrantIndex
) -> None:
    server.always_fail("count", Status(503))

    with capture_logs() as logs, pytest.raises(IndexFailure):
        await index.ping()

    assert len(server.seen("count")) == 1
    assert logs == []


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1:1", "http://127.0.0.1:99999", "http://[::1", ":::", "http://a b", "\n"]
)
async def test_an_address_that_is_none_is_a_sentence(url: str) -> None:
    with pytest.raises(ConfigError, match="QDRANT_URL is no address"):
        async with connect(url):
            pass


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
async def test_a_key_that_is_none_is_a_sentence_without_it(key: str) -> None:
    with pytest.raises(ConfigError, match="QDRANT_API_KEY") as refused:
        async with connect("http://127.0.0.1:1", api_key=key):
            pass

    assert key not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "is_told"),
    [
        ("http://qdrant.invalid:6333", True),
        ("qdrant.invalid:6333", True),
        ("https://qdrant.invalid:6333", False),
        ("http://127.0.0.1:6333", False),
        ("http://[::1]:6333", False),
        ("localhost:6333", False),
    ],
)
async def test_a_key_that_others_could_read_on_its_way_is_told(url: str, is_told: bool) -> None:
    with capture_logs() as logs:
        async with connect(url, api_key="secret"):
            pass

    assert events(logs) == ["qdrant.key_in_the_clear"] * is_told
    assert "secret" not in str(logs)

"""The embedding endpoint, against a server on the loopback interface that misbehaves on purpose."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from tests.servers.raw_http import Handler, RawServer, Reply, Request, serve

from trunkline.errors import (
    EmbeddingError,
    EmbeddingInvalid,
    EmbeddingRefused,
    EmbeddingUnavailable,
    SettingsInvalid,
)
from trunkline.search.embedding.endpoint import (
    LONGEST_TEXT,
    Endpoint,
    EndpointEmbedding,
    open_endpoint,
)

pytestmark = pytest.mark.anyio

KEY = "sk-very-secret-0123456789"
VECTOR = [3.0, 0.0, 4.0]


@asynccontextmanager
async def connected(
    handle: Handler, *, path: str = "/v1", **options: Any
) -> AsyncGenerator[tuple[RawServer, EndpointEmbedding]]:
    """The embedding in front of a server that answers with *handle*; everything is bounded."""
    async with asyncio.timeout(60), serve(handle) as server:
        url = f"http://127.0.0.1:{server.port}{path}"
        fixed: dict[str, Any] = {"model": "m", "dimensions": 3, "pause": 0.01}
        async with open_endpoint(Endpoint(url=url, **{**fixed, **options})) as embedding:
            yield server, embedding


def vectors(*values: list[Any]) -> dict[str, Any]:
    return {"data": [{"index": n, "embedding": value} for n, value in enumerate(values)]}


async def echo_lengths(request: Request, reply: Reply) -> None:
    """A vector that tells the length of its text, in reverse order."""
    texts = request.message["input"]
    items = [{"index": n, "embedding": [len(text), 1, 0]} for n, text in enumerate(texts)]
    await reply.json({"data": items[::-1]})


def answering(message: Any, status: int = 200, **headers: str) -> Handler:
    async def handle(_: Request, reply: Reply) -> None:
        await reply.json(message, status, **headers)

    return handle


def failing(times: int, failure: Callable[[Reply], Awaitable[None]]) -> Handler:
    """*failure* for the first requests, vectors for those after them."""
    left = [failure] * times

    async def handle(request: Request, reply: Reply) -> None:
        if left:
            await left.pop()(reply)
        else:
            await reply.json(vectors(*[VECTOR] * len(request.message["input"])))

    return handle


async def test_vectors_come_in_the_order_of_the_texts_and_with_length_one() -> None:
    async with connected(echo_lengths) as (_, embedding):
        rows = await embedding.embed(["a", "bbb", "cc"])

    assert rows.dtype == np.float32
    assert np.allclose(rows[:, 0] / rows[:, 1], [1, 3, 2])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)


async def test_many_texts_go_in_batches() -> None:
    async with connected(echo_lengths, batch=4) as (server, embedding):
        rows = await embedding.embed(["x" * n for n in range(1, 11)])

    assert [len(request.message["input"]) for request in server.requests] == [4, 4, 2]
    assert np.allclose(rows[:, 0] / rows[:, 1], range(1, 11))


async def test_no_texts_are_no_request() -> None:
    async with connected(echo_lengths) as (server, embedding):
        assert (await embedding.embed([])).shape == (0, 3)

    assert server.requests == []


async def test_an_empty_text_is_a_row_of_zeros_and_is_not_sent() -> None:
    async with connected(echo_lengths) as (server, embedding):
        rows = await embedding.embed(["", "aa", " \n"])

    assert server.requests[0].message["input"] == ["aa"]
    assert not rows[0].any()
    assert rows[1].any()
    assert not rows[2].any()


async def test_a_text_is_cut_where_endpoints_would_refuse_it() -> None:
    async with connected(echo_lengths) as (server, embedding):
        await embedding.embed(["x" * 100_000])

    assert len(server.requests[0].message["input"][0]) == LONGEST_TEXT


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/embeddings"])
async def test_the_address_may_be_the_base_or_the_whole(path: str) -> None:
    async with connected(echo_lengths, path=path, key=SecretStr(KEY)) as (server, embedding):
        await embedding.embed(["a"])

    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/embeddings")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.message["model"] == "m"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_not_accepted_is_said_at_once(status: int) -> None:
    refusal = answering({"error": {"message": f"bad key {KEY}"}}, status)
    async with connected(refusal, key=SecretStr(KEY)) as (server, embedding):
        with pytest.raises(EmbeddingRefused, match=r"does not accept the key .* EMBEDDING_KEY"):
            await embedding.embed(["a"])

    assert len(server.requests) == 1


async def test_a_refusal_quotes_the_endpoint_without_the_key() -> None:
    refusal = answering({"error": {"message": f"no such model for {KEY}"}}, 400)
    async with connected(refusal, key=SecretStr(KEY)) as (server, embedding):
        with pytest.raises(EmbeddingRefused, match=r"400: no such model for \*\*\*") as caught:
            await embedding.embed(["a"])

    assert len(server.requests) == 1
    assert KEY not in repr(chain(caught.value))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_tried_again(status: int) -> None:
    async def fail(reply: Reply) -> None:
        await reply.json({"error": {"message": "busy"}}, status)

    async with connected(failing(2, fail)) as (server, embedding):
        rows = await embedding.embed(["a"])

    assert np.allclose(rows, [[0.6, 0, 0.8]])
    assert len(server.requests) == 3


async def test_a_connection_that_breaks_is_made_again() -> None:
    async def fail(reply: Reply) -> None:
        reply.cut()

    async with connected(failing(1, fail)) as (server, embedding):
        await embedding.embed(["a"])

    assert server.connections == 2


async def test_what_does_not_pass_ends_after_the_last_attempt() -> None:
    async with connected(answering({}, 500), attempts=3) as (server, embedding):
        with pytest.raises(EmbeddingUnavailable, match="status 500"):
            await embedding.embed(["a"])

    assert len(server.requests) == 3


async def test_the_pause_is_the_one_the_endpoint_asks_for() -> None:
    """The configured pause would outlast the deadline, so it cannot be the one that was kept."""

    async def fail(reply: Reply) -> None:
        await reply.json({}, 429, retry_after="0.01")

    async with connected(failing(1, fail), pause=1000.0, deadline=20.0) as (server, embedding):
        await embedding.embed(["a"])

    assert len(server.requests) == 2


async def test_a_pause_longer_than_the_deadline_is_not_waited_for() -> None:
    busy = answering({}, 429, retry_after="3600")
    async with connected(busy) as (server, embedding):
        with pytest.raises(EmbeddingUnavailable, match="status 429") as caught:
            await embedding.embed(["a"])

    assert caught.value.retry_after == 3600
    assert len(server.requests) == 1


async def test_an_endpoint_that_never_answers_is_given_up_at_the_deadline() -> None:
    async def never(_: Request, reply: Reply) -> None:
        await reply.closed.wait()

    async with connected(never, deadline=0.2) as (_, embedding):
        with pytest.raises(EmbeddingUnavailable, match=r"did not answer within 0\.2 seconds"):
            await embedding.embed(["a"])


async def test_an_answer_without_an_end_is_given_up_as_well() -> None:
    async def drip(_: Request, reply: Reply) -> None:
        await reply.start_events()
        while not reply.closed.is_set():
            await reply.chunk(" ")
            await asyncio.sleep(0.02)

    async with connected(drip, deadline=0.3) as (_, embedding):
        with pytest.raises(EmbeddingUnavailable, match=r"within 0\.3 seconds"):
            await embedding.embed(["a"])


async def test_one_slow_request_is_tried_again_within_the_deadline() -> None:
    async def hang(reply: Reply) -> None:
        await reply.closed.wait()

    async with connected(failing(1, hang), timeout=0.1) as (server, embedding):
        await embedding.embed(["a"])

    assert len(server.requests) == 2


async def test_requests_that_are_all_too_slow_say_how_long_each_was_waited_for() -> None:
    async def never(_: Request, reply: Reply) -> None:
        await reply.closed.wait()

    async with connected(never, timeout=0.1, attempts=2) as (server, embedding):
        with pytest.raises(EmbeddingUnavailable, match=r"did not answer within 0\.1 seconds"):
            await embedding.embed(["a"])

    assert len(server.requests) == 2


async def test_no_endpoint_at_all_is_a_sentence() -> None:
    async with connected(echo_lengths, attempts=2) as (server, _):
        port = server.port
    gone = Endpoint(
        url=f"http://127.0.0.1:{port}/v1", model="m", dimensions=3, attempts=2, pause=0.01
    )

    async with asyncio.timeout(60), open_endpoint(gone) as embedding:
        with pytest.raises(EmbeddingUnavailable, match="cannot be reached"):
            await embedding.embed(["a"])


async def test_another_dimension_names_the_setting_to_change() -> None:
    async with connected(answering(vectors([1, 2, 3, 4]))) as (server, embedding):
        with pytest.raises(EmbeddingInvalid, match=r"4 numbers, not of 3.*DIMENSIONS to 4"):
            await embedding.embed(["a"])

    assert len(server.requests) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300, None])
async def test_values_that_are_no_numbers_are_refused(value: Any) -> None:
    async with connected(answering(vectors([1, value, 3]))) as (_, embedding):
        with pytest.raises(EmbeddingInvalid, match="no numbers"):
            await embedding.embed(["a"])


@pytest.mark.parametrize(
    "message",
    [
        vectors(VECTOR),
        vectors(VECTOR, VECTOR, VECTOR),
        vectors(VECTOR, [1.0]),
        {"data": [{"index": 0, "embedding": VECTOR}] * 2},
        {"data": [{"index": 0, "embedding": VECTOR}, {"index": 5, "embedding": VECTOR}]},
        {"data": [{"embedding": VECTOR}] * 2},
        {"data": [{"index": "a", "embedding": VECTOR}] * 2},
        vectors(["a"], ["b"]),
        {"data": ["a", "b"]},
        {"data": 5},
        {"data": None},
        {},
        [],
        "vectors",
    ],
    ids=json.dumps,
)
async def test_an_answer_of_another_shape_is_refused(message: Any) -> None:
    async with connected(answering(message)) as (server, embedding):
        with pytest.raises(EmbeddingInvalid, match=r"embedding endpoint at 127\.0\.0\.1"):
            await embedding.embed(["a", "b"])

    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000])
async def test_an_answer_that_is_not_json_is_refused(body: bytes) -> None:
    async def handle(_: Request, reply: Reply) -> None:
        await reply.whole(200, body)

    async with connected(handle) as (_, embedding):
        with pytest.raises(EmbeddingInvalid):
            await embedding.embed(["a"])


async def test_giving_up_waiting_leaves_no_request_behind() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def never(_: Request, reply: Reply) -> None:
        asked.set()
        await reply.closed.wait()
        left.set()

    async with connected(never) as (_, embedding):
        task = asyncio.create_task(embedding.embed(["a"]))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


@pytest.mark.parametrize(
    "url", ["", "api.openai.com/v1", "ftp://host/v1", "http://", "http://[::1"]
)
async def test_an_address_that_can_never_work_is_said_before_anything_is_asked(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="EMBEDDING_URL"):
        async with open_endpoint(Endpoint(url=url, model="m", dimensions=3)):
            pass


@pytest.mark.parametrize("key", ["sk-kéy-1234567", "sk-one\nsk-two"])
async def test_a_key_that_no_header_can_carry_is_not_shown(key: str) -> None:
    endpoint = Endpoint(url="http://127.0.0.1:9", model="m", dimensions=3, key=SecretStr(key))

    with pytest.raises(SettingsInvalid, match="EMBEDDING_KEY") as caught:
        async with open_endpoint(endpoint):
            pass

    assert key not in "".join(chain(caught.value))
    assert key not in repr(endpoint)


async def test_a_key_may_end_with_the_line_it_was_read_from() -> None:
    async with connected(echo_lengths, key=SecretStr(f"{KEY}\n")) as (server, embedding):
        await embedding.embed(["a"])

    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_half_a_surrogate_pair_is_no_reason_to_fail() -> None:
    async with connected(echo_lengths) as (server, embedding):
        rows = await embedding.embed(["\ud800 mail"])

    assert server.requests[0].message["input"] == ["? mail"]
    assert rows.any()


async def test_no_error_shows_the_key_anywhere() -> None:
    failures: list[Handler] = [
        answering({"error": {"message": KEY}}, status) for status in (400, 401, 404, 422, 500)
    ]
    failures += [answering({"data": KEY}), answering(vectors([1.0]))]
    for failure in failures:
        async with connected(failure, key=SecretStr(KEY), attempts=1) as (_, embedding):
            with pytest.raises(EmbeddingError) as caught:
                await embedding.embed(["a"])

        assert KEY not in repr(chain(caught.value))


def chain(error: BaseException | None) -> list[str]:
    """What a log would show of an error and its causes."""
    shown: list[str] = []
    while error is not None:
        shown += [repr(error), str(error)]
        error = error.__cause__
    return shown

"""What may pass is tried again, on schedule, in the words of the log; what will not pass is not."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from trunkline.errors import IndexRefused, IndexUnavailable, PointIdMissing
from trunkline.index.retry import BACKOFF, LONGEST_DELAY, Backoff, retrying

pytestmark = pytest.mark.anyio

QUICK = Backoff(base_delay=0.001)


class Flaky:
    """A call that fails as it is told to, one time after the other, and then works."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


async def tried(call: Callable[[], Awaitable[str]], backoff: Backoff = QUICK) -> str:
    return await retrying("upsert", call, subject="point 42", backoff=backoff)


def events(logs: list[MutableMapping[str, Any]]) -> list[str]:
    return [log["event"] for log in logs]


def counted(what: str) -> float:
    sample = f"trunkline_qdrant_{what}_total"
    return REGISTRY.get_sample_value(sample, {"operation": "upsert"}) or 0


async def test_the_log_tells_of_each_retry_in_these_words() -> None:
    call = Flaky(IndexUnavailable("ConnectionError"), IndexUnavailable("503 Service Unavailable"))

    with capture_logs() as logs:
        assert await tried(call, BACKOFF) == "done"

    assert events(logs) == [
        "Qdrant upsert point 42 failed (attempt 1/3): ConnectionError. Retrying in 0.5s...",
        "Qdrant upsert point 42 failed (attempt 2/3): 503 Service Unavailable. Retrying in 1.0s...",
    ]
    assert {log["log_level"] for log in logs} == {"warning"}


async def test_after_the_third_attempt_it_is_given_up() -> None:
    call = Flaky(*[IndexUnavailable("ConnectionError")] * 9)

    with capture_logs() as logs, pytest.raises(IndexUnavailable):
        await tried(call)

    assert call.calls == 3
    assert events(logs)[-1] == (
        "Qdrant upsert point 42 failed (attempt 3/3): ConnectionError. Giving up."
    )


async def test_how_often_and_how_patiently_can_be_set() -> None:
    call = Flaky(*[IndexUnavailable("ConnectionError")] * 4)

    with capture_logs() as logs:
        assert await tried(call, Backoff(attempts=5, base_delay=0.002)) == "done"

    assert call.calls == 5
    assert "(attempt 4/5)" in events(logs)[-1]


def test_the_delays_double() -> None:
    assert [Backoff().delay(attempt, None) for attempt in (1, 2, 3)] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("asked_for", "waited"), [(0.1, 0.5), (7.0, 7.0), (3600.0, LONGEST_DELAY), (None, 0.5)]
)
def test_what_qdrant_asks_for_is_waited_within_reason(
    asked_for: float | None, waited: float
) -> None:
    assert Backoff().delay(1, asked_for) == waited


@pytest.mark.parametrize(
    "failure", [IndexRefused("no"), PointIdMissing("it"), ValueError("a bug"), KeyError("a bug")]
)
async def test_what_will_not_pass_is_raised_at_once(failure: Exception) -> None:
    call = Flaky(failure)

    with capture_logs() as logs, pytest.raises(type(failure)):
        await tried(call)

    assert call.calls == 1
    assert logs == []


@pytest.mark.parametrize(
    ("failure", "word"),
    [
        (ConnectionResetError(), "ConnectionError"),
        (ConnectionRefusedError(), "ConnectionError"),
        (TimeoutError(), "TimeoutError"),
    ],
)
async def test_silence_of_either_sort_may_pass(failure: Exception, word: str) -> None:
    call = Flaky(failure)

    with capture_logs() as logs:
        assert await tried(call) == "done"

    assert f": {word}. Retrying" in events(logs)[0]


async def test_an_attempt_that_takes_too_long_has_failed() -> None:
    calls = 0

    async def hang() -> str:
        nonlocal calls
        calls += 1
        await anyio.sleep_forever()
        return "never"

    with pytest.raises(IndexUnavailable, match="TimeoutError"):
        await tried(hang, Backoff(base_delay=0.001, timeout=0.01))

    assert calls == 3


async def test_cancelling_ends_a_call_at_once() -> None:
    started, ended = anyio.Event(), anyio.Event()

    async def hang() -> str:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()
        return "never"

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(tried, hang)
            await started.wait()
            group.cancel_scope.cancel()

    assert ended.is_set()


async def test_cancelling_ends_the_wait_for_the_next_attempt() -> None:
    call = Flaky(IndexUnavailable("429 Too Many Requests", retry_after=30.0))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(tried, call)
            while call.calls < 1:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    assert call.calls == 1


async def test_a_deadline_of_the_caller_is_the_callers() -> None:
    async def hang() -> str:
        await anyio.sleep_forever()
        return "never"

    with capture_logs() as logs, pytest.raises(TimeoutError):
        with anyio.fail_after(0.01):
            await tried(hang)

    assert logs == []


async def test_retries_and_failures_for_good_are_counted() -> None:
    retries, exhaustions = counted("retries"), counted("exhaustions")

    await tried(Flaky(IndexUnavailable("ConnectionError")))
    with pytest.raises(IndexUnavailable):
        await tried(Flaky(*[IndexUnavailable("ConnectionError")] * 3))
    with pytest.raises(IndexRefused):
        await tried(Flaky(IndexRefused("no")))

    assert counted("retries") - retries == 3
    assert counted("exhaustions") - exhaustions == 1

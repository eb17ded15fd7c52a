"""Calls held open for modern clients: asking, resuming, and everything that must be refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from trunkline.errors import RpcError
from trunkline.gateway.held import HeldCalls
from trunkline.models import LOCAL, Caller, Client, Era, Json

pytestmark = pytest.mark.anyio

QUESTION: Json = {"message": "Your name?", "requestedSchema": {"type": "object"}}


class Requester:
    """A modern client's request: remembers what it was told."""

    def __init__(self) -> None:
        self.client = Client(id="1", era=Era.MODERN, protocol_version="2026-07-28", principal=LOCAL)
        self.log_level = None
        self.standing = None
        self.told: list[tuple[str, Json | None]] = []

    async def ask(self, method: str, params: Json | None) -> Json:
        raise RpcError(-32601, "a modern client cannot be asked")

    async def tell(self, method: str, params: Json | None) -> None:
        self.told.append((method, params))


@pytest.fixture
async def held() -> AsyncIterator[HeldCalls]:
    async with HeldCalls().open() as calls:
        yield calls


async def greet(caller: Caller) -> Json:
    answer = await caller.ask("elicitation/create", QUESTION)
    await caller.tell("notifications/progress", {"progress": 1})
    return {"content": answer["content"]}


async def test_a_call_that_asks_nothing_is_answered_at_once(held: HeldCalls) -> None:
    async def plain(caller: Caller) -> Json:
        return {"content": []}

    assert await held.start(plain, Requester(), "b") == {"content": []}


async def test_a_question_becomes_a_result_that_asks_and_the_answer_resumes_the_call(
    held: HeldCalls,
) -> None:
    asked = await held.start(greet, Requester(), "b")
    retry = Requester()

    (key,) = asked["inputRequests"]
    answers = {key: {"action": "accept", "content": {"name": "Ada"}}}
    result = await held.resume(asked["requestState"], answers, retry, "b")

    assert asked["resultType"] == "input_required"
    assert asked["inputRequests"][key] == {"method": "elicitation/create", "params": QUESTION}
    assert result == {"content": {"name": "Ada"}}
    assert retry.told == [("notifications/progress", {"progress": 1})]


async def test_questions_asked_at_once_go_out_together_and_may_be_answered_one_by_one(
    held: HeldCalls,
) -> None:
    async def both(caller: Caller) -> Json:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(caller.ask("roots/list", None))
            second = group.create_task(caller.ask("sampling/createMessage", {}))
        return {"roots": first.result(), "text": second.result()}

    asked = await held.start(both, Requester(), "b")
    roots, text = asked["inputRequests"]
    again = await held.resume(asked["requestState"], {roots: {"roots": []}}, Requester(), "b")
    result = await held.resume(again["requestState"], {text: {"model": "m"}}, Requester(), "b")

    assert list(again["inputRequests"]) == [text]
    assert result == {"roots": {"roots": []}, "text": {"model": "m"}}


async def test_a_retry_without_the_answer_is_asked_the_same_again(held: HeldCalls) -> None:
    asked = await held.start(greet, Requester(), "b")

    again = await held.resume(asked["requestState"], {"other": {}}, Requester(), "b")

    assert again["inputRequests"] == asked["inputRequests"]


@pytest.mark.parametrize("damage", ["binding", "signature", "call", "used"])
async def test_a_state_that_is_not_this_requests_is_refused(held: HeldCalls, damage: str) -> None:
    asked = await held.start(greet, Requester(), "b")
    state, binding = asked["requestState"], "b"
    answers = {next(iter(asked["inputRequests"])): {"action": "decline", "content": {}}}
    if damage == "binding":
        binding = "another tool"
    elif damage == "signature":
        state = state[:-2] + ("AA" if state[-2:] != "AA" else "BB")
    elif damage == "call":
        state = "trunkline.x" + state.removeprefix("trunkline.")
    else:
        await held.resume(state, answers, Requester(), binding)

    with pytest.raises(RpcError) as refused:
        await held.resume(state, answers, Requester(), binding)

    assert refused.value.rpc_code == -32602


async def test_a_client_that_gives_up_cancels_the_call(held: HeldCalls) -> None:
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def hang(caller: Caller) -> Json:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    request = asyncio.create_task(held.start(hang, Requester(), "b"))
    await started.wait()
    request.cancel()

    async with asyncio.timeout(5):
        await cancelled.wait()


async def test_what_the_server_refuses_reaches_the_client(held: HeldCalls) -> None:
    async def refuse(caller: Caller) -> Json:
        raise RpcError(-32050, "no", {"why": "because"})

    with pytest.raises(RpcError) as refused:
        await held.start(refuse, Requester(), "b")

    assert (refused.value.rpc_code, refused.value.data) == (-32050, {"why": "because"})


async def test_leaving_cancels_what_is_still_held_open() -> None:
    cancelled = asyncio.Event()

    async def wait(caller: Caller) -> Json:
        try:
            return await caller.ask("roots/list", None)
        finally:
            cancelled.set()

    async with asyncio.timeout(5), HeldCalls().open() as calls:
        await calls.start(wait, Requester(), "b")

    assert cancelled.is_set()


async def test_a_call_that_crashes_is_its_callers_trouble_and_no_other_calls(
    held: HeldCalls,
) -> None:
    async def crash(caller: Caller) -> Json:
        raise KeyError("bug")

    asked = await held.start(greet, Requester(), "b")
    with pytest.raises(KeyError, match="bug"):
        await held.start(crash, Requester(), "b")
    (key,) = asked["inputRequests"]
    answers = {key: {"action": "accept", "content": {"name": "Ada"}}}

    result = await held.resume(asked["requestState"], answers, Requester(), "b")

    assert result == {"content": {"name": "Ada"}}

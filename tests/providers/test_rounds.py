"""The questions of a modern server, put to a handshake client."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from trunkline.errors import InteractionRefused, RpcError
from trunkline.models import LOCAL, Client, Era
from trunkline.providers.rounds import MAX_ROUNDS, complete

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
PARAMS: Json = {"name": "x", "arguments": {"a": 1}, "_meta": {"m": 1}}
DONE: Json = {"content": []}


class Asked:
    """A client that answers with what it was asked."""

    def __init__(self, answer: Callable[[str], Json] | None = None) -> None:
        self.client = Client(
            id="c",
            principal=LOCAL,
            era=Era.HANDSHAKE,
            protocol_version="2025-11-25",
            capabilities={"elicitation": {}},
        )
        self.log_level: str | None = None
        self.standing = None
        self.heard: list[str] = []
        self._answer = answer

    async def ask(self, method: str, params: Json | None) -> Json:
        self.heard.append(method)
        return self._answer(method) if self._answer else {"asked": params}

    async def tell(self, method: str, params: Json | None) -> None:
        raise AssertionError(f"nobody is told anything here, but {method}")


class Server:
    """Answers the next of its results to every retry."""

    def __init__(self, *results: Json) -> None:
        self.results = list(results)
        self.retries: list[Json] = []

    async def again(self, params: Json) -> Json:
        self.retries.append(params)
        return self.results.pop(0)


def question(*keys: str, state: Any = None) -> Json:
    """A result that asks one thing per key."""
    requests = {key: {"method": "elicitation/create", "params": {"k": key}} for key in keys}
    result: Json = {"resultType": "input_required", "inputRequests": requests}
    return result if state is None else {**result, "requestState": state}


async def test_the_answers_go_back_with_the_whole_request_and_the_state_untouched() -> None:
    caller, server = Asked(), Server(DONE)
    state = {"not": "looked into"}

    result = await complete("one", question("a", "b", state=state), PARAMS, caller, server.again)

    assert result == DONE
    assert server.retries == [
        {
            **PARAMS,
            "inputResponses": {"a": {"asked": {"k": "a"}}, "b": {"asked": {"k": "b"}}},
            "requestState": state,
        }
    ]


async def test_the_answers_of_one_round_are_not_sent_in_the_next() -> None:
    caller, server = Asked(), Server(question("b"), DONE)

    await complete("one", question("a", state="s"), PARAMS, caller, server.again)

    assert server.retries[1]["inputResponses"].keys() == {"b"}
    assert "requestState" not in server.retries[1]


async def test_questions_of_one_round_are_put_together() -> None:
    both = asyncio.Barrier(2)

    class Slow(Asked):
        async def ask(self, method: str, params: Json | None) -> Json:
            await both.wait()
            return {}

    async with asyncio.timeout(5):
        result = await complete("one", question("a", "b"), PARAMS, Slow(), Server(DONE).again)

    assert result == DONE


async def test_a_state_without_a_question_is_sent_back() -> None:
    server = Server(DONE)

    await complete(
        "one",
        {"resultType": "input_required", "requestState": "s"},
        PARAMS,
        Asked(),
        server.again,
    )

    assert server.retries == [{**PARAMS, "requestState": "s"}]


async def test_a_client_that_refuses_ends_the_call_with_its_own_error() -> None:
    def refuse(method: str) -> Json:
        raise RpcError(-1, "I will not.", {"x": 1})

    with pytest.raises(RpcError, match=r"I will not\.") as refused:
        await complete("one", question("a", "b"), PARAMS, Asked(refuse), Server().again)

    assert (refused.value.rpc_code, refused.value.data) == (-1, {"x": 1})


async def test_a_server_that_never_has_enough_is_given_up() -> None:
    server = Server(*[question("a")] * MAX_ROUNDS)

    with pytest.raises(InteractionRefused, match=f"more than {MAX_ROUNDS} times"):
        await complete("one", question("a"), PARAMS, Asked(), server.again)

    assert server.results == []


@pytest.mark.parametrize(
    "odd",
    [
        "text",
        ["list"],
        None,
        3,
        {"params": {}},
        {"method": "tools/call", "params": {}},
        {"method": "elicitation/create", "params": [1]},
        {"method": ["elicitation/create"]},
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_with_a_sentence(odd: Any) -> None:
    first: Json = {"resultType": "input_required", "inputRequests": {"a": odd}}

    with pytest.raises(InteractionRefused, match="asked for input in a form"):
        await complete("one", first, PARAMS, Asked(), Server(DONE).again)


async def test_a_client_is_not_asked_what_it_has_not_declared() -> None:
    caller = Asked()
    first: Json = {
        "resultType": "input_required",
        "inputRequests": {"a": {"method": "sampling/createMessage", "params": {}}},
    }

    with pytest.raises(InteractionRefused, match="a client that supports sampling"):
        await complete("one", first, PARAMS, caller, Server(DONE).again)

    assert caller.heard == []

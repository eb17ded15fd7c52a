"""
A handshake client in front of a modern server: its questions become requests to the client.

A modern server cannot ask its client; it answers `input_required` with the questions, and the
client sends the request again with the answers (SEP-2322). A handshake client knows nothing of
that, so we ask it, one request per question, and send the request again ourselves.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from trunkline.downstream.questions import CAPABILITY_OF
from trunkline.errors import InteractionRefused
from trunkline.models import Caller, Json

MAX_ROUNDS: Final = 10
"""Rounds one request may take before it is given up; the SDKs of other languages use the same."""

STATE_ONLY_PAUSE: Final = 0.1
"""Seconds between rounds in which the server asks nothing and only wants to be called again."""


def is_input_required(result: Json) -> bool:
    """Whether a modern result is a question rather than the answer."""
    return result.get("resultType") == "input_required"


async def complete(
    server: str, first: Json, params: Json, caller: Caller, again: Callable[[Json], Awaitable[Json]]
) -> Json:
    """
    Answer a server's questions by asking the client until the result is complete.

    *again* sends the request with new params. Raises `InteractionRefused` after `MAX_ROUNDS` or
    for what cannot be asked, or the client's own refusal as `RpcError`.
    """
    result = first
    for _ in range(MAX_ROUNDS):
        retry = {key: value for key, value in params.items() if key != "inputResponses"}
        questions = result.get("inputRequests")
        if isinstance(questions, dict) and questions:
            retry["inputResponses"] = await _ask_all(server, questions, caller)
        else:
            await asyncio.sleep(STATE_ONLY_PAUSE)
        if "requestState" in result:
            retry["requestState"] = result["requestState"]
        result = await again(retry)
        if not is_input_required(result):
            return result
    raise InteractionRefused(
        server, f"The server {server!r} asked for input more than {MAX_ROUNDS} times in one call."
    )


async def _ask_all(server: str, questions: dict[str, Any], caller: Caller) -> Json:
    """Put all questions of one round to the client at once."""
    for question in questions.values():
        _check(server, question, caller)

    async def ask(question: Json) -> Json:
        return await caller.ask(question["method"], question.get("params"))

    try:
        async with asyncio.TaskGroup() as group:
            asked = {key: group.create_task(ask(question)) for key, question in questions.items()}
    except ExceptionGroup as refused:
        raise refused.exceptions[0] from None
    return {key: task.result() for key, task in asked.items()}


def _check(server: str, question: Any, caller: Caller) -> None:
    """Let only those questions through that a client can have agreed to."""
    method = question.get("method") if isinstance(question, dict) else None
    needed = CAPABILITY_OF.get(method) if isinstance(method, str) else None
    if needed is None or not isinstance(question.get("params", {}), dict):
        raise InteractionRefused(
            server, f"The server {server!r} asked for input in a form that nobody understands."
        )
    if needed not in caller.client.capabilities:
        raise InteractionRefused(
            server,
            f"The server {server!r} needs a client that supports {needed}; this one does not.",
        )

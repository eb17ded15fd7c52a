"""
What a server asks its client, and which client that is.

A server asks because a client called it: for a text from a model, an answer from a person, the
roots of a project. Over streamable HTTP the question comes on the stream of the call it belongs
to. Over stdio it comes on the one pipe there is, and then:

    calls of one client in flight ──────> that client is asked
    no call, but the session is one's ──> its owner is asked
    calls of several clients ───────────> refused with a reason, never guessed

While a question is open, the clocks of the calls that may have caused it stand still.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from anyio import CancelScope

from trunkline.downstream.channel import Channel, Exchange, Inbound
from trunkline.errors import RpcError
from trunkline.models import Caller, Json
from trunkline.wire import INTERNAL_ERROR, METHOD_NOT_FOUND

log = structlog.get_logger(__name__)

CAPABILITY_OF: Final[Mapping[str, str]] = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "roots",
}
"""What a client must have declared before it may be asked."""


class Call:
    """One client request in flight on a session."""

    __slots__ = ("caller", "clock", "exchange", "missing", "questions", "timeout", "token")

    def __init__(self, caller: Caller, exchange: Exchange, token: Any, timeout: float) -> None:
        self.caller, self.exchange = caller, exchange
        self.token = token
        """The client's own progress token; the server knows our request id instead."""

        self.timeout = timeout
        self.clock: asyncio.Timeout | None = None
        self.questions: set[int | str] = set()
        """The open questions that this call may have caused."""

        self.missing: Json = {}
        """Capabilities the server wanted to use and the client has not declared."""

    def touch(self) -> None:
        """The server gave a sign of life. The clock stands still while it waits for an answer."""
        if self.clock is not None and not self.clock.expired():
            deadline = asyncio.get_running_loop().time() + self.timeout
            self.clock.reschedule(None if self.questions else deadline)


class Questions:
    """The questions of one session's server."""

    def __init__(self, server: str, channel: Channel, owner: Caller | None) -> None:
        """*owner* is the one client the session belongs to, if there is one."""
        self.calls: dict[Call, None] = {}
        """The client requests in flight, oldest first."""

        self._server, self._channel, self._owner = server, channel, owner
        self._open: dict[int | str, CancelScope] = {}
        self._withdrawn: set[int | str] = set()

    def ended(self, call: Call) -> None:
        """A call is over: what only it can have asked needs no answer any more."""
        del self.calls[call]
        for question in call.questions:
            if not any(question in other.questions for other in self.calls):
                self._open[question].cancel()

    def withdraw(self, question: Any) -> None:
        """The server no longer wants an answer."""
        if question in self._open:
            self._withdrawn.add(question)
            self._open[question].cancel()

    def only_client(self) -> list[Call]:
        """The calls in flight, if they are all one client's."""
        clients = {call.caller.client.id for call in self.calls}
        return list(self.calls) if len(clients) == 1 else []

    def asked_by(self, call: Call, inbound: Inbound) -> None:
        """A question came on the stream of a call."""
        self._ask(call.caller, [call], inbound)

    def asked(self, inbound: Inbound) -> None:
        """A question came, and the transport cannot tell what for."""
        if calls := self.only_client():
            caller = calls[0].caller
            if len(calls) > 1 and caller.standing is not None:
                # Any of them may have caused it, and the others may end first, and their streams.
                self._ask(caller.standing, calls, inbound)
            else:
                self._ask(caller, calls[:1], inbound)
        elif self._owner is not None:
            self._ask(self._owner, [], inbound)
        elif self.calls:
            log.warning("question.refused", server=self._server, method=inbound.method)
            self._answer(inbound, self._refusal(inbound))
        elif inbound.method == "roots/list":
            # On connect, before any client is known: a shared session has no roots of its own.
            self._answer(inbound, {"roots": []})
        else:
            self._answer(inbound, RpcError(METHOD_NOT_FOUND, "There is no client to ask now."))

    def _ask(self, caller: Caller, calls: Sequence[Call], inbound: Inbound) -> None:
        needed = CAPABILITY_OF.get(inbound.method)
        if inbound.method == "ping":
            self._answer(inbound, {})
        elif needed is not None and needed in caller.client.capabilities:
            self._channel.spawn(self._put(caller, calls, inbound))
        else:
            for call in calls if needed is not None else ():
                call.missing[needed or ""] = {}
            name = caller.client.info.get("name", "the client")
            refusal = RpcError(
                METHOD_NOT_FOUND, f"{name} does not support {needed or inbound.method}."
            )
            self._answer(inbound, refusal)

    async def _put(self, caller: Caller, calls: Sequence[Call], inbound: Inbound) -> None:
        """Put a question to a client and bring the answer back."""
        assert inbound.id is not None
        question = inbound.id
        answer: Json | RpcError = RpcError(
            INTERNAL_ERROR, "The request this belonged to has ended before the client answered."
        )
        with CancelScope() as scope:
            self._open[question] = scope
            for call in calls:
                call.questions.add(question)
                call.touch()
            try:
                answer = await caller.ask(inbound.method, inbound.params)
            except RpcError as error:
                answer = error
            finally:
                del self._open[question]
                for call in calls:
                    call.questions.discard(question)
                    call.touch()
        if question in self._withdrawn:
            self._withdrawn.discard(question)
        else:
            await self._channel.respond(inbound, answer)

    def _answer(self, inbound: Inbound, answer: Json | RpcError) -> None:
        self._channel.spawn(self._channel.respond(inbound, answer))

    def _refusal(self, inbound: Inbound) -> RpcError:
        return RpcError(
            INTERNAL_ERROR,
            f"{inbound.method} was refused: calls of several clients are in flight on this shared "
            "connection, and it cannot be known which client is meant. Set "
            f'"sharing": "client" for {self._server!r} in mcp.json.',
            {"code": "interaction_refused"},
        )

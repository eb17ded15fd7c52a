"""
A modern client in front of a handshake server: its questions become results that ask.

A handshake server asks in the middle of a call; a modern client can only be asked by answering its
request with `input_required` and being called again (SEP-2322). So the call to the server runs in
a task of its own, is held open while the client fetches the answer, and goes on when the client
comes back with it.

    request ──> start ──> task: provider.request ── asks ──> input_required + requestState
    retry + answers ──> resume ──> the same task goes on ──> result, or the next question

The `requestState` is signed with a key of this process, names one held call, expires, and is good
for the same request of the same caller only.
"""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from trunkline.errors import RpcError
from trunkline.models import Caller, Client, Json
from trunkline.wire import INVALID_PARAMS

HOLD_FOR: Final = 300.0
"""Seconds a call is held open for its answer."""

MAX_HELD: Final = 1_000
"""Calls that may be held open at a time; the one that has waited longest gives way."""

GATHER: Final = 0.02
"""Seconds in which further questions are awaited, so that those asked at once go out together."""

PREFIX: Final = "trunkline."
"""Tells our own `requestState` from one that a modern server made."""


@dataclass(frozen=True, slots=True)
class _Question:
    key: str
    method: str
    params: Json | None


@dataclass(frozen=True, slots=True)
class _Done:
    result: Json | None
    error: Exception | None


class _HeldCall:
    """One call to a server that may ask. It is the `Caller` the session sees."""

    def __init__(self, caller: Caller, binding: str) -> None:
        self.binding = binding
        self.current: Caller | None = caller
        """The request the client is waiting on now; None while the call is parked."""

        self.events: asyncio.Queue[_Question | _Done] = asyncio.Queue()
        self.open: dict[str, tuple[_Question, asyncio.Future[Json]]] = {}
        self.task: asyncio.Task[None]
        self.expiry: asyncio.TimerHandle | None = None
        self.client: Client = caller.client
        self._log_level = caller.log_level
        self._count = 0

    @property
    def log_level(self) -> str | None:
        return self._log_level

    @property
    def standing(self) -> None:
        return None

    async def ask(self, method: str, params: Json | None) -> Json:
        self._count += 1
        question = _Question(f"trunkline-{self._count}", method, params)
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self.open[question.key] = (question, answer)
        self.events.put_nowait(question)
        try:
            return await answer
        finally:
            self.open.pop(question.key, None)

    def awaits(self, key: str) -> bool:
        """Whether a question still has no answer."""
        return key in self.open and not self.open[key][1].done()

    async def tell(self, method: str, params: Json | None) -> None:
        if self.current is not None:
            await self.current.tell(method, params)


class HeldCalls:
    """Every call that is held open. Owns their tasks."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._parked: dict[str, _HeldCall] = {}
        self._tasks: asyncio.TaskGroup

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self]:
        """Hold calls; leaving cancels those that are still open."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                yield self
            finally:
                for held in list(self._parked.values()):
                    held.task.cancel()

    async def start(
        self, run: Callable[[Caller], Awaitable[Json]], caller: Caller, binding: str
    ) -> Json:
        """
        Run a call for a modern client until it has a result or a question.

        Returns the server's result, or an `input_required` result. Raises what *run* raises.
        """
        held = _HeldCall(caller, binding)
        held.task = self._tasks.create_task(self._run(run, held))
        return await self._next(held)

    async def resume(self, state: str, answers: Any, caller: Caller, binding: str) -> Json:
        """
        Go on with a held call. Returns and raises like `start`.

        Raises `RpcError` (invalid params) if the state is forged, expired or another request's.
        """
        held = self._parked.get(self._read(state, binding))
        if held is None:
            raise RpcError(
                INVALID_PARAMS,
                "This requestState has expired or was used. Send the request again without it.",
            )
        self._unpark(held)
        held.current = caller
        given = answers if isinstance(answers, dict) else {}
        for key, (_, answer) in list(held.open.items()):
            if isinstance(given.get(key), dict) and held.awaits(key):
                answer.set_result(given[key])
        if any(held.awaits(key) for key in held.open):
            return self._park(held)  # not everything was answered: ask for the rest
        return await self._next(held)

    @staticmethod
    def owns(state: Any) -> bool:
        """Whether a `requestState` is ours rather than a modern server's."""
        return isinstance(state, str) and state.startswith(PREFIX)

    async def _run(self, run: Callable[[Caller], Awaitable[Json]], held: _HeldCall) -> None:
        try:
            done = _Done(await run(held), None)
        except Exception as error:  # noqa: BLE001 - one call: raised where its client waits
            done = _Done(None, error)
        held.events.put_nowait(done)

    async def _next(self, held: _HeldCall) -> Json:
        """Wait for the result or a question that is not answered yet."""
        while True:
            try:
                event = await held.events.get()
                if isinstance(event, _Question):
                    await asyncio.sleep(GATHER)
            except asyncio.CancelledError:
                held.task.cancel()  # the client gave the request up, and nobody can resume it
                raise
            if isinstance(event, _Done):
                if event.error is not None:
                    raise event.error
                return event.result or {}
            if any(held.awaits(key) for key in held.open):
                return self._park(held)

    def _park(self, held: _HeldCall) -> Json:
        if len(self._parked) >= MAX_HELD:
            self._expire(next(iter(self._parked)))
        held.current = None
        call_id = secrets.token_urlsafe(16)
        loop = asyncio.get_running_loop()
        held.expiry = loop.call_later(HOLD_FOR, self._expire, call_id)
        self._parked[call_id] = held
        requests = {
            key: {"method": question.method, "params": question.params or {}}
            for key, (question, _) in held.open.items()
            if held.awaits(key)
        }
        return {
            "resultType": "input_required",
            "inputRequests": requests,
            "requestState": self._write(call_id, held.binding),
        }

    def _unpark(self, held: _HeldCall) -> None:
        if held.expiry is not None:
            held.expiry.cancel()
        for call_id in [key for key, one in self._parked.items() if one is held]:
            del self._parked[call_id]

    def _expire(self, call_id: str) -> None:
        held = self._parked.pop(call_id, None)
        if held is not None:
            held.task.cancel()

    def _write(self, call_id: str, binding: str) -> str:
        return f"{PREFIX}{call_id}.{self._sign(call_id, binding)}"

    def _read(self, state: str, binding: str) -> str:
        call_id, _, signature = state.removeprefix(PREFIX).rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(call_id, binding).encode()):
            raise RpcError(
                INVALID_PARAMS,
                "This requestState belongs to another request. Send this one again without it.",
            )
        return call_id

    def _sign(self, call_id: str, binding: str) -> str:
        mac = hmac.new(self._key, f"{call_id}.{binding}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")

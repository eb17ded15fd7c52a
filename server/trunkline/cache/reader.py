"""
Joins the reads that come while another is under way into one.

A thousand callers that look at once cost Redis a few questions and not a thousand. A question is
always asked after the call for it came, so nobody is given what was read before.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from trunkline.cache.failures import CacheFailure

LARGEST: Final = 256
"""Callers whose keys go into one question."""

Answer = Mapping[str, Any]


class Reader:
    """Asks for many. `run` is to be running."""

    def __init__(self, ask: Callable[[Sequence[str]], Awaitable[Answer]]) -> None:
        """*ask* reads keys, and raises nothing but `CacheFailure`."""
        self._ask = ask
        self._waiting: list[tuple[Sequence[str], asyncio.Future[Answer]]] = []
        self._called = asyncio.Event()

    async def read(self, keys: Sequence[str]) -> Answer:
        """What is at each of *keys*; others may be in the answer too. Raises `CacheFailure`."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, answer))
        self._called.set()
        return await answer

    async def run(self) -> NoReturn:
        while True:
            await self._called.wait()
            callers, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
            if not self._waiting:
                self._called.clear()
            wanted = [keys for keys, answer in callers if not answer.done()]
            answers = [answer for _, answer in callers]
            keys = list(dict.fromkeys(key for some in wanted for key in some))
            try:
                found = await self._ask(keys) if keys else {}
            except CacheFailure as failure:
                # Nobody queues for a Redis that has just failed.
                answers += [answer for _, answer in self._waiting]
                self._waiting.clear()
                _give(answers, lambda answer, why=failure: answer.set_exception(why))
            else:
                _give(answers, lambda answer, found=found: answer.set_result(found))


def _give(
    answers: Sequence[asyncio.Future[Answer]], outcome: Callable[[asyncio.Future[Answer]], None]
) -> None:
    for answer in answers:
        if not answer.done():
            outcome(answer)

"""
The tasks of one connection: they end with it, and its own end is never cut short.

A transport yields its channel from within a task group. A plain group would wrap whatever the
borrower raises into an exception group, and would wait for readers that never end by themselves;
`open_tasks` does neither. `finish` is for the way out: a child process has to be stopped and
reaped no matter how often the task that does it is cancelled.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from anyio import CancelScope

T = TypeVar("T")


class Spawn(Protocol):
    """Starts a coroutine in the connection's task group. None when the connection has ended."""

    def __call__(self, work: Coroutine[Any, Any, None], /) -> asyncio.Task[None] | None: ...


@asynccontextmanager
async def open_tasks() -> AsyncGenerator[Spawn]:
    """
    A task group that cancels its tasks when the block ends.

    What the block raises comes out as it is; a task that raises ends the block, as ever.
    """
    running: set[asyncio.Task[None]] = set()
    over = False
    failure: Exception | None = None

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if over:
            work.close()
            return None
        task = group.create_task(work)
        running.add(task)
        task.add_done_callback(running.discard)
        return task

    async with asyncio.TaskGroup() as group:
        try:
            yield spawn
        except Exception as error:  # noqa: BLE001 - raised again below; the group would wrap it
            failure = error
        finally:
            over = True
            for task in running:
                task.cancel()
    if failure is not None:
        raise failure


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """
    Run *work* to its end, whoever cancels the caller meanwhile, and return its result.

    A cancellation that came meanwhile is raised afterwards. *work* has to bound its own waits.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):  # else anyio would cancel again in every round of the loop
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as forgotten
        raise cancelled
    return task.result()

"""
One command's life: the event loop, the logs, and the open application.

Commands that answer and end keep their logs to errors, for their own output says how things are.
A server's log is its only voice once it has started; on a terminal it speaks of trouble only.
"""

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from trunkline import logs
from trunkline.security.masking.masking import SECRETS
from trunkline.settings import Settings

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run *work* to its end on the fastest event loop there is. Ctrl-C cancels it."""
    gc.freeze()  # everything imported by now is here to stay
    gc.enable()
    if sys.platform == "win32":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def log_briefly(settings: Settings) -> None:
    """Logs for a command that answers and ends."""
    level = settings.log_level if "log_level" in settings.model_fields_set else "critical"
    logs.configure(level, mask=SECRETS.mask_all)


def log_steadily(settings: Settings) -> None:
    """Logs for a command that goes on until it is stopped."""
    watched = sys.stderr.isatty() and "log_level" not in settings.model_fields_set
    logs.configure("warning" if watched else settings.log_level, mask=SECRETS.mask_all)

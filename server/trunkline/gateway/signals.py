"""SIGTERM and SIGINT as a call, for as long as something serves."""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def on_stop_signal(stop: Callable[[], None]) -> Generator[None]:
    """
    Call *stop*, in the running loop, for the first and the second signal. A third one kills.

    Does nothing outside the main thread, where Python handles no signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    received = 0

    def restore() -> None:
        for number, handler in previous.items():
            # None is a handler that was not set from Python, and cannot be set from it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def receive(number: int) -> None:
        nonlocal received
        received += 1
        if received > 1:
            for handled in STOP_SIGNALS:
                signal.signal(handled, signal.SIG_DFL)
        stop()

    # Not `loop.add_signal_handler`: it leaves the default behind instead of what was there.
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _: loop.call_soon_threadsafe(receive, number))
    try:
        yield
    finally:
        restore()

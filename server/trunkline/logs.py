"""
Logs: one event per thing that happened, on stderr.

Colours on a terminal, JSON lines otherwise. stdout belongs to the protocol.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

import structlog

Mask = Callable[[Any], Any]
"""Makes a JSON value one that holds no secret."""


class _Stderr:
    """stderr as it is when something is written: a progress line may stand in for it meanwhile."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _Masked(logging.Formatter):
    """The lines of the standard library's loggers, without secrets."""

    def __init__(self, mask: Mask) -> None:
        super().__init__("%(message)s")
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(record))


def configure(level: str = "info", *, mask: Mask = lambda value: value) -> None:
    """
    Set up structlog and the standard library's loggers. Call once, at start.

    *mask* sees everything that is logged, last of all.
    """

    def masked(_logger: Any, _method: str, event: Any) -> Any:
        return mask(event)

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, masked, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Masked(mask))
    # Libraries keep to warnings: their chatter is about themselves, not about our users.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for noisy in ("mcp", "fastmcp", "uvicorn", "aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(max(number, logging.ERROR))

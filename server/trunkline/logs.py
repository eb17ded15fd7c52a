"""
Logs: one event per thing that happened, on stderr.

Colours on a terminal, JSON lines otherwise. stdout belongs to the protocol.
"""

import logging
import sys
from typing import Any, TextIO, cast

import structlog


class _Stderr:
    """stderr as it is when something is written: a progress line may stand in for it meanwhile."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure(level: str = "info") -> None:
    """Set up structlog and route the standard library's loggers through it. Call once, at start."""
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
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    # Libraries keep to warnings: their chatter is about themselves, not about our users.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s", force=True)
    for noisy in ("mcp", "fastmcp", "uvicorn", "aiohttp", "asyncio"):
        logging.getLogger(noisy).setLevel(max(number, logging.ERROR))

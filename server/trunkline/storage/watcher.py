"""
The one connection that is always there: whether the database is, and what it has to say.

One task makes it, holds it and makes it again, with growing pauses. Its loss is how we learn at
once that the server is gone; a statement now and then finds the dead ends that nobody reports. It
listens to every channel that somebody has asked for, and says when messages may have been missed.

    connect ── listen ── (available) ── lost ── (away) ── pause ── connect ── …
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import structlog

from trunkline.errors import StorageError, StorageUnavailable
from trunkline.storage.failures import translate

log = structlog.get_logger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts to connect; they double."""

Connection = asyncpg.Connection[Any]

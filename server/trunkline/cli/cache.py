"""
`trunkline cache`: what is in Redis of ours, and how to be rid of it.

Without REDIS_URL every process has a cache of its own, which ends with it; then there is nothing to
look at. The address is never shown: there may be a password in it.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Final

from cyclopts import App

from trunkline.cache.cache import Cache
from trunkline.cache.cleanup import Holding
from trunkline.cache.cleanup import clean as clean_cache
from trunkline.cache.cleanup import flush as flush_cache
from trunkline.cache.cleanup import stats as count_cache
from trunkline.cache.connection import open_cache
from trunkline.cache.version import CACHE_VERSION
from trunkline.cli.options import JsonOption, LogLevelOption, read_settings
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import count, put, put_json, put_table
from trunkline.settings import Settings

NOTHING: Final = (
    "There is nothing to look at: without REDIS_URL every process has a cache of its own, "
    "which ends with it."
)

PATIENCE: Final = 5.0
"""Seconds that Redis may take to answer beyond those a connection may take."""

cache = App(
    name="cache",
    help="""See what is cached in Redis, or be rid of it.

    That is the Redis of REDIS_URL. All of it may be lost at any time: it is computed again.
    """,
)


@cache.command(sort_key=0)
def stats(*, json: JsonOption = False, log_level: LogLevelOption = None) -> None:
    """Count what is cached, by version and namespace."""
    settings = _read(log_level)
    holdings = run_async(_stats(settings)) if settings.redis_url else None
    if json:
        shown = [asdict(one) for one in holdings] if holdings is not None else None
        put_json({"version": CACHE_VERSION, "holdings": shown})
    elif holdings is None:
        put(NOTHING)
    elif not holdings:
        put("Nothing is cached.")
    else:
        put_table(("Version", "Namespace", "Keys", "Bytes"), [_row(one) for one in holdings])


@cache.command(sort_key=1)
def clean(*, json: JsonOption = False, log_level: LogLevelOption = None) -> None:
    """
    Remove what older versions of Trunkline have left.

    What newer versions have cached stays.
    """
    settings = _read(log_level)
    removed = run_async(_clean(settings)) if settings.redis_url else None
    if json:
        put_json({"removed": removed})
    elif removed is None:
        put(NOTHING)
    elif not removed:
        put(f"There is nothing older than v{CACHE_VERSION}.")
    else:
        for version, keys in removed.items():
            put(f"Deleted {count(keys, 'key')} from cache v{version}.")


@cache.command(sort_key=2)
def flush(*, json: JsonOption = False, log_level: LogLevelOption = None) -> None:
    """Forget everything that this version of Trunkline has cached."""
    settings = _read(log_level)
    removed = run_async(_flush(settings)) if settings.redis_url else None
    if json:
        put_json({"removed": removed})
    elif removed is None:
        put(NOTHING)
    else:
        put(f"Forgot {count(removed, 'key')}.")


async def _stats(settings: Settings) -> list[Holding]:
    async with _opened(settings) as opened:
        return (await count_cache(opened)).holdings


async def _clean(settings: Settings) -> dict[int, int]:
    async with _opened(settings) as opened:
        return await clean_cache(opened)


async def _flush(settings: Settings) -> int:
    async with _opened(settings) as opened:
        return await flush_cache(opened)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncGenerator[Cache]:
    """The cache, once Redis is there. Raises `CacheUnavailable` if it is not, and `ConfigError`."""
    assert settings.redis_url is not None
    async with open_cache(settings.redis_url.get_secret_value(), settings.cache) as opened:
        await opened.wait_available(settings.cache.connect_timeout + PATIENCE)
        opened.store()
        yield opened


def _read(log_level: LogLevelOption) -> Settings:
    settings = read_settings(log_level=log_level)
    log_briefly(settings)
    return settings


def _row(one: Holding) -> tuple[str, ...]:
    return f"v{one.version}", one.namespace, f"{one.keys:,}", f"{one.bytes:,}"

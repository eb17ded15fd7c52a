"""
Values in Redis, and the generations they count under.

    look ── generations and value in one question ──┬── same stamp ──── hit
                 │ some are missing                 └── another stamp ─ miss ── … ── keep
                 └── made, and asked again
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final, NoReturn

import structlog

from trunkline.cache import metrics, values
from trunkline.cache.keys import Address, is_generation
from trunkline.cache.reader import Reader
from trunkline.settings import CacheSettings

if TYPE_CHECKING:
    from trunkline.cache.store import Found, Store

log = structlog.get_logger(__name__)

GENERATION_TTL: Final = 24 * 3600.0
"""Seconds a generation lasts. Its end is a miss for what was made under it."""

LONGEST_TTL: Final = 24 * 3600.0
"""Seconds a value lasts at most, whoever says what."""

ATTEMPTS: Final = 3
"""How often missing generations are made before Redis is taken not to keep them."""

MISSING: Final = object()
"""Instead of a value, which may be None."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look has shown."""

    stamp: bytes
    """What a value has to be computed under to be kept, and who computes it at the same time."""

    is_hit: bool = False
    value: Any = None
    may_keep: bool = True
    """Whether a value computed after this look may be kept."""


class Shelf:
    """A store, in terms of values. `run` is to be running. Raises nothing but `CacheFailure`."""

    def __init__(self, store: "Store", settings: CacheSettings) -> None:
        self._store, self._settings = store, settings
        self._reader = Reader(self._ask)

    async def run(self) -> NoReturn:
        await self._reader.run()

    async def look(self, address: Address) -> Sight | None:
        """What is there; None if Redis does not keep the generations it is given."""
        found = await self._reader.read((*address.generations, address.value))
        generations = [found[key] for key in address.generations]
        if any(generation.value is None for generation in generations):
            return None
        stamp = _stamp(generations)
        data = found[address.value].value
        if data is not None and (value := await self._open(address, data, stamp)) is not MISSING:
            metrics.HITS.labels(address.namespace).inc()
            return Sight(stamp, is_hit=True, value=value)
        metrics.MISSES.labels(address.namespace).inc()
        return Sight(stamp)

    async def keep(self, address: Address, stamp: bytes, value: Any, seconds: float) -> None:
        """Store a value under the stamp it was computed under, if it can be stored."""
        try:
            data = values.encode(value, stamp)
        except ValueError as error:
            log.warning("cache.not_json", namespace=address.namespace, error=str(error))
            return
        if len(data) > self._settings.max_value:
            return
        early = 1 - self._settings.jitter * random.random()  # noqa: S311 - spreads, hides nothing
        await self._store.write(address.value, data, min(seconds, LONGEST_TTL) * early)

    async def _ask(self, keys: Sequence[str]) -> "Mapping[str, Found]":
        """What is at *keys*. Generations that are missing are made, and then read like others."""
        found: Mapping[str, Found] = {}
        missing: list[str] = []
        for _ in range(ATTEMPTS):
            found = await self._store.read(keys)
            again = set(missing)
            missing = [key for key in keys if found[key].value is None and is_generation(key)]
            if not missing:
                break
            if again.intersection(missing):  # something stands there that is no string
                await self._store.unlink(missing)
            await self._store.create({key: token_bytes(12) for key in missing}, GENERATION_TTL)
        return found

    async def _open(self, address: Address, data: bytes, stamp: bytes) -> Any:
        """The value in *data*, or `MISSING` if it is not one of this stamp."""
        if values.stamp_of(data) == stamp:
            try:
                return values.decode(data)
            except ValueError:
                pass
        elif values.is_ours(data):
            metrics.STALE.labels(address.namespace).inc()
            return MISSING
        metrics.POISONED.labels(address.namespace).inc()
        await self._store.unlink([address.value])
        return MISSING


def _stamp(generations: "Sequence[Found]") -> bytes:
    """The generations, and the servers they are on, as one."""
    stamp = blake2b(digest_size=values.STAMP_SIZE)
    for token, server in generations:
        stamp.update(b"%b/%b/" % (server, token))
    return stamp.digest()

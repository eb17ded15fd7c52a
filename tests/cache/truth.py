"""Something to be cached, which changes, and counts how often it was looked up."""

import asyncio
from dataclasses import dataclass, field
from uuid import UUID

from trunkline.cache.cache import Cache

ACME = UUID("6b1f2c0e-0000-4000-8000-00000000acce")
GLOBEX = UUID("6b1f2c0e-0000-4000-8000-0000000910be")


@dataclass
class Truth:
    """A number that grows."""

    value: int = 1
    lookups: int = 0
    acknowledged: int = 0
    """What nobody may be given less than."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is clear, lookups have the value but do not return it."""

    started: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def look_up(self) -> int:
        self.lookups += 1
        value = self.value
        self.started.set()
        await asyncio.sleep(0)
        await self.gate.wait()
        return value

    async def change(self, cache: Cache) -> bool:
        """Change, and tell the cache; whether everybody is to know it now."""
        self.value += 1
        value = self.value
        if acknowledged := await cache.invalidate("tool", None, "truth"):
            self.acknowledged = max(self.acknowledged, value)
        return acknowledged

    async def ask(self, cache: Cache) -> int:
        """Ask the cache, and see that its answer is not too old."""
        least = self.acknowledged
        value = await cache.get_or_compute("tool", None, "truth", self.look_up)
        assert value >= least, f"got {value} after {least} was acknowledged"
        return value

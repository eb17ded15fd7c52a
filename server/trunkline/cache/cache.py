"""
Answers kept in Redis: fast, shared by all processes, never wrong, never fatal.

A value is kept with a stamp of the generations it was computed under, as they were before the
computation began. Whoever reads it reads the generations in the same question, and counts it only
if they are the same. To invalidate is to remove a generation; whoever misses one makes a new one,
of random bytes. From this follows what the cache promises:

- Once `invalidate` has returned True, no process is given what was computed before, also if that
  computation ends and stores its value later. Nobody has to be told: everybody asks.
- Losing any key at any moment, because it expired, was evicted or flushed, is a miss.
- A server that restarts with old data, or a replica that takes over, is not believed: its process
  is part of the stamp (see `store`).
- While Redis is away, answers are computed, once for all who ask at the same time. An invalidation
  that did not reach Redis is remembered, and Redis is not used by this process until it has.

    read ── hit ──────────────────────────────────────────── value
      └── miss: stamp ── join the computation ── value ── keep under the stamp
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup

from trunkline.cache import metrics
from trunkline.cache.breaker import Breaker
from trunkline.cache.failures import CacheFailure
from trunkline.cache.flights import Flights
from trunkline.cache.keys import (
    Address,
    Namespace,
    Org,
    full_pattern,
    generation,
    generations_covered,
)
from trunkline.cache.shelf import Shelf, Sight
from trunkline.settings import CacheSettings

if TYPE_CHECKING:
    from trunkline.cache.store import Store

log = structlog.get_logger(__name__)

T = TypeVar("T")

Ttl = float | Callable[[Any], float] | None
"""Seconds, or how to tell them from the value; 0 keeps nothing, None is the namespace's own."""


class Cache:
    """
    Use it through `open_cache`.

    Nothing here raises because of Redis, except `store`, which asks for Redis itself.
    """

    def __init__(
        self, connect: Callable[[], Awaitable["Store"]], settings: CacheSettings, group: TaskGroup
    ) -> None:
        """*connect* makes the store, without waiting for it; *group* runs the computations."""
        self._connect, self._settings, self._group = connect, settings, group
        self._ttls: dict[Namespace, float] = {
            "tool": settings.tool_ttl,
            "tool_list": settings.list_ttl,
            "prompt": settings.tool_ttl,
            "resource": settings.tool_ttl,
            "search": settings.search_ttl,
            "skill": settings.skill_ttl,
            "result": settings.result_ttl,
        }
        self._breaker = Breaker()
        self._flights = Flights(group)
        self._store: Store | None = None
        self._shelf: Shelf | None = None
        self._owed: set[str] = set()
        """Generations whose removal Redis has not confirmed."""

        self._epoch = 0
        """Invalidations of this process: tells computations apart while Redis is not in use."""

    # -- is it there --------------------------------------------------------------------------

    @property
    def is_available(self) -> bool:
        """Whether Redis is in use at this moment."""
        return self._breaker.is_closed

    @property
    def reason(self) -> CacheFailure | None:
        """Why Redis is not in use; None while it is."""
        return self._breaker.reason

    async def wait_available(self, seconds: float) -> bool:
        """Wait for Redis to be in use, but no longer than this; whether it is."""
        with anyio.move_on_after(seconds):
            await self._breaker.wait_closed()
        return self.is_available

    def store(self) -> "Store":
        """Redis itself, for who looks after it. Raises `CacheUnavailable` if it is not in use."""
        if self._store is None or self.reason is not None:
            raise self.reason or CacheFailure("starting")
        return self._store

    async def run(self) -> None:
        """What has to be going on for Redis to be used. Ends by cancellation only."""
        await self._breaker.run(self._mend)

    async def close(self) -> None:
        """Let go of Redis, when `run` has ended."""
        if self._store is not None:
            try:
                with anyio.CancelScope(shield=True):
                    await self._store.close()
            except CacheFailure as failure:
                log.debug("cache.close_failed", reason=str(failure))

    # -- values -------------------------------------------------------------------------------

    async def get_or_compute(
        self,
        namespace: Namespace,
        org: Org,
        key: str,
        compute: Callable[[], Awaitable[T]],
        *,
        ttl: Ttl = None,
    ) -> T:
        """
        The value of *key* from the cache, or else from *compute*, which is then kept.

        *compute* must return plain JSON, and is run once for all who ask at the same time. They
        share what it returns, so nobody may change it, and what it raises, which is not kept.
        """
        address = Address.of(namespace, org, key)
        with self._flights.watching(address.value) as watch:
            sight = await self._look(address)
            if sight.is_hit:
                return sight.value

            async def keep(value: Any) -> None:
                if sight.may_keep:
                    await self._keep(address, sight.stamp, value, ttl)

            value, shared = await watch.join(sight.stamp, compute, keep)
            if shared:
                metrics.SHARED.labels(namespace).inc()
            return value

    async def get_or_ask(
        self,
        namespace: Namespace,
        org: Org,
        key: str,
        ask: Callable[[], Awaitable[T]],
        *,
        ttl: Ttl = None,
    ) -> T:
        """
        Like `get_or_compute`, but everybody who finds nothing asks for themselves.

        For what belongs to whoever asks while it goes on: *ask* runs in the caller's own task, and
        only what it returns in the end, if *ttl* allows it, is anybody else's.
        """
        address = Address.of(namespace, org, key)
        sight = await self._look(address)
        if sight.is_hit:
            return sight.value
        value = await ask()
        if sight.may_keep:
            await self._keep(address, sight.stamp, value, ttl)
        return value

    # -- invalidation -------------------------------------------------------------------------

    async def invalidate(self, namespace: Namespace, org: Org, *keys: str) -> bool:
        """
        Forget these keys, or with none all of the namespace; None as org: in every org's view.

        Returns True once no process can be given an older value any more. False says that Redis
        could not be told yet: this process keeps off Redis until it has been, others may have an
        older value for its TTL at most.
        """
        addresses = [Address.of(namespace, org, key) for key in keys]
        doomed = {address.generations[-1] for address in addresses}
        if not keys:
            doomed = {generation(namespace, org)}
        acknowledged = await self._remove(doomed, [address.value for address in addresses])
        metrics.INVALIDATIONS.labels(namespace, str(acknowledged).lower()).inc()
        return acknowledged

    async def invalidate_pattern(self, pattern: str) -> int:
        """
        Remove all keys that match a Redis pattern; how many there were.

        Only keys of the cache: `tool:*` stands for `mcp:cache:v1:tool:*`. Computations under way
        count as invalidated in every namespace (and org, where it is spelt out) that the pattern
        begins with.
        """
        pattern = full_pattern(pattern)
        covered = generations_covered(pattern)
        acknowledged = await self._remove(covered) if covered else True
        metrics.INVALIDATIONS.labels("pattern", str(acknowledged).lower()).inc()
        removed = 0
        try:
            if self._store is not None and self.is_available:
                async for keys in self._store.scan(pattern):
                    removed += await self._store.unlink(keys)
        except CacheFailure as failure:
            self._fail("invalidate", failure)
        log.debug(f"Cache INVALIDATE: {pattern} ({removed} keys)", pattern=pattern, keys=removed)
        return removed

    async def _remove(self, generations: Collection[str], keys: Sequence[str] = ()) -> bool:
        """Remove generations, whatever becomes of the keys; whether Redis has confirmed it."""
        self._epoch += 1
        reason = self.reason
        # A full Redis is not written to, but it can be told to forget.
        reachable = reason is None or reason.trouble == "full"
        confirmed = False
        try:
            if self._store is not None and reachable:
                await self._store.unlink([*generations, *keys])
                confirmed = True
        except CacheFailure as failure:
            self._fail("invalidate", failure)
        finally:
            if not confirmed:
                self._owed.update(generations)
                if self.is_available:  # cancelled half way, or crowded out
                    self._breaker.doubt(CacheFailure("crowded"))
        return confirmed

    # -- Redis --------------------------------------------------------------------------------

    async def _mend(self) -> None:
        """Connect, and do what is owed. Raises `CacheFailure`."""
        if self._store is None:
            self._store = await self._connect()
            self._shelf = Shelf(self._store, self._settings)
            self._group.start_soon(self._shelf.run)
        await self._store.begin()
        while self._owed:
            owed, self._owed = self._owed, set()
            try:
                await self._store.unlink(list(owed))
            except BaseException:
                self._owed |= owed
                raise

    async def _look(self, address: Address) -> Sight:
        """Look into Redis, if it is in use."""
        if self._shelf is not None and self.is_available:
            started = perf_counter()
            try:
                if (sight := await self._shelf.look(address)) is not None:
                    metrics.SECONDS.labels(address.namespace).observe(perf_counter() - started)
                    return sight
            except CacheFailure as failure:
                self._fail("read", failure)
        metrics.BYPASSED.labels(address.namespace).inc()
        return Sight(b"epoch %d" % self._epoch, may_keep=False)

    async def _keep(self, address: Address, stamp: bytes, value: Any, ttl: Ttl) -> None:
        """Store a value, if it is one to be stored and Redis is in use."""
        seconds = self._seconds(address.namespace, value, ttl)
        if self._shelf is not None and self.is_available and seconds > 0:
            try:
                await self._shelf.keep(address, stamp, value, seconds)
            except CacheFailure as failure:
                self._fail("write", failure)

    def _seconds(self, namespace: Namespace, value: Any, ttl: Ttl) -> float:
        if callable(ttl):
            return ttl(value)
        seconds = self._ttls[namespace] if ttl is None else ttl
        return min(seconds, self._settings.negative_ttl) if value is None else seconds

    def _fail(self, operation: str, failure: CacheFailure) -> None:
        metrics.ERRORS.labels(operation, failure.trouble).inc()
        if failure.trouble != "crowded":
            self._breaker.trip(failure)

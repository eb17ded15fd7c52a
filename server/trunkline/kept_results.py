"""
Results of tools that are kept: the same call again costs the server nothing.

Off unless asked for, so what most calls pay is a look at two attributes. What may be kept, and for
how long, is said in `cache.results`; here it is tied to a call.

    dispatch ── may it be kept? ── no ──────────────── provider
                     └── yes ── cache ── miss ── provider ── keep
                                  └── hit ── result

Every call is made for its own caller and never shared while it runs: it may report progress to
that client, or ask it something. A result that took a question is not kept.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from time import time
from typing import Any, NoReturn

from trunkline.cache.cache import Cache
from trunkline.cache.results import (
    ResultRule,
    canonical,
    is_plain_call,
    may_keep,
    result_key,
    seconds_to_keep,
)
from trunkline.catalog.offer import Entry, Offer
from trunkline.catalog.snapshot import Snapshot
from trunkline.errors import OrgNotFound
from trunkline.models import Caller, Client, Json, ProviderId
from trunkline.providers.provider import Provider
from trunkline.settings import CacheSettings
from trunkline.storage.rows import Org

Send = Callable[[Caller], Awaitable[Json]]
"""Makes the call for a caller."""


class KeptResults:
    """The results of one process's calls. `run` is to be running for list changes to count."""

    def __init__(
        self, cache: Cache, settings: CacheSettings, scope: Callable[[str | None], Org]
    ) -> None:
        """*scope* finds an organisation by the name that clients have for it."""
        self._cache, self._scope = cache, scope
        self._trusts_hints, self._default_ttl = settings.results, settings.result_ttl
        self._hashes: dict[tuple[ProviderId, str], tuple[Json, bytes]] = {}
        """By provider and its own name: a definition, and its hash."""

        self._changed: set[str | None] = set()
        """Organisations with a server whose list has changed."""

        self._wake = asyncio.Event()

    def may_keep(self, entry: Entry) -> bool:
        """Whether results of this tool may be kept at all, as its definition and mcp.json say."""
        if entry.result_ttl is None and not self._trusts_hints:
            return False
        return may_keep(entry.definition, self._rule(entry))

    async def call(
        self, entry: Entry, provider: Provider, params: Json, caller: Caller, send: Send
    ) -> Json:
        """The result of a call of such a tool, kept or new. Raises what *send* raises."""
        place = self._place(entry, provider, params, caller.client)
        if place is None:
            return await send(caller)
        org, key, personal = place
        rule, asked = self._rule(entry), AskedCaller(caller)
        fresh: list[Json] = []

        async def ask() -> Any:
            fresh.append(await send(asked))
            return [time(), fresh[0]]

        def seconds(made: Any) -> float:
            return 0.0 if asked.was_asked else seconds_to_keep(made[1], rule, personal=personal)

        made_at, result = await self._cache.get_or_ask("result", org, key, ask, ttl=seconds)
        return result if fresh else _aged(result, time() - made_at)

    def follow(self, old: Snapshot, new: Snapshot, _kinds: object) -> None:
        """Have forgotten what servers said whose lists are others now, or that have left."""
        now = {offer.origin: offer for offer in new.offers}
        gone = [offer for offer in old.offers if _is_other(offer, now.get(offer.origin))]
        if gone:
            self._changed.update(offer.org for offer in gone)
            self._wake.set()

    async def run(self) -> NoReturn:
        """Forget what `follow` finds, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            changed, self._changed = self._changed, set()
            for org in changed:
                with suppress(OrgNotFound):  # then nothing was kept for it
                    await self._cache.invalidate("result", self._scope(org))

    def _rule(self, entry: Entry) -> ResultRule:
        return ResultRule(ttl=entry.result_ttl, default_ttl=self._default_ttl)

    def _place(
        self, entry: Entry, provider: Provider, params: Json, client: Client
    ) -> tuple[Org, str, bool] | None:
        """The org, the key, and whether it is that user's alone; None for a call to make anew."""
        scope = provider.result_scope(client)
        if scope is None or not is_plain_call(params):
            return None
        try:
            org = self._scope(client.org)
        except OrgNotFound:
            return None
        key = result_key(
            tool=f"{entry.provider}/{entry.own}",
            definition_hash=self._hash(entry),
            arguments=params.get("arguments"),
            scope=f"{client.era}:{scope.name}",
        )
        return org, key, scope.personal

    def _hash(self, entry: Entry) -> bytes:
        """The hash of a definition, made once for as long as the tool is listed like that."""
        known = self._hashes.get((entry.origin, entry.own))
        if known is None or known[0] is not entry.definition:
            known = entry.definition, sha256(canonical(entry.definition)).digest()
            self._hashes[entry.origin, entry.own] = known
        return known[1]


class AskedCaller:
    """A caller who remembers whether it was asked anything."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self.client = caller.client
        self.was_asked = False

    @property
    def log_level(self) -> str | None:
        return self._caller.log_level

    @property
    def standing(self) -> Caller | None:
        return self._caller.standing

    async def ask(self, method: str, params: Json | None) -> Json:
        self.was_asked = True
        return await self._caller.ask(method, params)

    async def tell(self, method: str, params: Json | None) -> None:
        await self._caller.tell(method, params)


def _is_other(old: Offer, new: Offer | None) -> bool:
    return new is None or new.org != old.org or new.entries["tools"] != old.entries["tools"]


def _aged(result: Json, seconds: float) -> Json:
    """A result with what is left of its `ttlMs`: who keeps it further must not keep it longer."""
    said = result.get("ttlMs")
    if isinstance(said, bool) or not isinstance(said, int | float):
        return result
    return {**result, "ttlMs": max(0, int(said - max(0.0, seconds) * 1000))}

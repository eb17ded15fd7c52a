"""
Pins: every tool is compared with what it was when it was accepted.

A server that is trusted today can say something else tomorrow, to the model and to nobody else. So
the first definition of a tool is kept, and one that differs is flagged or withheld until somebody
has looked. Judging touches memory only; what has to be stored is stored behind it.

    listing ── judge, judge, …, seen ──> queue ── run ──> rows + NOTIFY
    start, NOTIFY, a person's decision ── run ──> memory ── on_change ──> judge again

Until the pins are loaded nobody knows what a tool was. It is served then as it comes, unless the
policy withholds what has changed: then it waits, for it may have.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final, NoReturn

import anyio
import structlog

from trunkline.errors import StorageError
from trunkline.models import Json
from trunkline.security.pins.digest import digest
from trunkline.security.pins.judgement import MOST, Judgement, Key, Policy
from trunkline.security.pins.memory import Memory, Pin, Server
from trunkline.settings import PinSettings
from trunkline.storage.pool import Database
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.pins import AllPins, Pinned, PinRepository, Seen
from trunkline.storage.rows import Org, from_text

log = structlog.get_logger(__name__)

CHANNEL: Final = "mcp_pins"

PAUSE: Final = 0.5
"""Seconds between two writes: a server that changes all the time costs two a second at most."""

AGAIN: Final = 5.0
"""Seconds after which what could not be read or stored is tried again."""

WAIT: Final = 60.0
"""Seconds the database is waited for at a time."""

LAST_WRITE: Final = 2.0
"""Seconds the last write may take, when the process stops."""


class Pins:
    """Judges definitions. `run` is to be running for anything to be remembered."""

    def __init__(
        self,
        database: Database,
        settings: PinSettings,
        *,
        is_new: bool = False,
        terms: Callable[[str | None], PinSettings] | None = None,
    ) -> None:
        """*is_new* says that nothing can have been stored yet, so there is nothing to wait for."""
        self.on_change: Callable[[], None] | None = None
        """Called (synchronously, cheaply) when what was judged has to be judged again."""

        self.trouble: StorageError | None = None
        """Why pins are neither read nor stored now; None while they are."""

        self.loaded = asyncio.Event()
        """Set once it is known what was accepted before this process began."""

        if is_new:
            self.loaded.set()

        self._database = database
        self._terms = terms or (lambda _: settings)
        self._repository = PinRepository(database)
        self._orgs: dict[str | None, Org] = {None: None}
        self._memory = Memory()
        self._new: dict[Key, Seen] = {}
        """What has no pin in the database yet. Never replaced by what it is a moment later."""

        self._news: dict[Key, Seen] = {}
        """What tools have become, or are again, and is not stored yet."""

        self._heard: set[Server] = set()
        """Servers whose pins others have changed."""

        self._must_load = False
        self._wake = asyncio.Event()

    # -- judging ------------------------------------------------------------------------------

    def judge(
        self, org: str | None, server: str, definition: Json, *, is_plugin: bool = False
    ) -> Judgement:
        """
        Compare a tool of a server with what was accepted.

        *definition* is the server's own, as it can be served. Call `seen` after the last of a list.
        """
        key = (org, server, definition["name"])
        policy = Policy(self._terms(org), is_plugin=is_plugin)
        pin = self._memory.pins.get(key)
        if pin is not None:
            self._compare(key, pin, definition)
        elif self._memory.counts[org, server] < MOST:
            pin = self._pin(key, definition)
        else:
            return policy.decide_beyond(key)
        if not self.loaded.is_set() and pin.seen == pin.pinned.accepted:
            return policy.decide_unloaded(key, pin.look)
        return policy.decide(key, pin.pinned, pin.seen, pin.look)

    def seen(self, org: str | None, server: str) -> None:
        """A whole list has been judged: store what is new in it. What is added later is late."""
        if self._memory.counts[org, server]:
            self._memory.known.add((org, server))
        if self._new or self._news:
            self._wake.set()

    def _pin(self, key: Key, definition: Json) -> Pin:
        """A new pin, of a tool that is seen for the first time."""
        found = digest(definition)
        pinned = Pinned(found, None, key[:2] in self._memory.known, None)
        pin = Pin(pinned, definition, found, is_compared=True)
        self._memory.add(key, pin)
        self._new[key] = pin.as_seen(key)
        return pin

    def _compare(self, key: Key, pin: Pin, definition: Json) -> None:
        """Take what a tool is now, and see to it that it is stored if that is news."""
        found, pinned = pin.seen, pin.pinned
        if pin.definition is not definition or found is None:
            found = digest(definition)
        if is_fresh := found != pin.seen:
            pin.seen, pin.findings = found, None
        is_fresh = is_fresh or not pin.is_compared
        pin.definition, pin.is_compared = definition, True
        is_news = pinned.pending != (None if found == pinned.accepted else found)
        # What another process has stored is left alone: two that see different things would
        # overwrite each other for ever.
        if is_news and (is_fresh or pinned.pending is None):
            self._news[key] = pin.as_seen(key)
        elif is_fresh:
            self._news.pop(key, None)

    # -- remembering --------------------------------------------------------------------------

    async def run(self, usable: Callable[[float], Awaitable[None]]) -> NoReturn:
        """
        Load, store and follow until cancelled, and store once more then.

        *usable* waits until the database can be used, no longer than so many seconds, and raises
        `StorageError` if it cannot.
        """
        listening = self._database.listening(CHANNEL, on_message=self._hear, on_start=self._reload)
        try:
            with listening:
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._turn(usable)
                    await asyncio.sleep(PAUSE)
        finally:
            await self._write_last()

    def _hear(self, payload: str) -> None:
        said = json.loads(payload)
        if said["by"] != self._database.name:
            org = said["org"]
            self._heard.add(
                (from_text(org) if org is not None else None, from_text(said["server"]))
            )
            self._wake.set()

    def _reload(self) -> None:
        """Listening has begun: what was notified until now was not heard."""
        self._must_load = True
        self._wake.set()

    async def _turn(self, usable: Callable[[float], Awaitable[None]]) -> None:
        try:
            await usable(WAIT)
            if self._must_load:
                await self._load()
            is_changed = await self._follow() | await self._write()
            self.trouble = None
            if is_changed:
                self._changed()
        except StorageError as error:
            self._try_again(error)
        except Exception as error:  # what is served must not end with what keeps its pins
            log.exception("pins.crashed")
            reason = StorageError("Pins could not be stored. The log has the reason.")
            reason.__cause__ = error
            self._try_again(reason)

    def _try_again(self, error: StorageError) -> None:
        if self.trouble is None or self.trouble.code != error.code:
            log.warning("pins.not_stored", code=error.code, reason=str(error))
        self.trouble, self._must_load = error, True
        asyncio.get_running_loop().call_later(AGAIN, self._wake.set)

    async def _load(self) -> None:
        """Take everything that is stored, and have everything judged again."""
        # What is heard from here on may be newer than what is read.
        self._must_load = False
        self._heard.clear()
        self._orgs = {None: None, **await OrgRepository(self._database).list_all()}
        rows = await AllPins(self._database).load()
        before, self._memory = self._memory, Memory()
        self._memory.known = {key[:2] for key in rows}
        for key, pinned in rows.items():
            self._new.pop(key, None)
            pin = before.pins.get(key) or Pin(pinned)
            pin.pinned, pin.is_compared = pinned, False
            self._memory.add(key, pin)
        for key, seen in self._new.items():
            pin = before.pins[key]
            is_late = seen.is_late or key[:2] in self._memory.known
            pin.pinned = replace(pin.pinned, is_late=is_late)
            self._new[key] = replace(seen, is_late=is_late)
            self._memory.add(key, pin)
        self._memory.known |= before.known & {key[:2] for key in self._new}
        self.loaded.set()
        self._changed()

    async def _follow(self) -> bool:
        """Take what others have changed. True if anything has to be judged again."""
        is_changed = False
        while self._heard:
            server = self._heard.pop()
            org = await self._org(server[0])
            rows = await self._repository.of_server(org, server[1])
            if not rows:
                self._memory.known.discard(server)
            there = {(server[0], *place): pinned for place, pinned in rows.items()}
            for key in self._memory.of_server(server):
                if key not in there and key not in self._new:
                    self._memory.remove(key)
                    is_changed = True
            is_changed |= self._take(there)
        return is_changed

    def _take(self, rows: Mapping[Key, Pinned]) -> bool:
        """Compare with *rows* from now on. True if that may change a judgement."""
        is_changed = False
        for key, pinned in rows.items():
            pin = self._memory.pins.get(key)
            if pin is None:
                self._memory.add(key, Pin(pinned))
                continue
            was, pin.pinned = pin.pinned, pinned
            is_undecided = pinned.pending is None and pin.seen not in (None, pinned.accepted)
            is_changed |= (was.accepted, was.accepted_by) != (pinned.accepted, pinned.accepted_by)
            is_changed |= is_undecided
        return is_changed

    async def _write(self) -> bool:
        """Store what there is. True if anything has to be judged again."""
        is_changed = False
        for queue in (self._new, self._news):
            for org in {key[0] for key in queue}:
                taken = {key: seen for key, seen in queue.items() if key[0] == org}
                places = await self._repository.see(await self._org(org), org, taken.values())
                for key, seen in taken.items():
                    if queue.get(key) is seen:
                        del queue[key]
                is_changed |= self._take({(org, *place): one for place, one in places.items()})
        return is_changed

    async def _write_last(self) -> None:
        if self.loaded.is_set() and self.trouble is None:
            with anyio.move_on_after(LAST_WRITE, shield=True), suppress(StorageError):
                await self._write()
        if left := len(self._new) + len(self._news):
            log.warning("pins.lost", tools=left)

    async def _org(self, name: str | None) -> Org:
        """The id of an organisation, which is made if mcp.json is the first to name it."""
        if name not in self._orgs:
            assert name is not None
            self._orgs[name] = await OrgRepository(self._database).put(name)
        return self._orgs[name]

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

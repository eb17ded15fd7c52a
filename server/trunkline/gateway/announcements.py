"""
What clients are told on the gateway's own account: lists that changed, resources that changed.

Handshake clients hear it on their connection; modern clients on the streams they opened with
`subscriptions/listen`. One that does not read is passed over, and delays nobody.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from trunkline.catalog.catalog import Catalog
from trunkline.catalog.snapshot import Snapshot, changed_for
from trunkline.dispatch import Dispatch, Target
from trunkline.errors import TrunklineError
from trunkline.gateway.callers import FrontClient, RequestCaller
from trunkline.models import Caller, Json, Kind, ProviderId
from trunkline.wire import META_SUBSCRIPTION_ID

log = structlog.get_logger(__name__)

LISTEN_BACKLOG: Final = 1_000
"""Announcements one listener may be behind; then its stream is ended and it has to listen again."""

METHOD_OF: Final[dict[Kind, str]] = {
    "tools": "notifications/tools/list_changed",
    "prompts": "notifications/prompts/list_changed",
    "resources": "notifications/resources/list_changed",
    "templates": "notifications/resources/list_changed",
}
FILTER_OF: Final[dict[str, str]] = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
UPDATED: Final = "notifications/resources/updated"


@dataclass(eq=False, slots=True)
class _Listener:
    """One open `subscriptions/listen` stream."""

    org: str | None
    """Whose lists it is told of."""

    wanted: frozenset[str]
    """Notification methods."""

    queue: asyncio.Queue[tuple[str, Json] | None] = field(
        default_factory=lambda: asyncio.Queue(LISTEN_BACKLOG)
    )

    def offer(self, method: str, params: Json) -> None:
        try:
            self.queue.put_nowait((method, params))
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """Have the stream end before anything else is sent on it."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Announcements:
    """Knows who is to be told what."""

    def __init__(self, catalog: Catalog, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._fronts: dict[str, FrontClient] = {}
        self._listeners: set[_Listener] = set()
        self._watchers: dict[tuple[ProviderId, str, str], dict[FrontClient | _Listener, str]] = (
            defaultdict(dict)
        )
        """(provider, audience, its own URI) -> who subscribed -> the URI it knows it by."""

        self._tasks: asyncio.TaskGroup | None = None
        catalog.listeners.append(self._catalog_changed)

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    # -- handshake clients --------------------------------------------------------------------

    def add(self, front: FrontClient) -> None:
        """A handshake client has connected."""
        self._fronts[front.client.id] = front

    def remove(self, front: FrontClient) -> None:
        """It has left."""
        self._fronts.pop(front.client.id, None)
        self._unwatch(front)

    async def subscribe(self, params: Json, caller: RequestCaller) -> None:
        """`resources/subscribe`. Raises what `Dispatch.target` and `Dispatch.subscribe` raise."""
        target = self._dispatch.target("resources/subscribe", params, caller.client)
        audience = await self._dispatch.subscribe(target, caller)
        if caller.front is not None:
            self._watchers[_key(target, audience)][caller.front] = params["uri"]

    async def unsubscribe(self, params: Json, caller: RequestCaller) -> None:
        """`resources/unsubscribe`. Raises what `Dispatch.target` and the provider raise."""
        target = self._dispatch.target("resources/unsubscribe", params, caller.client)
        if caller.front is not None:
            for (provider, _, uri), watchers in self._watchers.items():
                if (provider, uri) == (target.provider.id, target.params["uri"]):
                    watchers.pop(caller.front, None)
        await target.provider.unsubscribe(target.params["uri"], caller)

    # -- modern clients -----------------------------------------------------------------------

    async def listen(self, wanted: Json, caller: Caller, request_id: Any) -> Json:
        """
        Serve `subscriptions/listen` until the client leaves, or falls too far behind.

        The first message is the acknowledgement of what will be reported (SEP-2575).
        """
        stamp = {META_SUBSCRIPTION_ID: request_id}
        methods = frozenset(method for method, key in FILTER_OF.items() if wanted.get(key) is True)
        listener = _Listener(caller.client.org, methods)
        uris = wanted.get("resourceSubscriptions")
        targets: dict[str, Target] = {}
        honoured: Json = {FILTER_OF[method]: True for method in FILTER_OF if method in methods}
        try:  # from here on a client that leaves takes its subscriptions with it
            await self._watch(uris if isinstance(uris, list) else [], caller, listener, targets)
            if targets:
                honoured["resourceSubscriptions"] = list(targets)
            self._listeners.add(listener)
            acknowledged = {"notifications": honoured, "_meta": stamp}
            await caller.tell("notifications/subscriptions/acknowledged", acknowledged)
            while (item := await listener.queue.get()) is not None:
                method, params = item
                meta = {**(params.get("_meta") or {}), **stamp}
                await caller.tell(method, {**params, "_meta": meta})
        finally:
            self._listeners.discard(listener)
            self._unwatch(listener)
            for target in targets.values():
                if self._tasks is not None:
                    uri = target.params["uri"]
                    self._tasks.create_task(target.provider.unsubscribe(uri, caller))
        return {"_meta": stamp}

    def close(self) -> None:
        """End every listening stream, so that the server can stop."""
        for listener in self._listeners:
            listener.end()

    async def _watch(
        self,
        uris: Collection[Any],
        caller: Caller,
        listener: _Listener,
        watched: dict[str, Target],
    ) -> None:
        """Subscribe to what can be subscribed to, and note it in *watched* under its URI."""
        for uri in uris:
            if not isinstance(uri, str):
                continue
            try:
                target = self._dispatch.target("resources/subscribe", {"uri": uri}, caller.client)
                audience = await self._dispatch.subscribe(target, caller)
            except TrunklineError as error:
                log.info("listen.not_subscribed", uri=uri, error=str(error))
                continue
            self._watchers[_key(target, audience)][listener] = uri
            watched[uri] = target

    # -- events -------------------------------------------------------------------------------

    def resource_updated(self, provider: ProviderId, audience: str, uri: str, params: Json) -> None:
        """A provider says that a resource has changed, and to whom."""
        for watcher, shown in self._watchers.get((provider, audience, uri), {}).items():
            told = {key: value for key, value in params.items() if key != "_meta"}
            self._tell(watcher, UPDATED, {**told, "uri": shown})

    def _catalog_changed(self, old: Snapshot, new: Snapshot, changed: frozenset[Kind]) -> None:
        orgs: defaultdict[str, set[str | None]] = defaultdict(set)
        for kind in changed:
            orgs[METHOD_OF[kind]] |= changed_for(old, new, kind)
        for method in sorted(orgs):
            for front in self._fronts.values():
                if not orgs[method].isdisjoint({None, front.client.org}):
                    self._tell(front, method, None)
            for listener in self._listeners:
                heard = not orgs[method].isdisjoint({None, listener.org})
                if heard and method in listener.wanted:
                    self._tell(listener, method, {})

    def _tell(self, watcher: FrontClient | _Listener, method: str, params: Json | None) -> None:
        if isinstance(watcher, _Listener):
            watcher.offer(method, params or {})
        elif self._tasks is not None and watcher.connection.initialized.is_set():
            self._tasks.create_task(watcher.notify(method, params))

    def _unwatch(self, watcher: FrontClient | _Listener) -> None:
        for key in [key for key, watchers in self._watchers.items() if watcher in watchers]:
            del self._watchers[key][watcher]
            if not self._watchers[key]:
                del self._watchers[key]


def _key(target: Target, audience: str) -> tuple[ProviderId, str, str]:
    return target.provider.id, audience, target.params["uri"]

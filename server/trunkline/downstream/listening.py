"""
What a modern server reports on its own account: one `subscriptions/listen` per session.

It takes the place of the handshake era's own stream and of `resources/subscribe` (2026-07-28,
SEP-2575). Its filter cannot be changed, so a listen with another one is opened in its stead.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from anyio import CancelScope

from trunkline.downstream.channel import Channel, ChannelLost, Inbound
from trunkline.downstream.era import Identity, envelope, modern_headers
from trunkline.errors import RpcError
from trunkline.models import Json

log = structlog.get_logger(__name__)

PAUSE: Final = 1.0
"""Seconds before a listen that ended is opened again."""

ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"


class Listening:
    """The listen of one session."""

    def __init__(
        self,
        channel: Channel,
        identity: Identity,
        capabilities: Json,
        uris: Callable[[], frozenset[str]],
        heard: Callable[[Inbound], object],
    ) -> None:
        """*capabilities* are the server's; *uris* are the resources to hear of, at any time."""
        self._channel, self._identity, self._capabilities = channel, identity, capabilities
        self._uris, self._heard = uris, heard
        self._scope: CancelScope | None = None
        self._changed = asyncio.Event()
        self._heeded = asyncio.Event()
        """Set when the server has acknowledged what is wanted now, or never will."""

    async def change(self, *, patience: float) -> None:
        """`uris` has changed: listen anew, and wait until the server knows, or for *patience*."""
        self._heeded.clear()
        self._changed.set()
        if self._scope is not None:
            self._scope.cancel()
        try:
            async with asyncio.timeout(patience):
                await self._heeded.wait()
        except TimeoutError:
            log.info("listen.not_acknowledged", server=self._channel.server)

    async def run(self) -> None:
        """Listen for as long as the channel lives. Never raises."""
        while not self._channel.closed.is_set():
            self._changed.clear()
            if not (wanted := self._filter()):
                self._heeded.set()
                await self._changed.wait()
                continue
            with CancelScope() as self._scope:
                await self._listen(wanted)
            if not self._scope.cancelled_caught:
                await asyncio.sleep(PAUSE)

    async def _listen(self, wanted: Json) -> None:
        try:
            await self._channel.request(
                "subscriptions/listen",
                {"notifications": wanted, "_meta": envelope(self._identity)},
                on_inbound=self._arrived,
                headers=modern_headers("subscriptions/listen"),
            )
        except RpcError as error:
            log.info("listen.refused", server=self._channel.server, error=error.message)
            self._heeded.set()
            await self._changed.wait()
        except ChannelLost as lost:
            log.debug("listen.lost", server=self._channel.server, reason=str(lost))
            self._heeded.set()

    async def _arrived(self, inbound: Inbound) -> None:
        self.hear(inbound)

    def hear(self, inbound: Inbound) -> None:
        """Something came on the listen, or on a channel that cannot tell."""
        if inbound.method == ACKNOWLEDGED:
            self._heeded.set()
        else:
            self._heard(inbound)

    def _filter(self) -> Json:
        wanted: Json = {
            f"{kind}ListChanged": True
            for kind in ("tools", "prompts", "resources")
            if (self._capabilities.get(kind) or {}).get("listChanged")
        }
        if uris := sorted(self._uris()):
            wanted["resourceSubscriptions"] = uris
        return wanted

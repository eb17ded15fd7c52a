"""
Which resources of one server are watched, and by whom.

The server is asked once for each resource, whoever wants it, and asked again when its session has
been opened anew.
"""

from collections.abc import Iterable

import structlog

from trunkline.downstream.channel import ChannelLost
from trunkline.downstream.session import Session
from trunkline.errors import DownstreamError, RpcError
from trunkline.models import Era

log = structlog.get_logger(__name__)


class Subscriptions:
    """The watched resources of one server."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._watchers: dict[str, set[str]] = {}
        """URI -> ids of the clients that watch it."""

    def uris(self) -> frozenset[str]:
        """Everything that is watched."""
        return frozenset(self._watchers)

    async def add(self, uri: str, client_id: str, session: Session) -> None:
        """Have *session* report on a resource. Raises what `Session.follow` raises."""
        watchers = self._watchers.setdefault(uri, set())
        first = not watchers
        watchers.add(client_id)
        if not first:
            return
        try:
            await session.follow(uri, wanted=True)
        except BaseException:  # cancelled, too: the next who wants it must be the first again
            self._watchers.pop(uri, None)
            raise

    async def remove(self, uri: str, client_id: str, sessions: Iterable[Session]) -> None:
        """One client no longer watches; the last one ends the reports."""
        watchers = self._watchers.get(uri, set())
        watchers.discard(client_id)
        if not watchers:
            self._watchers.pop(uri, None)
            for session in sessions:
                await self._follow(session, uri, wanted=False)

    async def forget(self, client_id: str, sessions: Iterable[Session]) -> None:
        """A client has left."""
        for uri in [uri for uri, watchers in self._watchers.items() if client_id in watchers]:
            await self.remove(uri, client_id, sessions)

    def renew(self, session: Session) -> None:
        """Ask a session that has been opened anew. A modern one asks by itself."""
        if self._watchers and session.era is Era.HANDSHAKE:
            session.channel.spawn(self._renew(session))

    async def _renew(self, session: Session) -> None:
        for uri in self.uris():
            await self._follow(session, uri, wanted=True)

    async def _follow(self, session: Session, uri: str, *, wanted: bool) -> None:
        try:
            await session.follow(uri, wanted=wanted)
        except (ChannelLost, RpcError, DownstreamError) as error:
            log.info("subscription.failed", server=self._server, wanted=wanted, error=str(error))

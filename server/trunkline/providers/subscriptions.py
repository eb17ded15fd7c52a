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
    """
    The watched resources of one server, by audience: one organisation's session says nothing to
    another's clients.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._watchers: dict[tuple[str, str], set[str]] = {}
        """Audience and URI -> ids of the clients that watch it."""

    def uris(self, audience: str) -> frozenset[str]:
        """Everything that an audience watches."""
        return frozenset(uri for whose, uri in self._watchers if whose == audience)

    async def add(self, uri: str, client_id: str, session: Session) -> None:
        """Have *session* report on a resource. Raises what `Session.follow` raises."""
        key = session.audience, uri
        watchers = self._watchers.setdefault(key, set())
        first = not watchers
        watchers.add(client_id)
        if not first:
            return
        try:
            await session.follow(uri, wanted=True)
        except BaseException:  # cancelled, too: the next who wants it must be the first again
            self._watchers.pop(key, None)
            raise

    async def remove(self, uri: str, client_id: str, sessions: Iterable[Session]) -> None:
        """One client no longer watches; the last one of an audience ends the reports to it."""
        await self._remove(
            [key for key, ids in self._watchers.items() if key[1] == uri and client_id in ids],
            client_id,
            sessions,
        )

    async def forget(self, client_id: str, sessions: Iterable[Session]) -> None:
        """A client has left."""
        watched = [key for key, ids in self._watchers.items() if client_id in ids]
        await self._remove(watched, client_id, sessions)

    def renew(self, session: Session) -> None:
        """Ask a session that has been opened anew. A modern one asks by itself."""
        if self.uris(session.audience) and session.era is Era.HANDSHAKE:
            session.channel.spawn(self._renew(session))

    async def _remove(
        self, keys: Iterable[tuple[str, str]], client_id: str, sessions: Iterable[Session]
    ) -> None:
        for key in keys:
            watchers = self._watchers.get(key, set())
            watchers.discard(client_id)
            if watchers:
                continue
            self._watchers.pop(key, None)
            for session in sessions:
                if session.audience == key[0]:
                    await self._follow(session, key[1], wanted=False)

    async def _renew(self, session: Session) -> None:
        for uri in self.uris(session.audience):
            await self._follow(session, uri, wanted=True)

    async def _follow(self, session: Session, uri: str, *, wanted: bool) -> None:
        try:
            await session.follow(uri, wanted=wanted)
        except (ChannelLost, RpcError, DownstreamError) as error:
            log.info("subscription.failed", server=self._server, wanted=wanted, error=str(error))

"""
Tokens kept fresh: early, once for all who wait, and once over all processes.

A token that is good is taken from memory. One that is about to end is given out while another is
being fetched; one that has ended is waited for. Fetching goes on when whoever wanted it has left:
the old refresh token is spent by then, and the new one must not be lost.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, Self

import structlog

from trunkline.downstream.server_config import ServerConfig
from trunkline.errors import StorageError, TrunklineError
from trunkline.security.oauth.clients import OAuthClients
from trunkline.security.oauth.failures import LoginRequired, OAuthError, OAuthRefused
from trunkline.security.oauth.tokens import Terms, digest_of, life_of, numbered, refresh
from trunkline.security.oauth.turns import Holder, Turn, Turns
from trunkline.security.oauth.web import Web
from trunkline.security.vault.vault import Secret, Vault

log = structlog.get_logger(__name__)

EARLY: Final = 60.0
"""Seconds before its end at which a token is refreshed,"""

EARLY_PART: Final = 0.2
"""or this part of its life, if that is longer; but never more than half of it."""

REST: Final = 10.0
"""Seconds after an early refresh that failed before the next one."""

STORING: Final = 20.0
"""Seconds in which a new token is brought into the vault, however often that takes."""

GRACE: Final = 5.0
"""Seconds that what is being fetched is given when the process stops."""

ENDED: Final = frozenset({"invalid_grant", "unauthorized_client", "access_denied"})
"""Refusals after which only the person can help."""


class Refreshing:
    """Keeps the tokens of one process fresh. `open` it first."""

    def __init__(
        self,
        vault: Vault,
        turns: Turns,
        clients: OAuthClients,
        web_for: Callable[[ServerConfig], Web],
    ) -> None:
        self._vault, self._turns, self._clients, self._web_for = vault, turns, clients, web_for
        self._tasks: asyncio.TaskGroup
        self._flights: dict[Holder, asyncio.Task[Secret | TrunklineError]] = {}
        self._rests: dict[Holder, float] = {}

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Self]:
        """Refresh, for the life of the block. What is being fetched at its end is still stored."""
        async with asyncio.TaskGroup() as self._tasks:
            yield self
            if self._flights:
                _, late = await asyncio.wait(self._flights.values(), timeout=GRACE)
                for flight in late:
                    flight.cancel()

    def kept(self, holder: Holder, url: str) -> Secret | None:
        """The token in memory, if it needs no care: the path of a call."""
        kept = self._vault.kept(*_place(holder))
        secret = None if kept is None else kept.secret
        return secret if secret and _is_for(secret, url) and not is_due(secret) else None

    def is_flying(self, holder: Holder) -> bool:
        """Whether a new token is being fetched now."""
        return holder in self._flights

    async def usable(self, holder: Holder, config: ServerConfig) -> Secret | None:
        """
        A token that is good now; None if the person has to log in.

        Raises `OAuthError` and `StorageError` where there may be one again soon.
        """
        secret = await self.stored(holder, config)
        if secret is None or not is_due(secret):
            return secret
        if secret.refresh_token is None:
            return secret if secret.lasts() else None
        if secret.lasts():
            if monotonic() >= self._rests.get(holder, 0.0):
                self._fly(holder, config, secret)
            return secret
        return await self.renewed(holder, config, secret)

    async def stored(self, holder: Holder, config: ServerConfig) -> Secret | None:
        """The token there is for exactly this server, good or not."""
        secret = await self._vault.get(*_place(holder))
        return secret if secret is not None and _is_for(secret, config.url) else None

    async def renewed(self, holder: Holder, config: ServerConfig, old: Secret) -> Secret | None:
        """
        The token after *old*, fetched once for all who ask; None if the person has to log in.

        Raises as `usable` does.
        """
        came = await asyncio.shield(self._fly(holder, config, old))
        if isinstance(came, LoginRequired):
            return None
        if isinstance(came, TrunklineError):
            raise came
        return came

    def _fly(
        self, holder: Holder, config: ServerConfig, old: Secret
    ) -> "asyncio.Task[Secret | TrunklineError]":
        flight = self._flights.get(holder)
        if flight is None:
            flight = self._tasks.create_task(self._fetch(holder, config, old))
            self._flights[holder] = flight
            flight.add_done_callback(lambda _: self._flights.pop(holder))
        return flight

    async def _fetch(
        self, holder: Holder, config: ServerConfig, old: Secret
    ) -> Secret | TrunklineError:
        """One refresh. What goes wrong is what comes of it: it must not end the others."""
        event = log.bind(server=holder.server, org=holder.org)
        try:
            async with self._turns.take(holder) as turn:
                secret = await self._in_turn(holder, config, old, turn)
        except TrunklineError as error:
            self._rests[holder] = monotonic() + REST
            event.warning("oauth.not_refreshed", code=error.code, reason=str(error))
            return error
        except Exception as error:  # noqa: BLE001 - keeps the tokens of people apart
            event.error("oauth.refresh_crashed", exc_info=error)
            return OAuthError("The token could not be refreshed. The log has the reason.")
        self._rests.pop(holder, None)
        event.info("oauth.refreshed")
        return secret

    async def _in_turn(
        self, holder: Holder, config: ServerConfig, old: Secret, turn: Turn
    ) -> Secret:
        """Refresh, unless somebody has while we waited for our turn."""
        secret = await self._turns.newest(holder, turn)
        terms = None if secret is None else Terms.of(secret)
        if secret is None or terms is None or not _is_for(secret, config.url):
            raise LoginRequired(config.name)
        if secret.access_token != old.access_token and secret.lasts():
            return secret
        if secret.refresh_token is None:
            raise LoginRequired(config.name)
        assert config.oauth is not None
        client = await self._clients.recall(
            terms.issuer, terms.client_id, terms.auth_method, config.oauth
        )
        try:
            fresh = await refresh(self._web_for(config), terms, client, secret)
        except OAuthRefused as error:
            await self._refused(holder, config, terms, turn, error)
            raise
        return await self.store(holder, fresh, turn)

    async def _refused(
        self, holder: Holder, config: ServerConfig, terms: Terms, turn: Turn, error: OAuthRefused
    ) -> None:
        """Let go of what the authorization server does not accept any more."""
        if error.error == "invalid_client" and config.oauth and not config.oauth.client_id:
            await self._clients.forget(terms.issuer, terms.client_id)
        elif error.error not in ENDED:
            return
        turn.reason = str(error)
        await self._vault.forget(*_place(holder))
        raise LoginRequired(config.name, reason=str(error)) from error

    async def store(self, holder: Holder, secret: Secret, turn: Turn) -> Secret:
        """Keep a new token for everybody. Tries for a while: there is no other copy of it."""
        import stamina  # here, because most processes refresh nothing

        fresh = numbered(secret, turn.generation + 1)
        async for attempt in stamina.retry_context(on=StorageError, attempts=None, timeout=STORING):
            with attempt:
                await self._vault.put(*_place(holder), fresh)
        turn.generation += 1
        return fresh

    async def forget(self, holder: Holder, reason: str = "") -> bool:
        """Let go of a token, in turn; whether there was one. Raises `StorageError`."""
        async with self._turns.take(holder) as turn:
            turn.reason = reason
            return await self._vault.forget(*_place(holder))


def is_due(secret: Secret) -> bool:
    """Whether a token is to be refreshed now."""
    if secret.expires_at is None:
        return False
    life = life_of(secret)
    early = EARLY if life is None else min(max(EARLY, EARLY_PART * life), life / 2)
    return not secret.lasts(early)


def _is_for(secret: Secret, url: str | None) -> bool:
    """Whether a token was issued for the server at *url*, and so may be sent there."""
    terms = secret.extra.get("oauth")
    return url is not None and isinstance(terms, dict) and terms["server"] == digest_of(url)


def _place(holder: Holder) -> tuple[str | None, str, str]:
    return holder.org, holder.user, holder.name

"""
A server that is told of whoever calls: one way to it for each caller, and none without credentials.

What a caller has is looked up at every call, in memory; so a token that was changed or taken away
counts from the next call on, whatever sessions are still open.
"""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from trunkline.downstream.channel import Channel
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.credentials import (
    CredentialMissing,
    CredentialRefused,
    Credentials,
    Reference,
)
from trunkline.downstream.session import Connect
from trunkline.models import Caller, Principal

OFFER_PAUSE: Final = 5.0
"""Seconds before the same credentials of the same caller are tried for the lists once more."""

REMEMBERED: Final = 1_000
"""Callers of whom it is remembered when they were tried."""


class Tokens(Protocol):
    """Where the tokens of people are: what `Reference.is_token` stands for."""

    def kept(self, principal: Principal, config: ServerConfig, which: Reference) -> str | None:
        """The token, if it can be told from memory that there is one and it is good now."""
        ...

    async def fetch(
        self, principal: Principal, config: ServerConfig, which: Reference, caller: Caller | None
    ) -> str | None:
        """
        The token; None if that person has none. Raises `TrunklineError`.

        *caller* may be asked for it, and None is nobody to ask.
        """
        ...

    async def renew(
        self, config: ServerConfig, which: Reference, caller: Caller, refused: CredentialRefused
    ) -> bool:
        """Whether there is another token now in the place of the refused one."""
        ...

    def used(self, credentials: Credentials) -> None:
        """A session is about to be opened with these: they are to be shown nowhere."""
        ...


class NoTokens:
    """Nobody has a token."""

    def kept(self, principal: Principal, config: ServerConfig, which: Reference) -> str | None:
        return None

    async def fetch(
        self, principal: Principal, config: ServerConfig, which: Reference, caller: Caller | None
    ) -> str | None:
        return None

    async def renew(
        self, config: ServerConfig, which: Reference, caller: Caller, refused: CredentialRefused
    ) -> bool:
        return False

    def used(self, credentials: Credentials) -> None:
        pass


class PersonalConnect:
    """How to open a channel to such a server."""

    def __init__(
        self, config: ServerConfig, connect: Callable[[ServerConfig], Connect], tokens: Tokens
    ) -> None:
        """*connect* opens a channel to the server once it is known what to tell it."""
        self._references = config.mapped.references
        self._config, self._connect, self._tokens = config, connect, tokens

    def __call__(self) -> AbstractAsyncContextManager[Channel]:
        """For nobody: refused. Raises `CredentialMissing`."""
        raise CredentialMissing(self._config.name, self._references[0])

    @property
    def wanted(self) -> str:
        """What a caller needs to have, as a sentence says it."""
        return " and ".join(reference.wanted for reference in self._references)

    def known(self, principal: Principal) -> Credentials | None:
        """What this caller has, if it can be told at once and is all that the server needs."""
        values: dict[Reference, str] = {}
        for one in self._references:
            if one.is_token:
                value = self._tokens.kept(principal, self._config, one)
            else:
                value = one.said_by(principal)
            if not value:
                return None
            values[one] = value
        return Credentials.of(values)

    async def credentials(self, principal: Principal, caller: Caller | None = None) -> Credentials:
        """
        What this caller has; *caller*, if it is given, may be asked.

        Raises `CredentialMissing`, or why it cannot be looked up.
        """
        if (known := self.known(principal)) is not None:
            return known
        values: dict[Reference, str] = {}
        for one in self._references:
            if one.is_token:
                value = await self._tokens.fetch(principal, self._config, one, caller)
            else:
                value = one.said_by(principal)
            if not value:
                raise CredentialMissing(self._config.name, one)
            values[one] = value
        return Credentials.of(values)

    async def renew(self, caller: Caller, refused: CredentialRefused) -> bool:
        """Whether the caller has other credentials now than those that were refused."""
        for one in self._references:
            if one.is_token and await self._tokens.renew(self._config, one, caller, refused):
                return True
        return False

    def told(self, credentials: Credentials) -> Connect:
        """How to open a channel for a caller who has these."""
        self._tokens.used(credentials)
        return self._connect(self._config.told(credentials))


class Offers:
    """
    Callers over whose sessions a server may be listed. Each is tried now and then at most, and at
    once with credentials that are new: whoever has just logged in is not made to wait.
    """

    def __init__(self) -> None:
        self._tried: dict[tuple[str | None, str, str | None], float] = {}
        self._waiting: deque[Caller] = deque(maxlen=REMEMBERED)

    def add(self, caller: Caller, known: Credentials | None, now: float) -> bool:
        """
        Take a caller that has not been tried for a while; whether it was taken.

        *known* is what it has, as far as that can be told at once.
        """
        principal = caller.client.principal
        who = principal.org, principal.user or principal.subject, known and known.digest
        if now - self._tried.get(who, float("-inf")) < OFFER_PAUSE:
            return False
        if len(self._tried) >= REMEMBERED:
            self._tried.clear()
        self._tried[who] = now
        self._waiting.append(caller)
        return True

    def next(self) -> Caller | None:
        """Whom to try next; None if nobody is left."""
        return self._waiting.popleft() if self._waiting else None

    def clear(self) -> None:
        """Somebody was found, and the others need not be tried."""
        self._waiting.clear()

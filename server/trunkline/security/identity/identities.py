"""
Who somebody is: the question that comes before all others.

    a credential ──┬── tk_... ──── keys
                   └── otherwise ─ tokens
    none ───────────── the user of this machine, while there is neither key nor issuer

It is answered from memory; only a token that was not seen for a minute is verified. What cannot be
known lets nobody in: while the keys have not been read, it is not known whether there are any.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NoReturn

from trunkline.background import background
from trunkline.models import LOOPBACK
from trunkline.security.identity.attempts import Attempts
from trunkline.security.identity.credentials import (
    Credential,
    CredentialInvalid,
    CredentialMissing,
    IdentityUnavailable,
    Unprotected,
)
from trunkline.security.identity.keys import PREFIX, Keys
from trunkline.security.identity.tokens import Tokens
from trunkline.settings import AuthSettings
from trunkline.storage.pool import Database

PATIENCE: Final = 10.0
"""Seconds that a request waits for the keys to be read."""


class Identities:
    """Everybody who may come in over HTTP. `run` is to be running for changes to be followed."""

    def __init__(
        self,
        settings: AuthSettings,
        keys: Keys,
        tokens: Tokens,
        *,
        host: str,
        has_no_database: Callable[[], bool],
        patience: float = PATIENCE,
    ) -> None:
        """
        *host* is the address listened on.

        *has_no_database* says whether there can be no keys at all, so that none need be waited for.
        """
        self.keys, self.tokens = keys, tokens
        self._required, self._host = settings.required, host
        self._is_public = not is_loopback(host)
        self._has_no_database, self._patience = has_no_database, patience
        self._attempts = Attempts()
        self._local = Credential(LOOPBACK)
        keys.on_change = self._turn

    @property
    def is_closed(self) -> bool:
        """Whether every request needs a key or a token, as far as is known."""
        if self._required is not None and not self._is_public:
            return self._required
        return self._is_public or self.tokens.are_taken or self.keys.exist

    async def check_protected(self) -> None:
        """
        Raises `Unprotected` if strangers can connect and nothing could tell who they are.

        Where it cannot be known, because the database is away, it is protected: nobody is let in.
        """
        if not self._is_public or self._required is True:
            return
        if self._required is False:
            raise Unprotected(self._host, switched_off=True)
        if not self.tokens.are_taken and await self._are_keys_known() and not self.keys.exist:
            raise Unprotected(self._host)

    async def identify(self, secret: str | None, *, address: str | None) -> Credential:
        """
        Whoever shows *secret*, a key or a token, or nothing. *address* is where it came from.

        Raises `Refused` in one of its kinds.
        """
        if not self.is_closed:
            if self._required is None:
                await self._require_known()
            if not self.is_closed:
                return self._as_local(address)
        if secret is None:
            raise CredentialMissing
        try:
            return await self._credential(secret, address or "")
        except CredentialInvalid:
            self.note_failure(address)
            raise

    def note_failure(self, address: str | None) -> None:
        """Something was tried from there that nobody should try. Raises `TooManyFailures`."""
        self._attempts.add(address or "")

    async def run(self) -> NoReturn:
        """Follow the keys until cancelled."""
        async with aclosing(self.tokens):
            await self.keys.run()

    async def _credential(self, secret: str, address: str) -> Credential:
        if secret.startswith(PREFIX):
            await self._require_known()
            return self.keys.credential(secret)
        if (known := self.tokens.known(secret)) is not None:
            return known
        self._attempts.check(address)
        return await self.tokens.credential(secret)

    def _as_local(self, address: str | None) -> Credential:
        """The user of this machine. A proxy that forwards for others is not."""
        if self._required is None and (address is None or not is_loopback(address)):
            raise CredentialMissing
        return self._local

    async def _require_known(self) -> None:
        if not await self._are_keys_known():
            raise IdentityUnavailable(
                "The database with the keys does not answer, so nobody can be let in. Try again in "
                "a moment."
            )

    async def _are_keys_known(self) -> bool:
        """Whether it is known which keys there are, after waiting for it for a while."""
        if self.keys.known.is_set() or self._has_no_database():
            return True
        try:
            async with asyncio.timeout(self._patience):
                await self.keys.known.wait()
        except TimeoutError:
            return self._has_no_database()
        return True

    def _turn(self) -> None:
        """The first key was made: nobody is the user of this machine any more."""
        if self.is_closed and not self._local.is_over:
            self._local.end()


@asynccontextmanager
async def open_identities(
    settings: AuthSettings,
    database: Database,
    *,
    host: str,
    wait_migrated: Callable[[float], Awaitable[None]],
    has_no_database: Callable[[], bool],
) -> AsyncGenerator[Identities]:
    """
    Everybody who may come in, followed for the life of the block. Entered at once.

    *wait_migrated* is as for `Keys`, the rest as for `Identities`. Raises `SettingsInvalid` for an
    issuer that cannot be used.
    """
    tokens = Tokens(settings.tokens)
    identities = Identities(
        settings,
        Keys(database, wait_migrated),
        tokens,
        host=host,
        has_no_database=has_no_database,
    )
    async with background() as tasks:
        tasks.start_soon(identities.run)
        await tokens.prepare()
        yield identities


@lru_cache(1024)
def is_loopback(host: str) -> bool:
    """Whether only this machine reaches *host*, or is it."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name may come to mean any address

"""
One at a time changes somebody's token, over all processes.

Refresh tokens are good once: two that refresh with one and the same look like a thief and its
victim, and the authorization server takes everything back. So whoever changes a token takes a turn
first, as a row of the database that runs out by itself when its holder dies. With the turn comes
the number of the newest token: who has an older one in memory waits until it has heard of that.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

import anyio
import structlog

from trunkline.downstream.server_config import ServerConfig
from trunkline.errors import StorageError, StorageTimeout
from trunkline.security.oauth.tokens import generation_of
from trunkline.security.vault.vault import Secret, Vault
from trunkline.storage.pool import Database
from trunkline.storage.repositories.oauth import Grant, OAuthRepository
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.rows import Org

log = structlog.get_logger(__name__)

TURN: Final = 90.0
"""Seconds after which a turn passes on, whatever became of its holder."""

PAUSE: Final = 0.1
"""Seconds between two looks whether it is our turn, or whether we have heard of the newest."""

HEARING: Final = 10.0
"""Seconds in which one hears of a change that another process has made."""

RETURN_LIMIT: Final = 5.0
"""Seconds a turn may take to be given back."""


LOGIN: Final = " login "
"""What the names of these tokens begin with in the vault. A reference begins with no blank."""


class Holder(NamedTuple):
    """Whose token for which server."""

    org: str | None
    user: str
    server: str
    """As rows name it."""

    @property
    def name(self) -> str:
        """What the token is called in the vault: as no reference in mcp.json can be written."""
        return f"{LOGIN}{self.server}"


def holder_of(org: str | None, user: str, config: ServerConfig) -> Holder:
    """The holder of the token of a user at a server."""
    own = config.name if config.org is None else f"{config.org}/{config.name}"
    return Holder(org, user, own)


@dataclass(slots=True)
class Turn:
    """The right to change a token, while it lasts."""

    generation: int
    """The number of the newest token. Whoever stores another one raises it."""

    reason: str = ""
    """Why there is no token any more. Whoever forgets it says so here."""


class Turns:
    """The turns of one process. Every method raises `StorageError`."""

    def __init__(self, database: Database, rows: OAuthRepository, vault: Vault) -> None:
        self._database, self._rows, self._vault = database, rows, vault

    async def org_id(self, org: str | None) -> Org:
        """The organisation as rows have it. Raises `OrgNotFound`."""
        return None if org is None else await OrgRepository(self._database).find(org)

    async def grant(self, holder: Holder) -> Grant:
        """How a token is doing, as every process knows it."""
        return await self._rows.grant(await self.org_id(holder.org), holder.user, holder.server)

    @asynccontextmanager
    async def take(self, holder: Holder) -> AsyncGenerator[Turn]:
        """Wait for our turn at a token, and have it for the life of the block."""
        org, by = await self.org_id(holder.org), f"{self._database.name} {secrets.token_hex(4)}"
        turn = Turn(await self._claim(org, holder, by))
        try:
            yield turn
        finally:
            await self._give_back(org, holder, by, turn)

    async def newest(self, holder: Holder, turn: Turn) -> Secret | None:
        """The token whose turn it is, as it is now. Raises `StorageTimeout` if we are deaf."""
        try:
            async with asyncio.timeout(HEARING):
                while True:
                    secret = await self._vault.get(holder.org, holder.user, holder.name)
                    if secret is None or generation_of(secret) >= turn.generation:
                        return secret
                    await asyncio.sleep(PAUSE)
        except TimeoutError as error:
            raise StorageTimeout(
                "The newest token could not be read from the vault in time. Try again."
            ) from error

    async def _claim(self, org: Org, holder: Holder, by: str) -> int:
        try:
            async with asyncio.timeout(TURN + HEARING):
                while True:
                    generation = await self._rows.claim(
                        org, holder.user, holder.server, by=by, seconds=TURN
                    )
                    if generation is not None:
                        return generation
                    await asyncio.sleep(PAUSE)
        except TimeoutError as error:
            raise StorageTimeout(
                f"The token for {holder.server!r} is being changed by others. Try again."
            ) from error

    async def _give_back(self, org: Org, holder: Holder, by: str, turn: Turn) -> None:
        """Give a turn back, also when we are cancelled; if that fails, it runs out by itself."""
        returning = self._rows.release(
            org, holder.user, holder.server, by=by, generation=turn.generation, reason=turn.reason
        )
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(RETURN_LIMIT):
                await returning
        except (StorageError, TimeoutError) as error:
            log.warning("oauth.turn_kept", server=holder.server, error=type(error).__name__)

"""
The tokens of people, as a server that is told of its callers asks for them.

    ${user.token:NAME}   out of the vault, as it is: what has ended is nobody's token any more
    "auth": "oauth"      what a login at that server has brought, refreshed in time
"""

from typing import Protocol

from trunkline.downstream.config import ServerConfig
from trunkline.downstream.credentials import CredentialRefused, Credentials, Reference
from trunkline.models import Caller, Principal
from trunkline.security.masking.masking import SECRETS, Secrets
from trunkline.security.vault.vault import Vault


class Logins(Protocol):
    """Where people log in at servers."""

    def kept(self, org: str | None, user: str | None, config: ServerConfig) -> str | None:
        """The token in memory, if it needs no care."""
        ...

    async def token(
        self, org: str | None, user: str | None, config: ServerConfig, caller: Caller | None
    ) -> str:
        """The token, refreshed, or after *caller* has logged in. Raises `TrunklineError`."""
        ...

    async def renew(
        self,
        org: str | None,
        user: str | None,
        config: ServerConfig,
        caller: Caller | None,
        *,
        refused: str,
        challenge: str | None = None,
    ) -> str:
        """Another token in the place of one that was refused. Raises `TrunklineError`."""
        ...


class PeoplesTokens:
    """The vault's tokens, and those of logins."""

    def __init__(
        self, vault: Vault, logins: Logins | None = None, *, secrets: Secrets = SECRETS
    ) -> None:
        """Without *logins*, nobody can log in. *secrets* learns what servers are told."""
        self._vault, self._logins, self._secrets = vault, logins, secrets

    def kept(self, principal: Principal, config: ServerConfig, which: Reference) -> str | None:
        """The token, if it can be told from memory that there is one and it is good now."""
        if principal.user is None:
            return None
        if which.kind == "user.login":
            if self._logins is None:
                return None
            return self._logins.kept(principal.org, principal.user, config)
        kept = self._vault.kept(principal.org, principal.user, which.name)
        if kept is None or kept.secret is None or not kept.secret.lasts():
            return None
        return kept.secret.access_token

    async def fetch(
        self, principal: Principal, config: ServerConfig, which: Reference, caller: Caller | None
    ) -> str | None:
        """The token; None if that person has none that is good. Raises `TrunklineError`."""
        if principal.user is None:
            return None
        if which.kind == "user.login":
            if self._logins is None:
                return None
            return await self._logins.token(principal.org, principal.user, config, caller)
        secret = await self._vault.get(principal.org, principal.user, which.name)
        return secret.access_token if secret is not None and secret.lasts() else None

    async def renew(
        self, config: ServerConfig, which: Reference, caller: Caller, refused: CredentialRefused
    ) -> bool:
        """Whether there is another token now: a login is renewed, the vault's is what it is."""
        if which.kind != "user.login" or self._logins is None:
            return False
        principal, token = caller.client.principal, refused.credentials.values[which]
        fresh = await self._logins.renew(
            principal.org,
            principal.user,
            config,
            caller,
            refused=token,
            challenge=refused.challenge,
        )
        return fresh != token

    def used(self, credentials: Credentials) -> None:
        """A session is about to be opened with these."""
        self._secrets.meet(credentials.secrets)

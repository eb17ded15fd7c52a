"""
Logins at the servers behind us: registrations, logins under way, and whose turn it is to refresh.

No secret passes here: links, states and browsers come as their SHA-256, tokens are in the vault.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from trunkline.models import Json
from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.rows import Org, from_text, to_json, to_name, to_text
from trunkline.wire import decode

CHANNEL: Final = "mcp_oauth"
"""Where the id of every login that has ended is notified."""

_STATEMENTS = load("oauth.sql")

Outcome = Literal["done", "failed"]


@dataclass(frozen=True, slots=True)
class Registration:
    """As whom Trunkline is known to an authorization server."""

    client_id: str
    auth_method: str


@dataclass(frozen=True, slots=True)
class LoginPage:
    """What the page behind a link says."""

    org: str | None
    user: str
    server: str
    request: Json
    is_taken: bool
    """Whether a browser has set out with it already."""


@dataclass(frozen=True, slots=True)
class ReturnedLogin:
    """A login whose browser has come back. It cannot come back again."""

    id: UUID
    org_id: Org
    org: str | None
    user: str
    server: str
    request: Json
    browser: bytes
    seed: bytes


@dataclass(frozen=True, slots=True)
class EndedLogin:
    """How a login ended."""

    id: UUID
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """How somebody's token for a server is doing, as every process knows it."""

    reason: str
    """Why there is no token any more; empty if there is none of that kind of news."""

    is_refreshing: bool
    is_waiting: bool
    """Whether somebody is on the way to log in."""


class OAuthRepository:
    """What people of an organisation have at servers. Every method raises `StorageError`."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def begin(
        self, org: Org, user: str, server: str, *, link: bytes, request: Json, seconds: float
    ) -> UUID:
        """Begin a login that may take so many *seconds*."""
        arguments = (org, to_name(user), to_name(server), link, to_json(request), seconds)
        return await self._pool.fetchval(_STATEMENTS["begin"], *arguments)

    async def claim(
        self, org: Org, user: str, server: str, *, by: str, seconds: float
    ) -> int | None:
        """
        Claim the right to change somebody's token; None while another has it.

        Returns the generation of the token that there is: see `release`.
        """
        arguments = (org, to_name(user), to_name(server), by, seconds)
        return await self._pool.fetchval(_STATEMENTS["claim"], *arguments)

    async def release(
        self, org: Org, user: str, server: str, *, by: str, generation: int, reason: str = ""
    ) -> None:
        """Give the right back. *reason* says why there is no token any more."""
        arguments = (org, to_name(user), to_name(server), by, generation, to_text(reason))
        await self._pool.execute(_STATEMENTS["release"], *arguments)

    async def grant(self, org: Org, user: str, server: str) -> Grant:
        """How somebody's token for a server is doing."""
        row = await self._pool.fetchrow(_STATEMENTS["grant"], org, to_name(user), to_name(server))
        assert row is not None, "it has no FROM"
        return Grant(from_text(row["reason"] or ""), row["is_refreshing"], row["is_waiting"])


class LoginRepository:
    """
    Logins under way, for whoever has their link, their state or their id.

    A browser that follows a link says nothing of an organisation; what it has was given to one
    person, and cannot be guessed. Every method raises `StorageError`.
    """

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def show(self, link: bytes) -> LoginPage | None:
        """The login behind a link, if it is still good. Changes nothing."""
        row = await self._pool.fetchrow(_STATEMENTS["show"], link)
        if row is None:
            return None
        org = None if row["org"] is None else from_text(row["org"])
        user, server = from_text(row["user_name"]), from_text(row["server"])
        return LoginPage(org, user, server, decode(row["request"]), row["is_taken"])

    async def leave(self, link: bytes, browser: bytes, state: bytes, seed: bytes) -> Json | None:
        """Send a browser off; its request, or None if the link is not good for this browser."""
        request = await self._pool.fetchval(_STATEMENTS["leave"], link, browser, state, seed)
        return None if request is None else decode(request)

    async def take(self, state: bytes) -> ReturnedLogin | None:
        """The login of a browser that has come back; None if that state is not good any more."""
        row = await self._pool.fetchrow(_STATEMENTS["return"], state)
        if row is None:
            return None
        return ReturnedLogin(
            id=row["id"],
            org_id=row["org_id"],
            org=None if row["org"] is None else from_text(row["org"]),
            user=from_text(row["user_name"]),
            server=from_text(row["server"]),
            request=decode(row["request"]),
            browser=row["browser"],
            seed=row["seed"],
        )

    async def end(self, login: UUID, outcome: Outcome, reason: str = "") -> None:
        """Say how a login ended, to every process."""
        await self._pool.execute(_STATEMENTS["end"], login, outcome, to_text(reason))

    async def outcomes(self, logins: Sequence[UUID]) -> list[EndedLogin]:
        """Those of these logins that have ended, or whose time is over."""
        rows = await self._pool.fetch(_STATEMENTS["outcomes"], list(logins))
        return [EndedLogin(row["id"], row["outcome"], from_text(row["reason"])) for row in rows]


class RegistrationRepository:
    """
    As whom Trunkline itself is known, whoever is to be logged in.

    No request comes here. Every method raises `StorageError`.
    """

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def registration(self, issuer: str, redirect_uri: str) -> Registration | None:
        """As whom we are known there, for that place to be returned to."""
        row = await self._pool.fetchrow(_STATEMENTS["registration"], issuer, redirect_uri)
        return None if row is None else Registration(row["client_id"], row["auth_method"])

    async def register(
        self, issuer: str, redirect_uri: str, new: Registration, seconds: float | None
    ) -> Registration:
        """Keep a registration for so many *seconds*; returns the one that was there first."""
        row = await self._pool.fetchrow(
            _STATEMENTS["register"], issuer, redirect_uri, new.client_id, new.auth_method, seconds
        )
        # None if another process registers at this very moment; then ours serves this once.
        return new if row is None else Registration(row["client_id"], row["auth_method"])

    async def unregister(self, issuer: str, client_id: str) -> None:
        """Forget a client that the authorization server does not know any more."""
        await self._pool.execute(_STATEMENTS["unregister"], issuer, client_id)

"""
Organisations at a gateway: their keys, and clients that look at every answer for what is another's.
"""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import aiohttp

from tests.gateway_under_test import Gateway, until
from tests.journeys.raw_client import LIMIT, Json, RawClient, silent
from trunkline.security.identity.credentials import Refused
from trunkline.security.identity.keys import make_secret
from trunkline.storage.repositories.keys import KeyRepository, NewKey
from trunkline.storage.repositories.orgs import OrgRepository

ID: Final = slice(3, 15)
"""Where the id of a key stands in it."""


class Crossed(Exception):
    """Something of another organisation was seen. Stops the test, whatever it expects."""


class WatchedClient(RawClient):
    """Raises `Crossed` for any answer or notification that holds one of the *foreign* words."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, era: str, foreign: Sequence[str]
    ) -> None:
        super().__init__(http, url, era, silent)
        self.foreign = foreign
        self.seen = 0
        """Answers and notifications that were looked at."""

    async def _post(self, message: Json, headers: Any) -> Json | None:
        answer = await super()._post(message, headers)
        if answer is not None:
            self._look(answer)
        return answer

    async def _hear(self, message: Json) -> None:
        self._look(message)
        await super()._hear(message)

    def _look(self, message: Json) -> None:
        self.seen += 1
        text = json.dumps(message)
        for word in self.foreign:
            if word in text:
                raise Crossed(f"{word!r} in {text[:2000]}")


@asynccontextmanager
async def watched_client(
    running: Gateway, era: str, key: str, *, foreign: Sequence[str] = ()
) -> AsyncGenerator[WatchedClient]:
    """Connect with a key or a token. A stream may be open for as long as a test."""
    timeout = aiohttp.ClientTimeout(sock_connect=LIMIT)
    async with aiohttp.ClientSession(timeout=timeout, headers=bearer(key)) as http:
        client = WatchedClient(http, running.mcp, era, foreign)
        await client.open()
        try:
            yield client
        finally:
            await client.close()


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


async def add_key(running: Gateway, org: str | None, name: str, **values: Any) -> str:
    """A key of an organisation, which is made with it, and known to the gateway."""
    database = running.app.standing.database
    scope = None if org is None else await OrgRepository(database).put(org)
    secret = make_secret()
    await KeyRepository(database).add(scope, secret.id, secret.hash, NewKey(name=name, **values))
    await until(lambda: is_good(running, secret.key))
    return secret.key


async def revoke_key(running: Gateway, org: str, key: str) -> None:
    """Let nobody in with a key any more."""
    database = running.app.standing.database
    scope = await OrgRepository(database).put(org)
    await KeyRepository(database).revoke(scope, key[ID])
    await until(lambda: not is_good(running, key))


def is_good(running: Gateway, key: str) -> bool:
    """Whether the gateway lets somebody in with a key."""
    try:
        return bool(running.identities.keys.credential(key))
    except Refused:
        return False


SOON: Final = timedelta(seconds=0.3)
"""When a key expires that is to be good first."""

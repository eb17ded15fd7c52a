"""
Those who wait for somebody to log in: calls that were stopped at a server's door.

The person follows a link, in a browser that knows nothing of the call, and may come back to another
process. So the call waits here for news: how the login ended, or simply a token that is good,
whoever brought it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NoReturn
from uuid import UUID
from weakref import WeakValueDictionary

import anyio
import structlog

from trunkline.background import background
from trunkline.errors import RpcError, StorageError
from trunkline.models import Caller, Era, Json
from trunkline.security.oauth.failures import LoginFailed, LoginRequired
from trunkline.security.oauth.flows import Link
from trunkline.security.oauth.turns import Holder
from trunkline.storage.pool import Database
from trunkline.storage.repositories.oauth import CHANNEL, LoginRepository

log = structlog.get_logger(__name__)

LOOK: Final = 5.0
"""Seconds between two looks whether a login has ended that nobody told us of."""

FRESH: Final = 60.0
"""Seconds for which a link that nobody waits for is shown again to the same person."""

ASK: Final = "elicitation/create"
COMPLETE: Final = "notifications/elicitation/complete"


@dataclass(eq=False, slots=True)
class Login:
    """A login that calls of this process wait for."""

    holder: Holder
    server: str
    link: Link
    failure: str | None = None
    """Why it failed, once it has."""

    waiters: int = 0
    asked: set[str] = field(default_factory=set)
    """The clients that were shown the link."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, when there may be something new."""

    began: float = field(default_factory=monotonic)

    @property
    def can_be_joined(self) -> bool:
        """Whether its link is what to show to whoever comes now."""
        return self.failure is None and (self.waiters > 0 or monotonic() - self.began < FRESH)

    def stir(self) -> None:
        """Have those who wait look again."""
        self.news.set()
        self.news = asyncio.Event()


class Waiting:
    """The logins that calls of this process wait for. `run` keeps them informed."""

    def __init__(self, database: Database, rows: LoginRepository, *, patience: float) -> None:
        """*patience* is how many seconds a call waits for its person."""
        self._database, self._rows, self._patience = database, rows, patience
        self._logins: dict[Holder, Login] = {}
        self._beginning: WeakValueDictionary[Holder, asyncio.Lock] = WeakValueDictionary()
        self._heard = asyncio.Event()

    async def join(
        self, holder: Holder, server: str, begin: Callable[[], Awaitable[Link]]
    ) -> Login:
        """The login of that holder: the one under way, else what *begin* begins."""
        lock = self._beginning.setdefault(holder, asyncio.Lock())
        async with lock:
            login = self._logins.get(holder)
            if login is None or not login.can_be_joined:
                login = self._logins[holder] = Login(holder, server, await begin())
                self._heard.set()  # there is something to look after
            return login

    def is_waited_for(self, holder: Holder) -> bool:
        """Whether a call of this process waits for that person."""
        login = self._logins.get(holder)
        return login is not None and login.waiters > 0

    async def see_through(
        self, login: Login, caller: Caller, is_there: Callable[[], Awaitable[bool]]
    ) -> None:
        """
        Send the person of *caller* to the link, and return when *is_there* a token.

        Raises `LoginRequired` if nobody logs in in time, `LoginFailed` if they decline or cannot.
        """
        declined: list[LoginFailed | LoginRequired] = []
        login.waiters += 1
        try:
            with anyio.move_on_after(self._patience) as patience:
                async with background() as tasks:
                    tasks.start_soon(self._ask, login, caller, declined, tasks.cancel_scope)
                    await self._follow(login, is_there)
        finally:
            self._leave(login)
        if declined:
            raise declined[0]
        if login.failure is not None:
            raise LoginFailed(f"The login at {login.server!r} failed. {login.failure}")
        if patience.cancelled_caught:
            reason = f"Nobody logged in within {self._patience:g} seconds."
            raise LoginRequired(login.server, url=login.link.url, reason=reason)
        await _tell_complete(login, caller)

    def stir(self, holder: Holder) -> None:
        """A token of that holder has changed."""
        if (login := self._logins.get(holder)) is not None:
            login.stir()

    def end(self, login_id: UUID, failure: str | None) -> None:
        """A login has ended, with a token or with a *failure*."""
        for login in list(self._logins.values()):
            if login.link.id == login_id:
                login.failure = failure
                login.stir()
                if failure is None or not login.waiters:
                    self._logins.pop(login.holder, None)

    async def run(self) -> NoReturn:
        """Hear how logins end in other processes, until cancelled."""

        def hear(_: str = "") -> None:
            self._heard.set()

        with self._database.listening(CHANNEL, on_message=hear, on_start=hear):
            while True:
                with anyio.move_on_after(LOOK if self._logins else None):
                    await self._heard.wait()
                self._heard.clear()
                await self._look()

    async def _look(self) -> None:
        by_id = {login.link.id: login for login in self._logins.values()}
        if not by_id:
            return
        try:
            ended = await self._rows.outcomes(list(by_id))
        except StorageError as error:
            log.debug("oauth.not_followed", code=error.code)
            return
        for one in ended:
            self.end(one.id, one.reason if one.outcome == "failed" else None)

    async def _follow(self, login: Login, is_there: Callable[[], Awaitable[bool]]) -> None:
        """Return when there is a token, or the login has failed."""
        while login.failure is None:
            news = login.news  # taken before the look, so that what comes meanwhile is not missed
            if await is_there():
                return
            await news.wait()

    async def _ask(
        self,
        login: Login,
        caller: Caller,
        declined: list[LoginFailed | LoginRequired],
        scope: anyio.CancelScope,
    ) -> None:
        """Have the client show the link, once. Ends the wait if the person does not want to."""
        if caller.client.id in login.asked:
            return
        login.asked.add(caller.client.id)
        accepted = False
        try:
            answer = await caller.ask(ASK, _question(login, caller))
            accepted = answer.get("action") == "accept"
            reason = f"The login at {login.server!r} was declined. Call again to be asked again."
            refusal = LoginFailed(reason)
        except RpcError as error:
            log.info("oauth.not_shown", server=login.server, code=error.rpc_code)
            refusal = LoginRequired(login.server, url=login.link.url)
        finally:
            if not accepted:
                login.asked.discard(caller.client.id)
        if not accepted:
            declined.append(refusal)
            scope.cancel()

    def _leave(self, login: Login) -> None:
        login.waiters -= 1
        if not login.waiters and self._logins.get(login.holder) is login:
            # Its link is good for a while longer; who calls then finds the token, or begins anew.
            del self._logins[login.holder]


def can_be_sent(caller: Caller) -> bool:
    """Whether the client of *caller* shows links to its person (MCP, "Elicitation": URL mode)."""
    elicitation = caller.client.capabilities.get("elicitation")
    return isinstance(elicitation, dict) and isinstance(elicitation.get("url"), dict)


def _question(login: Login, caller: Caller) -> Json:
    question: Json = {
        "mode": "url",
        "url": login.link.url,
        "message": f"The server {login.server} wants you to log in.",
    }
    if caller.client.era is Era.HANDSHAKE:
        question["elicitationId"] = str(login.link.id)
    return question


async def _tell_complete(login: Login, caller: Caller) -> None:
    """The client may take the link off the screen; the modern era has no word for that."""
    if caller.client.era is Era.HANDSHAKE:
        await caller.tell(COMPLETE, {"elicitationId": str(login.link.id)})

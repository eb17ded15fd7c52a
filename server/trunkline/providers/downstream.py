"""
A downstream server, or a plugin in this process, as a provider.

It keeps one session up that knows the lists (the primary one), opens further ones for the scopes,
eras and capabilities of the clients that call, and hands every request to the right one.

    request ─> Sharing: whose session? ─> SessionPool ─> Supervisor ─> Session ─> server
    list_changed ─> Lists ─> on_change ─> catalog

A server that is told of whoever calls (`personal`) has no session of its own: it lists over that of
whoever has come with the credentials it needs. What a list says of one person's resources is kept
from everybody else.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Self

import structlog
from mcp.shared.inbound import (
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)

from trunkline.downstream.channel import ChannelLost, Inbound
from trunkline.downstream.config import ServerConfig, ToolRules
from trunkline.downstream.credentials import CredentialRefused, Credentials
from trunkline.downstream.era import Identity, NoCommonEra
from trunkline.downstream.pool import SessionKey, SessionPool
from trunkline.downstream.responses import Unauthorized
from trunkline.downstream.session import Connect, Session
from trunkline.downstream.supervisor import Supervisor
from trunkline.errors import DownstreamUnavailable, InteractionRefused, TrunklineError
from trunkline.models import Caller, Client, Era, Json, Listing, ProviderId, State, Status
from trunkline.providers.lists import Lists
from trunkline.providers.personal import Offers, PersonalConnect
from trunkline.providers.rounds import complete, is_input_required
from trunkline.providers.sharing import EVERYTHING, ResultScope, Sharing
from trunkline.providers.subscriptions import Subscriptions
from trunkline.settings import DownstreamSettings

log = structlog.get_logger(__name__)

Look = Callable[[], Awaitable[str | None]]
"""Asks a server's health page what it complains of; None if it is well."""


class DownstreamProvider:
    """One server of mcp.json, or one plugin."""

    def __init__(
        self,
        config: ServerConfig,
        connect: Connect,
        settings: DownstreamSettings,
        gate: asyncio.Semaphore,
        *,
        known: Listing | None = None,
        look: Look | None = None,
    ) -> None:
        """*known* is what it offered when it was last seen; served until it has answered."""
        self.config = config
        self.on_change: Callable[[DownstreamProvider], None] | None = None
        self.on_updated: Callable[[str, str, Json], None] | None = None
        """Called with the audience of the session, the URI and the raw params of every
        `notifications/resources/updated`."""

        self._connect, self._settings, self._look = connect, settings, look
        self._personal = connect if isinstance(connect, PersonalConnect) else None
        self._offers, self._is_trying = Offers(), False
        self._stripped: tuple[Listing, Listing] | None = None
        self._tasks: asyncio.TaskGroup
        self._pool = SessionPool(config, settings, gate)
        self._sharing = Sharing(config)
        self._subscriptions = Subscriptions(config.name)
        self._lists = Lists(
            config.name,
            known,
            self._lister,
            timeout=settings.list_timeout,
            on_change=self._take,
        )
        self._owner: Caller | None = None
        self._primary: Supervisor | None = None
        self._runs = asyncio.Event()
        self._has_stopped = False
        self._complaint: str | None = None
        self._header_maps: dict[str, Mapping[tuple[str, ...], str]] = {}
        self._under_way = 0
        """Requests that have not ended."""

        self._quiet = asyncio.Event()
        self._quiet.set()

    # -- what it is ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def id(self) -> ProviderId:
        return self.config.id

    @property
    def prefix(self) -> str:
        return self.config.prefix

    @property
    def position(self) -> int:
        return self.config.position

    @property
    def org(self) -> str | None:
        return self.config.org

    @property
    def rules(self) -> ToolRules:
        return self.config.tools

    @property
    def listing(self) -> Listing | None:
        listing = self._lists.listing
        if self._personal is None or listing is None or not listing.resources:
            return listing
        if self._stripped is None or self._stripped[0] is not listing:
            self._stripped = listing, replace(listing, resources=())
        return self._stripped[1]

    @property
    def is_plugin(self) -> bool:
        """Whether it runs in this process."""
        return self.config.transport == "memory"

    @property
    def status(self) -> Status:
        if self.config.disabled:
            return Status(State.DISCONNECTED, "It is disabled.")
        if self._primary is None and self._personal is None:
            return Status(State.DISCONNECTED, "It is not needed yet.")
        status = Status(State.DISCONNECTED) if self._primary is None else self._primary.status
        if self._personal is not None and status.state is State.DISCONNECTED:
            if not self.is_connected:
                return replace(
                    status, reason=f"It waits for somebody with {self._personal.wanted}."
                )
            status = Status(State.CONNECTED)
        trouble = self._lists.trouble or self._complaint
        if status.state is State.CONNECTED and trouble is not None:
            return Status(State.DEGRADED, trouble, trouble)
        return status

    @property
    def settled(self) -> bool:
        """Whether the first attempt to connect and list is over, either way."""
        if self._primary is None:
            waits = self._personal is not None and not self._is_trying
            return self.config.disabled or waits
        state = self.status.state
        if state in (State.CONNECTED, State.DEGRADED):
            return self._lists.settled
        return state is not State.CONNECTING

    @property
    def is_connected(self) -> bool:
        """Whether there is a session that can be asked."""
        return self._lister() is not None

    @property
    def is_heard(self) -> bool:
        """Whether `listing` is the server's own word, and not what was known of it before."""
        return self._lists.is_heard

    def relist(self) -> None:
        """Ask the server for its lists again."""
        self._lists.mark()

    def recall(self, listing: Listing) -> None:
        """Offer what is known from elsewhere, until the server itself has been asked."""
        self._lists.recall(listing)

    # -- life ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Self]:
        """Own the sessions; leaving closes them all."""
        async with self._pool.open(), asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._runs.set()
            keeping = [tasks.create_task(self._lists.keep())]
            if self._look is not None:
                keeping.append(tasks.create_task(self._keep_looking(self._look)))
            try:
                yield self
            finally:
                self._has_stopped = True
                for task in keeping:
                    task.cancel()

    def start(self, owner: Caller | None) -> None:
        """
        Open the primary session, or be ready to. *owner* is the one client there will ever be
        (stdio), None when there may be many.
        """
        if self.config.disabled or self._primary is not None:
            return
        if owner is not None:
            self._owner = owner
            self._sharing.belong_to(owner.client)
        if self._personal is not None:
            if owner is not None:
                self.offer_credentials(owner)
            return
        key, identity = self._sharing.for_lists()
        idle = self.config.idle_timeout
        if self.config.lazy and idle is None:
            idle = self._settings.spare_idle_timeout
        self._primary = self._open(
            key,
            identity,
            owner,
            is_primary=True,
            eager=not (self.config.lazy and self._lists.known),
            idle_timeout=idle,
        )

    def offer_credentials(self, caller: Caller) -> None:
        """
        List over the session of this caller, if the server needs credentials and nobody's does.

        To be called for whoever makes itself known, and at each call. Cheap: what is to be waited
        for is left to a task.
        """
        if self._personal is None or self.is_connected or self.config.disabled:
            return
        if not self._runs.is_set() or self._has_stopped:
            return
        if self.config.lazy and self._lists.known:
            return
        known = self._personal.known(caller.client.principal)
        is_new = self._offers.add(caller, known, asyncio.get_running_loop().time())
        if is_new and not self._is_trying:
            self._is_trying = True
            self._tasks.create_task(self._try_offers())

    async def _try_offers(self) -> None:
        """Open a session for one of those who have come, whoever has what it takes."""
        try:
            while not self.is_connected and (caller := self._offers.next()) is not None:
                await self._try(caller)
        finally:
            self._offers.clear()
            self._is_trying = False

    async def _try(self, caller: Caller) -> None:
        try:
            assert self._personal is not None, "nobody else's are accepted"
            # What is to be found without asking; a call will ask.
            await self._personal.credentials(caller.client.principal)
            await self._session_for(caller)
        except TrunklineError as error:
            log.debug("credentials.declined", server=self.name, code=error.code)
        except Exception:  # the border of one caller: what it has must not end the server
            log.exception("credentials.crashed", server=self.name)

    async def drained(self, limit: float) -> None:
        """Wait until no request is under way any more, or for *limit* seconds."""
        try:
            async with asyncio.timeout(limit):
                await self._quiet.wait()
        except TimeoutError:
            log.info("provider.cut_short", server=self.name, requests=self._under_way)

    def reconfigure(self, config: ServerConfig) -> None:
        """Take a configuration that differs only in names, rules or rank: no reconnection."""
        self.config = config

    async def forget(self, client_id: str) -> None:
        """A client has left: end what was only for it."""
        await self._subscriptions.forget(client_id, self._pool.sessions())
        for session in self._pool.sessions():
            session.forget(client_id)
        await self._pool.end(f"client:{client_id}")

    async def _keep_looking(self, look: Look) -> None:
        while True:
            complaint = await look()
            if complaint is not None and complaint != self._complaint:
                log.warning("health.complained", server=self.name, complaint=complaint)
            self._complaint = complaint
            await asyncio.sleep(self._settings.probe_interval)

    # -- requests -----------------------------------------------------------------------------

    async def request(
        self, method: str, params: Json, caller: Caller, *, repeatable: bool = False
    ) -> Json:
        """
        Carry one client request to the server and return its raw result.

        *repeatable* says that running it twice does no harm: then it is sent again when the
        connection broke under it; otherwise only when it cannot have run.

        Raises `RpcError` or `DownstreamError`.
        """
        send = partial(self._send, method, caller=caller, repeatable=repeatable)
        self._under_way += 1
        self._quiet.clear()
        try:
            result = await send(params)
            if is_input_required(result) and caller.client.era is Era.HANDSHAKE:
                return await complete(self.name, result, params, caller, send)
            return result
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._quiet.set()

    def may_ask(self, client: Client) -> bool:
        """Whether a request of this modern client can end in a server-to-client request."""
        if client.capabilities.keys().isdisjoint(EVERYTHING):
            return False
        return self._wants_login(client) or self._sharing.era_for(client.era) is Era.HANDSHAKE

    def _wants_login(self, client: Client) -> bool:
        """Whether the person of this client has to log in first, as far as is known."""
        if self._personal is None or self.config.oauth is None:
            return False
        return self._personal.known(client.principal) is None

    def result_scope(self, client: Client) -> ResultScope | None:
        """Whom else a result of this client's is good for; None if for nobody, ever."""
        if self._personal is None:
            return self._sharing.result_scope(client)
        credentials = self._personal.known(client.principal)
        return credentials and self._sharing.result_scope(client, credentials.digest)

    async def _send(self, method: str, params: Json, *, caller: Caller, repeatable: bool) -> Json:
        timeout = self.config.timeout or self._settings.call_timeout
        for last_chance in (False, True):
            try:
                session, credentials = await self._session_for(caller)
                headers = None
                if session.era is Era.MODERN:
                    headers = self._routing_headers(method, params)
                return await self._told(
                    credentials,
                    session.request(method, params, caller, timeout=timeout, headers=headers),
                )
            except CredentialRefused as refused:
                if last_chance or not await self._renewed(caller, refused):
                    raise
            except ChannelLost as lost:
                if last_chance or (lost.sent and not repeatable):
                    raise self._lost(lost) from lost
        raise AssertionError("the second round returns or raises")

    async def _told(self, credentials: Credentials | None, answer: Awaitable[Json]) -> Json:
        """An answer. Raises `CredentialRefused` where it is refused for what was told."""
        try:
            return await answer
        except Unauthorized as lost:
            if credentials is None:
                raise
            raise CredentialRefused(self.name, credentials, lost.challenge) from lost

    async def _renewed(self, caller: Caller, refused: CredentialRefused) -> bool:
        return self._personal is not None and await self._personal.renew(caller, refused)

    def _lost(self, lost: ChannelLost) -> DownstreamUnavailable:
        doubt = " The call may have run before the connection broke." if lost.sent else ""
        return DownstreamUnavailable(self.name, f"{lost}{doubt}")

    def _routing_headers(self, method: str, params: Json) -> dict[str, str]:
        """`Mcp-Name` and `Mcp-Param-*`: what a modern HTTP server compares with the body."""
        name = params.get("uri") if method.startswith("resources/") else params.get("name")
        if not isinstance(name, str):
            return {}
        headers = {"mcp-name": encode_header_value(name)}
        header_map = self._header_maps.get(name) if method == "tools/call" else None
        if header_map:
            headers.update(mcp_param_headers(header_map, params.get("arguments") or {}))
        return headers

    # -- subscriptions, levels, notifications -------------------------------------------------

    async def subscribe(self, uri: str, caller: Caller) -> str:
        """Have the server report on a resource. Raises like `request`."""
        if self._personal is not None and self._owner is None:
            raise InteractionRefused(
                self.name,
                f"The server {self.name!r} is told who calls, and what it reports on a resource "
                "cannot be kept apart. Read the resource again instead of subscribing to it.",
            )
        session, _ = await self._session_for(caller)
        try:
            await self._subscriptions.add(uri, caller.client.id, session)
        except ChannelLost as lost:
            raise self._lost(lost) from lost
        return session.audience

    async def unsubscribe(self, uri: str, caller: Caller) -> None:
        """End the reports on a resource for one client."""
        await self._subscriptions.remove(uri, caller.client.id, self._pool.sessions())

    async def set_level(self, caller: Caller, level: str) -> None:
        """Pass a client's log level on to the session it uses, if that is open."""
        _, session = self._open_session_of(caller.client)
        if session is not None:
            await session.set_level(caller.client, level)

    async def notify(self, method: str, params: Json | None, client: Client) -> None:
        """Pass a client's own notification on, where the session is that client's alone."""
        key, session = self._open_session_of(client)
        if session is not None and key.scope.startswith("client:"):
            await session.notify(method, params)

    def _open_session_of(self, client: Client) -> tuple[SessionKey, Session | None]:
        """The session that a client uses, if it is open and can be told without asking."""
        key, _ = self._sharing.for_client(client)
        if self._personal is not None:
            credentials = self._personal.known(client.principal)
            if credentials is None:
                return key, None
            key = replace(key, credentials=credentials.digest)
        supervisor = self._pool.find(key)
        return key, supervisor.ready_session if supervisor is not None else None

    def _updated(self, audience: str, inbound: Inbound) -> None:
        params = inbound.params or {}
        uri = params.get("uri")
        if isinstance(uri, str) and self.on_updated is not None:
            self.on_updated(audience, uri, params)

    # -- sessions -----------------------------------------------------------------------------

    async def _session_for(self, caller: Caller) -> tuple[Session, Credentials | None]:
        """The session that serves a caller, and what the server was told of it."""
        if self.config.disabled:
            raise DownstreamUnavailable(self.name, "it is disabled.")
        await self._runs.wait()  # a tool that is known from before can be called at once
        if self._has_stopped:
            raise DownstreamUnavailable(self.name, "it has just been replaced. Try again.")
        credentials = None
        if self._personal is not None:
            credentials = await self._personal.credentials(caller.client.principal, caller)
        key, identity = self._sharing.for_client(caller.client)
        if credentials is not None:
            key = replace(key, credentials=credentials.digest)
        supervisor = self._pool.find(key)
        if supervisor is None:
            idle = self.config.idle_timeout or self._settings.spare_idle_timeout
            owner = caller.standing if key.scope.startswith("client:") else None
            supervisor = self._open(key, identity, owner, credentials, idle_timeout=idle)
            if self._personal is not None and not self.is_connected:
                self._primary = supervisor
        try:
            return await supervisor.borrow(self._settings.connect_timeout), credentials
        except DownstreamUnavailable as error:
            cause = supervisor.last_failure and supervisor.last_failure.__cause__
            if credentials is not None and isinstance(cause, Unauthorized):
                raise CredentialRefused(self.name, credentials, cause.challenge) from error
            if not self._is_modern_only(key, supervisor):
                raise
        self._sharing.learn(Era.HANDSHAKE, Era.MODERN)
        await supervisor.stop()
        return await self._session_for(caller)

    def _is_modern_only(self, key: SessionKey, supervisor: Supervisor) -> bool:
        """Whether a server known to be modern has just refused the handshake."""
        refused = isinstance(supervisor.last_failure, NoCommonEra)
        return refused and key.era is Era.HANDSHAKE and self._sharing.is_modern()

    def _open(
        self,
        key: SessionKey,
        identity: Identity,
        owner: Caller | None,
        credentials: Credentials | None = None,
        *,
        is_primary: bool = False,
        eager: bool = False,
        idle_timeout: float | None,
    ) -> Supervisor:
        connect = self._connect
        if self._personal is not None and credentials is not None:
            connect = self._personal.told(credentials)

        def new_session() -> Session:
            return Session(
                self.config,
                connect,
                identity,
                self._settings,
                first=self._sharing.era_for(key.era),
                owner=owner,
                on_list_changed=self._lists.mark,
                on_updated=partial(self._updated, key.scope),
                subscriptions=partial(self._subscriptions.uris, key.scope),
                audience=key.scope,
            )

        return self._pool.add(
            key,
            new_session,
            eager=eager,
            transient=not is_primary,
            idle_timeout=idle_timeout,
            on_ready=lambda session: self._became_ready(key, session, is_primary=is_primary),
        )

    def _became_ready(self, key: SessionKey, session: Session, *, is_primary: bool) -> None:
        self._sharing.learn(key.era, session.era)
        if session.era is not key.era and (supervisor := self._pool.find(key)) is not None:
            self._pool.share(replace(key, era=session.era), supervisor)
        if self._personal is not None and self._lister() is session:
            self._primary = self._pool.find(key)
            is_primary = True
        if is_primary or not self._lists.known:
            self._lists.mark()
        self._subscriptions.renew(session)

    # -- lists --------------------------------------------------------------------------------

    def _lister(self) -> Session | None:
        """The session to ask for lists: the primary one, or any, while that is not open."""
        primary = self._primary.ready_session if self._primary is not None else None
        return primary or next(iter(self._pool.sessions()), None)

    def _take(self, listing: Listing) -> None:
        self._header_maps = {
            tool["name"]: header_map for tool in listing.tools if (header_map := _header_map(tool))
        }
        if self.on_change is not None:
            self.on_change(self)


def _header_map(tool: Any) -> Mapping[tuple[str, ...], str]:
    """Which arguments of a tool travel as headers too; none if its definition makes no sense."""
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        return {}
    schema = tool.get("inputSchema")
    return {} if find_invalid_x_mcp_header(schema) else x_mcp_header_map(schema)

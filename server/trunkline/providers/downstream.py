"""
A downstream server, or a plugin in this process, as a provider.

It keeps one session up that knows the lists (the primary one), opens further ones for the scopes,
eras and capabilities of the clients that call, and hands every request to the right one.

    request ─> Sharing: whose session? ─> SessionPool ─> Supervisor ─> Session ─> server
    list_changed ─> Lists ─> on_change ─> catalog
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
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
from trunkline.downstream.era import Identity, NoCommonEra
from trunkline.downstream.pool import SessionKey, SessionPool
from trunkline.downstream.session import Connect, Session
from trunkline.downstream.supervisor import Supervisor
from trunkline.errors import DownstreamUnavailable
from trunkline.models import Caller, Client, Era, Json, Listing, State, Status
from trunkline.providers.lists import Lists
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
        self.on_updated: Callable[[str, Json], None] | None = None
        """Called with the URI and the raw params of every `notifications/resources/updated`."""

        self._connect, self._settings, self._look = connect, settings, look
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
        return self._lists.listing

    @property
    def is_plugin(self) -> bool:
        """Whether it runs in this process."""
        return self.config.transport == "memory"

    @property
    def status(self) -> Status:
        if self.config.disabled:
            return Status(State.DISCONNECTED, "It is disabled.")
        if self._primary is None:
            return Status(State.DISCONNECTED, "It is not needed yet.")
        status = self._primary.status
        trouble = self._lists.trouble or self._complaint
        if status.state is State.CONNECTED and trouble is not None:
            return Status(State.DEGRADED, trouble, trouble)
        return status

    @property
    def settled(self) -> bool:
        """Whether the first attempt to connect and list is over, either way."""
        if self._primary is None:
            return self.config.disabled
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
        can_be_asked = not client.capabilities.keys().isdisjoint(EVERYTHING)
        return can_be_asked and self._sharing.era_for(client.era) is Era.HANDSHAKE

    def result_scope(self, client: Client) -> ResultScope | None:
        """Whom else a result of this client's is good for; None if for nobody, ever."""
        return self._sharing.result_scope(client)

    async def _send(self, method: str, params: Json, *, caller: Caller, repeatable: bool) -> Json:
        timeout = self.config.timeout or self._settings.call_timeout
        for last_chance in (False, True):
            session = await self._session_for(caller)
            headers = None
            if session.era is Era.MODERN:
                headers = self._routing_headers(method, params)
            try:
                return await session.request(
                    method, params, caller, timeout=timeout, headers=headers
                )
            except ChannelLost as lost:
                if last_chance or (lost.sent and not repeatable):
                    raise self._lost(lost) from lost
        raise AssertionError("the second round returns or raises")

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

    async def subscribe(self, uri: str, caller: Caller) -> None:
        """Have the server report on a resource. Raises like `request`."""
        session = await self._session_for(caller)
        try:
            await self._subscriptions.add(uri, caller.client.id, session)
        except ChannelLost as lost:
            raise self._lost(lost) from lost

    async def unsubscribe(self, uri: str, caller: Caller) -> None:
        """End the reports on a resource for one client."""
        await self._subscriptions.remove(uri, caller.client.id, self._pool.sessions())

    async def set_level(self, caller: Caller, level: str) -> None:
        """Pass a client's log level on to the session it uses, if that is open."""
        key, _ = self._sharing.for_client(caller.client)
        supervisor = self._pool.find(key)
        session = supervisor.ready_session if supervisor is not None else None
        if session is not None:
            await session.set_level(caller.client, level)

    async def notify(self, method: str, params: Json | None, client: Client) -> None:
        """Pass a client's own notification on, where the session is that client's alone."""
        key, _ = self._sharing.for_client(client)
        supervisor = self._pool.find(key) if key.scope.startswith("client:") else None
        session = supervisor.ready_session if supervisor is not None else None
        if session is not None:
            await session.notify(method, params)

    def _updated(self, inbound: Inbound) -> None:
        params = inbound.params or {}
        uri = params.get("uri")
        if isinstance(uri, str) and self.on_updated is not None:
            self.on_updated(uri, params)

    # -- sessions -----------------------------------------------------------------------------

    async def _session_for(self, caller: Caller) -> Session:
        if self.config.disabled:
            raise DownstreamUnavailable(self.name, "it is disabled.")
        await self._runs.wait()  # a tool that is known from before can be called at once
        if self._has_stopped:
            raise DownstreamUnavailable(self.name, "it has just been replaced. Try again.")
        key, identity = self._sharing.for_client(caller.client)
        supervisor = self._pool.find(key)
        if supervisor is None:
            idle = self.config.idle_timeout or self._settings.spare_idle_timeout
            owner = caller.standing if key.scope.startswith("client:") else None
            supervisor = self._open(key, identity, owner, idle_timeout=idle)
        try:
            return await supervisor.borrow(self._settings.connect_timeout)
        except DownstreamUnavailable:
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
        *,
        is_primary: bool = False,
        eager: bool = False,
        idle_timeout: float | None,
    ) -> Supervisor:
        def new_session() -> Session:
            return Session(
                self.config,
                self._connect,
                identity,
                self._settings,
                first=self._sharing.era_for(key.era),
                owner=owner,
                on_list_changed=self._lists.mark,
                on_updated=self._updated,
                subscriptions=self._subscriptions.uris,
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
            self._pool.share(SessionKey(key.scope, session.era, key.capabilities), supervisor)
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

"""
A downstream server, or a plugin in this process, as a provider.

It keeps one session up that knows the lists (the primary one), opens further ones for the scopes,
eras and capabilities of the clients that call, and hands every request to the right one.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Self

import structlog
from mcp.shared.inbound import (
    encode_header_value,
    find_invalid_x_mcp_header,
    mcp_param_headers,
    x_mcp_header_map,
)

from trunkline import __version__
from trunkline.downstream.channel import ChannelLost, Inbound
from trunkline.downstream.config import ServerConfig, ToolRules
from trunkline.downstream.era import Identity, NoCommonEra
from trunkline.downstream.pool import SessionKey, SessionPool
from trunkline.downstream.session import Connect, Session
from trunkline.downstream.supervisor import Supervisor
from trunkline.errors import DownstreamError, DownstreamUnavailable, RpcError
from trunkline.models import KINDS, Caller, Client, Era, Json, Kind, Listing, State, Status
from trunkline.providers.listing import fetch
from trunkline.providers.rounds import complete, is_input_required
from trunkline.settings import DownstreamSettings
from trunkline.wire import encode

log = structlog.get_logger(__name__)

EVERYTHING: Final[Json] = {
    "roots": {"listChanged": True},
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
}
"""What a shared session declares: all that some client may be able to do. A client that cannot is
asked nothing; the server gets the error that client would have given."""

OURSELVES: Final[Json] = {"name": "trunkline", "title": "Trunkline", "version": __version__}

SETTLE: Final = 0.05
"""Seconds in which further list_changed notifications are taken together."""

LIST_AGAIN: Final = 5.0
"""Seconds after which a list that failed is asked for again."""


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
        look: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        """
        *known* is what it offered when it was last seen; served until it has answered. *look* asks
        its health page what it complains of.
        """
        self.config = config
        self.listing = known
        self.on_change: Callable[[DownstreamProvider], None] | None = None
        self.on_updated: Callable[[str, Json], None] | None = None
        """Called with the URI and the raw params of every `notifications/resources/updated`."""

        self._connect, self._settings = connect, settings
        self._pool = SessionPool(config, settings, gate)
        self._owner: Caller | None = None
        self._primary: Supervisor | None = None
        self._eras: dict[Era, Era] = {}
        """Preferred era -> the one the server turned out to speak."""

        self._stale: set[Kind] = set()
        self._refresh = asyncio.Event()
        self._under_way = 0
        """Requests that have not ended."""

        self._quiet = asyncio.Event()
        self._quiet.set()
        self._list_error: str | None = None
        self._complaint: str | None = None
        self._look = look
        self._runs = asyncio.Event()
        self._learned = known is not None
        self._fetching = False
        self._failing: frozenset[Kind] = frozenset()
        self._wanted: dict[str, set[str]] = {}
        """Resource URI -> ids of the clients that subscribed to it."""

        self._header_maps: dict[str, Mapping[tuple[str, ...], str]] = {}

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
    def is_plugin(self) -> bool:
        """Whether it runs in this process."""
        return self.config.transport == "memory"

    @property
    def status(self) -> Status:
        if self.config.disabled:
            return Status(State.DISCONNECTED, "It is disabled in mcp.json.")
        if self._primary is None:
            return Status(State.DISCONNECTED, "It is not needed yet.")
        status = self._primary.status
        trouble = self._list_error or self._complaint
        if status.state is State.CONNECTED and trouble is not None:
            return Status(State.DEGRADED, trouble, trouble)
        return status

    @property
    def settled(self) -> bool:
        """Whether the first attempt to connect and list is over, either way."""
        state = self.status.state
        if state is State.CONNECTED:
            return self._learned and not self._fetching and not self._stale - self._failing
        return state is not State.CONNECTING

    # -- life ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Self]:
        """Own the sessions; leaving closes them all."""
        async with self._pool.open(), asyncio.TaskGroup() as tasks:
            self._runs.set()
            keeping = [tasks.create_task(self._keep_lists())]
            if self._look is not None:
                keeping.append(tasks.create_task(self._keep_looking(self._look)))
            try:
                yield self
            finally:
                for task in keeping:
                    task.cancel()

    def start(self, owner: Caller | None) -> None:
        """
        Open the primary session, or be ready to. *owner* is the one client there will ever be
        (stdio), None when there may be many.
        """
        if self.config.disabled or self._primary is not None:
            return
        self._owner = owner
        key, identity = self._primary_key()
        eager = not self.config.lazy or self.listing is None
        idle = self.config.idle_timeout
        if self.config.lazy and idle is None:
            idle = self._settings.spare_idle_timeout
        self._primary = self._open(
            key, identity, owner, is_primary=True, eager=eager, idle_timeout=idle
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
        for uri in [uri for uri, ids in self._wanted.items() if client_id in ids]:
            await self._unfollow(uri, client_id)
        for session in self._pool.sessions():
            session.forget(client_id)
        if self._owner is None:
            await self._pool.end(f"client:{client_id}")

    async def _keep_looking(self, look: Callable[[], Awaitable[str | None]]) -> None:
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
        return self._era_for(client) is Era.HANDSHAKE and not client.capabilities.keys().isdisjoint(
            EVERYTHING
        )

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
        headers = {"mcp-name": encode_header_value(name)} if isinstance(name, str) else {}
        if (
            method == "tools/call"
            and isinstance(name, str)
            and (header_map := self._header_maps.get(name))
        ):
            headers.update(mcp_param_headers(header_map, params.get("arguments") or {}))
        return headers

    # -- subscriptions, levels, notifications -------------------------------------------------

    async def subscribe(self, uri: str, caller: Caller) -> None:
        """Have the server report on a resource. Raises like `request`."""
        ids = self._wanted.setdefault(uri, set())
        first = not ids
        ids.add(caller.client.id)
        if first:
            try:
                session = await self._session_for(caller)
                await session.follow(uri, wanted=True)
            except (ChannelLost, RpcError, DownstreamError) as error:
                self._wanted.pop(uri, None)
                raise self._lost(error) if isinstance(error, ChannelLost) else error from error
            except asyncio.CancelledError:
                self._wanted.pop(uri, None)  # the next who wants it must be the first again
                raise

    async def unsubscribe(self, uri: str, caller: Caller) -> None:
        """End the reports on a resource for one client."""
        await self._unfollow(uri, caller.client.id)

    async def _unfollow(self, uri: str, client_id: str) -> None:
        ids = self._wanted.get(uri, set())
        ids.discard(client_id)
        if ids:
            return
        self._wanted.pop(uri, None)
        for session in self._pool.sessions():
            try:
                await session.follow(uri, wanted=False)
            except (ChannelLost, RpcError, DownstreamError) as error:
                log.info("unsubscribe.failed", server=self.name, error=str(error))

    async def set_level(self, caller: Caller, level: str) -> None:
        """Pass a client's log level on to the session it uses, if that is open."""
        key, _ = self._key_for(caller.client)
        supervisor = self._pool.find(key)
        session = supervisor.ready_session if supervisor is not None else None
        if session is not None:
            await session.set_level(caller.client, level)

    async def notify(self, method: str, params: Json | None, client: Client) -> None:
        """Pass a client's own notification on, where the session is that client's alone."""
        if self._owner is None and self.config.sharing != "client":
            return
        for session in self._pool.sessions():
            if self._owner is not None or session.identity.info == client.info:
                await session.notify(method, params)

    # -- sessions -----------------------------------------------------------------------------

    async def _session_for(self, caller: Caller) -> Session:
        if self.config.disabled:
            raise DownstreamUnavailable(self.name, "it is disabled in mcp.json.")
        await self._runs.wait()  # a tool that is known from before can be called at once
        key, identity = self._key_for(caller.client)
        supervisor = self._pool.find(key)
        if supervisor is None:
            idle = self.config.idle_timeout or self._settings.spare_idle_timeout
            owner = caller if key.scope.startswith("client:") else None
            supervisor = self._open(key, identity, owner, idle_timeout=idle)
        try:
            return await supervisor.borrow(self._settings.connect_timeout)
        except DownstreamUnavailable:
            if not self._is_modern_only(key, supervisor):
                raise
        self._eras[Era.HANDSHAKE] = Era.MODERN
        await supervisor.stop()
        return await self._session_for(caller)

    def _is_modern_only(self, key: SessionKey, supervisor: Supervisor) -> bool:
        """Whether a server known to be modern has just refused the handshake."""
        return (
            key.era is Era.HANDSHAKE
            and self._eras.get(Era.MODERN) is Era.MODERN
            and isinstance(supervisor.last_failure, NoCommonEra)
        )

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
                first=self._eras.get(key.era, key.era),
                owner=owner,
                on_list_changed=self._list_changed,
                on_updated=self._updated,
                subscriptions=lambda: frozenset(self._wanted),
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
        self._eras[key.era] = session.era
        if key.era is Era.MODERN and session.era is Era.HANDSHAKE:
            self._eras[Era.HANDSHAKE] = Era.HANDSHAKE
        if session.era is not key.era and (supervisor := self._pool.find(key)) is not None:
            actual = SessionKey(key.scope, session.era, key.capabilities)
            self._pool.share(actual, supervisor)
        if is_primary or not self._learned:
            self._stale.update(KINDS)
            self._refresh.set()
        if self._wanted and session.era is Era.HANDSHAKE:
            session.channel.spawn(self._follow_again(session))

    async def _follow_again(self, session: Session) -> None:
        """Renew the subscriptions on a session that has been opened anew."""
        for uri in list(self._wanted):
            try:
                await session.follow(uri, wanted=True)
            except (ChannelLost, RpcError, DownstreamError) as error:
                log.info("subscribe.failed", server=self.name, error=str(error))

    def _era_for(self, client: Client) -> Era:
        return self._eras.get(client.era, client.era)

    def _primary_key(self) -> tuple[SessionKey, Identity]:
        if self._owner is not None:
            return self._key_for(self._owner.client)
        identity = Identity(info=OURSELVES, capabilities=EVERYTHING)
        scope = f"org:{self.config.org or ''}" if self.config.sharing == "org" else "global"
        return SessionKey(scope, Era.MODERN, _canonical(EVERYTHING)), identity

    def _key_for(self, client: Client) -> tuple[SessionKey, Identity]:
        """
        Which session serves a client, and what its server is told of the client.

        Over HTTP a session costs a request, so each set of capabilities has its own and is told
        the truth. A stdio session costs a process: it is shared by all clients of its scope.
        """
        era = self._era_for(client)
        sharing = "client" if self._owner is not None else self.config.sharing
        if era is Era.MODERN and sharing == "client" and self._owner is None:
            sharing = "user"  # modern requests stand alone: there is no session to keep apart
        if sharing == "client":
            scope = "client:owner" if self._owner is not None else f"client:{client.id}"
            identity = Identity(info=client.info or OURSELVES, capabilities=client.capabilities)
        else:
            scope = {
                "global": "global",
                "org": f"org:{client.org or ''}",
                "user": f"user:{client.org or ''}:{client.user or _nobody(client, era)}",
            }[sharing]
            everything = self.config.transport == "stdio" and sharing != "user"
            told = EVERYTHING if everything or era is Era.MODERN else client.capabilities
            identity = Identity(info=OURSELVES, capabilities=told)
        return SessionKey(scope, era, _canonical(identity.capabilities)), identity

    # -- lists --------------------------------------------------------------------------------

    def _list_changed(self, kind: Kind) -> None:
        self._stale.add(kind)
        self._refresh.set()

    def _updated(self, inbound: Inbound) -> None:
        params = inbound.params or {}
        uri = params.get("uri")
        if isinstance(uri, str) and self.on_updated is not None:
            self.on_updated(uri, params)

    async def _keep_lists(self) -> None:
        """Fetch what has changed, as soon as there is a session to ask."""
        while True:
            await self._refresh.wait()
            if self._learned:
                await asyncio.sleep(SETTLE)
            self._refresh.clear()
            session = self._lister()
            if session is None:
                continue  # the next session that becomes ready starts this again
            stale = frozenset(self._stale)
            self._stale.clear()
            self._fetching = True
            try:
                fetched = await fetch(
                    session, stale, self.listing, timeout=self._settings.list_timeout
                )
            except ChannelLost as lost:
                self._stale |= stale
                log.info("list.interrupted", server=self.name, reason=str(lost))
                continue  # the next session lists everything
            finally:
                self._fetching = False
            self._learned = True
            self._note_failures(fetched.failures)
            try:
                self._take(fetched.listing)
            except Exception:  # the border of one server: what it lists must not end the others
                self._list_error = "What it lists could not be understood."
                log.exception("list.crashed", server=self.name)

    def _note_failures(self, failures: Mapping[Kind, str]) -> None:
        error = "; ".join(failures.values()) or None
        if error is not None and error != self._list_error:
            log.warning("list.failed", server=self.name, reason=error)
        self._list_error, self._failing = error, frozenset(failures)
        if failures:
            self._stale.update(failures)
            self._try_again_later()

    def _try_again_later(self) -> None:
        asyncio.get_running_loop().call_later(LIST_AGAIN, self._refresh.set)

    def _lister(self) -> Session | None:
        primary = self._primary.ready_session if self._primary is not None else None
        return primary or next(iter(self._pool.sessions()), None)

    def _take(self, listing: Listing) -> None:
        if listing == self.listing:
            return
        self.listing = listing
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


def _nobody(client: Client, era: Era) -> str:
    """Who an unknown user is: the client itself, where there is a session to keep apart."""
    return client.id if era is Era.HANDSHAKE else ""


def _canonical(value: Any) -> str:
    return encode(_sorted(value)).decode()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value

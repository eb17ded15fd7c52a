"""
One live connection to one server, owned by one task.

A transport holds cancel scopes, and those must be left in the task that entered them. So `run`
opens the channel, greets, waits and closes, always in the same fresh task; everyone else only
borrows the session for a request.

    supervisor ── run() ──┬── connect ── greet ── ready ── wait for the end ── close
    request A ────────────┴── request() ──┘

What the server says on its own account goes back to the client whose request caused it. Where the
transport cannot tell (stdio, SSE) and requests of several clients are in flight, it is refused with
a reason, never guessed.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Final

import structlog

from trunkline.downstream.channel import Channel, ChannelLost, Inbound
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.era import Greeting, Identity, envelope, greet, modern_headers
from trunkline.downstream.levels import Levels, level_of, wants
from trunkline.downstream.listening import ACKNOWLEDGED, Listening
from trunkline.downstream.questions import Call, Questions
from trunkline.errors import DownstreamError, DownstreamTimeout, DownstreamUnavailable, RpcError
from trunkline.models import Caller, Client, Era, Json, Kind
from trunkline.settings import DownstreamSettings
from trunkline.wire import (
    ENVELOPE_KEYS,
    META_LOG_LEVEL,
    MISSING_CLIENT_CAPABILITY,
)

log = structlog.get_logger(__name__)

Connect = Callable[[], AbstractAsyncContextManager[Channel]]
"""Opens a fresh channel to the server."""

LIST_CHANGED: Final[Mapping[str, tuple[Kind, ...]]] = {
    "notifications/tools/list_changed": ("tools",),
    "notifications/prompts/list_changed": ("prompts",),
    "notifications/resources/list_changed": ("resources", "templates"),
}


class Session:
    """One incarnation of a connection. Never reused after it has ended."""

    def __init__(
        self,
        config: ServerConfig,
        connect: Connect,
        identity: Identity,
        settings: DownstreamSettings,
        *,
        first: Era,
        owner: Caller | None = None,
        on_list_changed: Callable[[Kind], None] | None = None,
        on_updated: Callable[[Inbound], None] | None = None,
        subscriptions: Callable[[], frozenset[str]] = frozenset,
        audience: str = "",
    ) -> None:
        """
        *identity* is what the server is told of its client. *owner*, if this session belongs to
        one client alone, is asked what the server wants to know outside of any request.
        *subscriptions* tells which resource URIs the server is to report on. *audience* names
        whoever shares this session: what the server reports on it is for nobody else.
        """
        self.config, self.audience = config, audience
        self.identity = identity
        self.settled = asyncio.Event()
        """Set when the session has become ready, or never will."""

        self.ready_since: float | None = None
        """Loop time at which it became ready; None if it never did."""

        self.failure: BaseException | None = None
        """Why it ended or never began; None after `close`."""

        self.last_used = asyncio.get_running_loop().time()
        self._connect, self._settings, self._first, self._owner = connect, settings, first, owner
        self._on_list_changed, self._on_updated = on_list_changed, on_updated
        self._subscriptions = subscriptions
        self._channel: Channel | None = None
        self._greeting: Greeting | None = None
        self._closing = False
        self._own_requests = 0
        self._questions: Questions | None = None
        self._listening: Listening | None = None
        self.levels = Levels(
            self._send_level, lambda: (call.caller for call in self.questions.calls)
        )

    # -- life ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """
        Hold the connection from opening to end. Never raises: `failure` says what went wrong.

        Start it in a task of its own and wait for `settled`.
        """
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._settings.connect_timeout):
                    channel = await stack.enter_async_context(self._connect())
                    self._channel = channel
                    self._questions = Questions(self.config.name, channel, self._owner)
                    channel.on_stray = self._stray
                    self._greeting = await greet(channel, self.identity, self._first)
                if self.era is Era.MODERN:
                    self._listen(channel)
                self.ready_since = asyncio.get_running_loop().time()
                self.settled.set()
                await channel.closed.wait()
                if not self._closing:
                    self.failure = DownstreamUnavailable(self.config.name, channel.reason)
        except TimeoutError:
            self.failure = DownstreamTimeout(
                self.config.name, self._settings.connect_timeout, doing="start and initialize"
            )
        except (ChannelLost, RpcError, OSError) as error:
            self.failure = DownstreamUnavailable(self.config.name, str(error))
            self.failure.__cause__ = error
        except DownstreamError as error:
            self.failure = error
        except Exception as error:  # the border of one session: the others live on
            self.failure = error
            log.exception("session.crashed", server=self.config.name)
        finally:
            self.settled.set()

    def _listen(self, channel: Channel) -> None:
        self._listening = Listening(
            channel,
            self.identity,
            self.greeting.capabilities,
            self._subscriptions,
            self._announced,
        )
        channel.spawn(self._listening.run())

    def close(self) -> None:
        """
        End the connection; requests in flight fail. The owner task ends when all is released.

        A session that is not ready yet is ended by cancelling its task.
        """
        self._closing = True
        if self._channel is not None:
            self._channel.lose("Trunkline closed the connection.")

    @property
    def is_ready(self) -> bool:
        return self.ready_since is not None and not self.channel.closed.is_set()

    @property
    def busy(self) -> bool:
        """Whether a request is in flight, a client's or our own."""
        return bool(self.questions.calls) or self._own_requests > 0

    @property
    def greeting(self) -> Greeting:
        assert self._greeting is not None, "only a session that is ready is lent"
        return self._greeting

    @property
    def era(self) -> Era:
        return self.greeting.era

    @property
    def channel(self) -> Channel:
        assert self._channel is not None, "only a session that is ready is lent"
        return self._channel

    @property
    def questions(self) -> Questions:
        assert self._questions is not None, "only a session that is ready is lent"
        return self._questions

    # -- requests -----------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        params: Json,
        caller: Caller,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """
        Carry one client request and return the raw result. *timeout* is in seconds of silence:
        progress and questions to the client restart it.

        Raises `RpcError`, `DownstreamTimeout`, or `ChannelLost`.
        """
        meta = dict(params.get("_meta") or {})
        token = meta.pop("progressToken", None)
        await self.levels.follow(caller)
        call = Call(caller, self.channel.new_exchange(method), token, timeout)
        params, headers = self._address(method, params, meta, caller, headers)
        self.last_used = asyncio.get_running_loop().time()
        self.questions.calls[call] = None
        try:
            async with asyncio.timeout(timeout) as call.clock:
                return await self.channel.request(
                    method,
                    params,
                    exchange=call.exchange,
                    on_inbound=partial(self._arrived, call),
                    headers=headers,
                    progress=token is not None,
                )
        except TimeoutError:
            raise DownstreamTimeout(self.config.name, timeout) from None
        except RpcError as error:
            if call.missing and caller.client.era is Era.MODERN:
                raise _missing_capability(call.missing) from error
            raise
        finally:
            call.clock = None
            self.questions.ended(call)
            self.last_used = asyncio.get_running_loop().time()

    async def own_request(self, method: str, params: Json | None, *, timeout: float) -> Json:
        """A request on Trunkline's own account: a list, a probe, a subscription."""
        headers: Mapping[str, str] | None = None
        if self.era is Era.MODERN:
            params = {**(params or {}), "_meta": envelope(self.identity)}
            headers = modern_headers(method)
        self._own_requests += 1
        try:
            async with asyncio.timeout(timeout):
                return await self.channel.request(method, params, headers=headers)
        except TimeoutError:
            raise DownstreamTimeout(self.config.name, timeout, doing=f"answer {method}") from None
        finally:
            self._own_requests -= 1

    async def probe(self) -> None:
        """See whether the server still answers. Raises like `own_request`."""
        method = "server/discover" if self.era is Era.MODERN else "ping"
        try:
            await self.own_request(method, None, timeout=self._settings.probe_timeout)
        except RpcError:
            pass  # an error is an answer

    async def notify(self, method: str, params: Json | None) -> None:
        """Pass on a client's notification. One that cannot be delivered is nobody's loss."""
        try:
            await self.channel.notify(method, params)
        except ChannelLost:
            pass

    def _address(
        self,
        method: str,
        params: Json,
        meta: Json,
        caller: Caller,
        headers: Mapping[str, str] | None,
    ) -> tuple[Json, Mapping[str, str] | None]:
        """Put the request into the era of this server: the envelope on, or off."""
        for key in ENVELOPE_KEYS:
            meta.pop(key, None)
        if self.era is Era.MODERN:
            client = caller.client
            told = Identity(
                info=client.info or self.identity.info, capabilities=client.capabilities
            )
            meta.update(envelope(told))
            if (level := level_of(caller)) is not None:
                meta[META_LOG_LEVEL] = level
            headers = {**modern_headers(method), **(headers or {})}
        if meta:
            return {**params, "_meta": meta}, headers
        if "_meta" in params:
            return {key: value for key, value in params.items() if key != "_meta"}, headers
        return params, headers

    # -- what the server says -----------------------------------------------------------------

    async def _arrived(self, call: Call, inbound: Inbound) -> None:
        """Something came for a request in flight. Runs in that request's own task, in order."""
        if inbound.id is not None:
            self.questions.asked_by(call, inbound)
        elif inbound.method == "notifications/progress":
            call.touch()
            if call.token is not None:
                told = {**(inbound.params or {}), "progressToken": call.token}
                await call.caller.tell(inbound.method, told)
        elif inbound.method == "notifications/message":
            call.touch()
            if wants(call.caller, (inbound.params or {}).get("level")):
                await call.caller.tell(inbound.method, inbound.params)
        elif not self._announced(inbound):
            await call.caller.tell(inbound.method, inbound.params)

    def _stray(self, inbound: Inbound) -> None:
        """Something came that the transport cannot relate to a request."""
        if inbound.id is not None:
            self.questions.asked(inbound)
        elif not self._announced(inbound):
            calls = self.questions.only_client()
            if calls:
                # Behind what came before it and ahead of the answer, as it stood on the wire.
                waiting = (call for call in reversed(calls) if not call.exchange.settled)
                next(waiting, calls[-1]).exchange.put(inbound)
            elif inbound.method == "notifications/message" and self._owner is not None:
                self.channel.spawn(self._tell_owner(self._owner, inbound))

    def _announced(self, inbound: Inbound) -> bool:
        """Handle what concerns the whole session; False if it is about a single request."""
        if inbound.method in LIST_CHANGED:
            if self._on_list_changed is not None:
                for kind in LIST_CHANGED[inbound.method]:
                    self._on_list_changed(kind)
        elif inbound.method == "notifications/resources/updated":
            if self._on_updated is not None:
                self._on_updated(inbound)
        elif inbound.method == "notifications/cancelled":
            self.questions.withdraw((inbound.params or {}).get("requestId"))
        elif inbound.method == ACKNOWLEDGED:
            if self._listening is not None:
                self._listening.hear(inbound)
        else:
            return False
        return True

    async def _tell_owner(self, owner: Caller, inbound: Inbound) -> None:
        if wants(owner, (inbound.params or {}).get("level")):
            await owner.tell(inbound.method, inbound.params)

    # -- subscriptions and log levels ---------------------------------------------------------

    async def follow(self, uri: str, *, wanted: bool) -> None:
        """Start or end reports on one resource, after `subscriptions` has changed."""
        if self._listening is not None:
            await self._listening.change(patience=self._settings.probe_timeout)
            return
        method = "resources/subscribe" if wanted else "resources/unsubscribe"
        await self.own_request(method, {"uri": uri}, timeout=self._settings.call_timeout)

    async def set_level(self, client: Client, level: str) -> None:
        """Note the level a client wants, and have the server send the lowest that is wanted."""
        await self.levels.choose(client, level)

    def forget(self, client_id: str) -> None:
        """A client has left."""
        self.levels.forget(client_id)

    async def _send_level(self, level: str) -> None:
        if self.era is Era.MODERN or "logging" not in self.greeting.capabilities:
            return
        try:
            await self.own_request(
                "logging/setLevel", {"level": level}, timeout=self._settings.probe_timeout
            )
        except (RpcError, DownstreamTimeout, ChannelLost) as error:
            log.info("level.not_set", server=self.config.name, error=str(error))


def _missing_capability(missing: Json) -> RpcError:
    """What a modern client hears when a server needed what it cannot do (2026-07-28, -32021)."""
    names = " and ".join(sorted(missing))
    return RpcError(
        MISSING_CLIENT_CAPABILITY,
        f"This request needs a client that declares {names}.",
        {"requiredCapabilities": missing},
    )

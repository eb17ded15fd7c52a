"""
The streamable HTTP transport: a POST for every message, a stream where the server wants one.

    request ──> POST ──┬─ JSON ────> the answer, read at once, without a task       (the hot path)
                       └─ events ──> a reader task ──> what belongs to this request, then its answer
    handshake era: a GET stream for what belongs to no request

The handshake era names a session in a header and resumes a stream that broke off, if its events
had ids (SEP-1699). The modern era has neither: closing a response is how a request is cancelled.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final

import aiohttp

from trunkline.downstream.channel import Channel, ChannelLost, Exchange, SessionGone
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.http import DELIVERY_TIMEOUT, Body, Endpoint, HttpClient, Unreachable
from trunkline.downstream.responses import (
    EVENTS_TYPE,
    JSON_TYPE,
    drain,
    is_gone,
    media_type,
    read_body,
    read_chunk,
    read_json,
    read_refusal,
    refusal,
    says_session_not_found,
    wrong_type,
)
from trunkline.downstream.sse_events import LONGEST_PAUSE, EventParser
from trunkline.downstream.tasks import Spawn, finish, open_tasks
from trunkline.models import Era, Json
from trunkline.settings import DownstreamSettings
from trunkline.wire import encode

GOODBYE_TIMEOUT: Final = 2.0
"""Seconds the server has to take note that the session is over."""

RESUME_TRIES: Final = 5
"""How often in a row a stream is resumed without bringing anything."""


@asynccontextmanager
async def open_streamable_http(
    config: ServerConfig, settings: DownstreamSettings, client: HttpClient
) -> AsyncGenerator[Channel]:
    """
    A channel to the server at `config.url`. Nothing is sent before the first message.

    Raises `DownstreamUnavailable` when the configuration cannot be used.
    """
    endpoint = await client.endpoint(config)
    async with open_tasks() as spawn:
        channel = StreamableHttpChannel(config.name, spawn, endpoint)
        try:
            yield channel
        finally:
            channel.lose("Trunkline closed the connection.")
            await finish(channel.end_session())


class StreamableHttpChannel(Channel):
    """One session with a streamable HTTP server."""

    tells_origin: ClassVar[bool] = True

    def __init__(self, server: str, spawn: Spawn, endpoint: Endpoint) -> None:
        super().__init__(server, spawn)
        self._spawn, self._endpoint = spawn, endpoint
        self._era: Era | None = None
        self._session_id: str | None = None
        self._headers: Mapping[str, str] = {}
        self._headers_for: tuple[str | None, str | None] | None = None
        self._clocks: set[asyncio.Timeout] = set()
        """One for each request that waits for its response; `lose` lets them run out."""

    async def ready(self, era: Era) -> None:
        self._era = era
        if era is Era.HANDSHAKE:
            self._spawn(self._listen())

    def lose(self, reason: str, *, gone: bool = False) -> None:
        if self.closed.is_set():
            return
        super().lose(reason, gone=gone)
        if gone:
            self._session_id = None
        now = asyncio.get_running_loop().time()
        for clock in self._clocks:
            if not clock.expired():
                clock.reschedule(now)

    async def end_session(self) -> None:
        """Tell the server that we do not come back. It may know that already, or not care."""
        if self._session_id is None:
            return
        try:
            async with asyncio.timeout(GOODBYE_TIMEOUT):
                await drain(await self._endpoint.send("DELETE", self._header_set({})))
        except (ChannelLost, TimeoutError):
            pass

    # -- sending ------------------------------------------------------------------------------

    async def _send(
        self, message: Json, exchange: Exchange | None, headers: Mapping[str, str]
    ) -> None:
        if self.closed.is_set():
            raise ChannelLost(self.reason, sent=False)
        clock = asyncio.timeout(DELIVERY_TIMEOUT if exchange is None else None)
        try:
            async with clock:
                self._clocks.add(clock)
                response = await self._post(message, exchange, headers)
                try:
                    await self._sort(response, exchange)
                except BaseException:
                    response.close()
                    raise
        except TimeoutError:
            if exchange is None:
                reason = self.reason or f"it took no message for {DELIVERY_TIMEOUT:g} seconds."
                raise ChannelLost(reason, sent=True) from None
            # The connection was lost meanwhile, and the reason waits in the inbox.
        finally:
            self._clocks.discard(clock)

    async def _post(
        self, message: Json, exchange: Exchange | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        body = Body(encode(message), on_leaving=None if exchange is None else exchange.mark_sent)
        try:
            response = await self._endpoint.send("POST", self._header_set(headers), body)
        except Unreachable as error:
            self.lose(str(error))
            raise
        if exchange is not None and exchange.method == "initialize" and response.status == 200:
            self._session_id = response.headers.get("Mcp-Session-Id")
        return response

    def _header_set(self, extra: Mapping[str, str]) -> Mapping[str, str]:
        """The headers of one request: the configured, then the transport's, then its own."""
        current = (self._session_id, self.protocol_version)
        if current != self._headers_for:
            session_id, version = self._headers_for = current
            headers = dict(self._endpoint.headers)
            headers |= {"content-type": JSON_TYPE, "accept": f"{JSON_TYPE}, {EVENTS_TYPE}"}
            if session_id is not None:
                headers["mcp-session-id"] = session_id
            if version is not None:
                headers["mcp-protocol-version"] = version
            self._headers = headers
        if not extra:
            return self._headers
        return {**self._headers, **{name.lower(): value for name, value in extra.items()}}

    # -- the response -------------------------------------------------------------------------

    async def _sort(self, response: aiohttp.ClientResponse, exchange: Exchange | None) -> None:
        """Take a response for what its status and type say it is."""
        if response.status >= 300:
            await self._refused(response, exchange)
        elif exchange is None:
            await drain(response)
        elif (kind := media_type(response)) == JSON_TYPE or kind.endswith("+json"):
            self._take_json(response, await read_body(response), exchange)
        elif kind == EVENTS_TYPE:
            self._start_reader(response, exchange)
        elif await read_chunk(response):
            raise wrong_type(self._endpoint, response)
        else:
            raise ChannelLost(
                f"it took the request ({response.status}) but gave no answer.", sent=True
            )

    def _take_json(self, response: aiohttp.ClientResponse, body: bytes, exchange: Exchange) -> None:
        try:
            message = read_json(response, body)
        except ValueError as error:
            what = "an answer that is no valid JSON" if body.strip() else "an empty answer"
            raise ChannelLost(f"it sent {what}.", sent=True) from error
        self._take(message, exchange)
        if not exchange.settled:
            raise ChannelLost("it sent something that does not answer the request.", sent=True)

    def _take(self, message: Any, exchange: Exchange | None) -> None:
        """Receive what came on the response to *exchange*, or on the stream of nobody's."""
        if isinstance(message, list):  # a batch, which 2025-03-26 allows
            for item in message:
                self._take(item, exchange)
            return
        if exchange is not None and isinstance(message, dict) and "error" in message:
            error = message["error"]
            if message.get("id") is None:
                message["id"] = exchange.id  # it could not read the id, and there is no other
            if self._session_id is not None and says_session_not_found(error):
                self.lose("it has forgotten our session.", gone=True)
                return
        self.receive(message, None if exchange is None else exchange.id)

    async def _refused(self, response: aiohttp.ClientResponse, exchange: Exchange | None) -> None:
        """A status that is no success: the server's own error, a lost session, or a complaint."""
        text, error = await read_refusal(response)
        complaint = refusal(self._endpoint, response, text)
        if response.status == 401:
            self.lose(str(complaint))
            raise complaint
        if self._session_id is not None and is_gone(response.status, text, error):
            self.lose("it has forgotten our session.", gone=True)
            raise SessionGone(self.reason)
        if error is None or exchange is None or response.status in (429, 503):
            raise complaint
        answer = {"jsonrpc": "2.0", "id": exchange.id, "error": error}
        self.receive(answer, exchange.id)

    # -- streams ------------------------------------------------------------------------------

    def _start_reader(self, response: aiohttp.ClientResponse, exchange: Exchange) -> None:
        task = self._spawn(self._read_answer(response, exchange))
        if task is None:
            response.close()
            return

        def stop() -> None:
            task.cancel()

        exchange.stop_reading = stop
        # A task that is cancelled before its first step never reaches its own clean-up.
        task.add_done_callback(lambda _: response.close())

    async def _read_answer(self, first: aiohttp.ClientResponse, exchange: Exchange) -> None:
        """Read the stream of one request until its answer, and resume it if it breaks off."""
        parser = EventParser()
        response: aiohttp.ClientResponse | None = first
        barren = 0
        while True:
            heard = False
            if response is not None:
                try:
                    heard = await self._follow(response, parser, exchange)
                except ValueError as error:
                    self.fail(exchange, ChannelLost(str(error), sent=True))
                    return
            if exchange.settled or exchange.id not in self.pending:
                return
            barren = 0 if heard else barren + 1
            resumable = self._era is not Era.MODERN and parser.last_id is not None
            if not resumable or barren > RESUME_TRIES:
                self.fail(exchange, ChannelLost("its answer broke off.", sent=True))
                return
            await asyncio.sleep(parser.pause)
            response = await self._reopen(parser)

    async def _follow(
        self, response: aiohttp.ClientResponse, parser: EventParser, exchange: Exchange | None
    ) -> bool:
        """Receive a stream to its end or to the answer; tell whether anything came."""
        heard = False
        parser.restart()
        try:
            while chunk := await read_chunk(response):
                heard = True
                for event in parser.feed(chunk):
                    if event.type == "message":
                        self._take(event.message(), exchange)
                if exchange is not None and exchange.settled:
                    await drain(response)
                    break
        finally:
            response.close()
        return heard

    async def _reopen(self, parser: EventParser) -> aiohttp.ClientResponse | None:
        """A stream by GET that continues after the last event; None if there is none now."""
        response = await self._get(parser)
        if response is None or response.status == 200:
            return response
        if await self._is_over(response):
            self.lose("it has forgotten our session.", gone=True)
        return None

    async def _listen(self) -> None:
        """Keep a stream open for what the server says of its own accord, if it offers one."""
        parser = EventParser()
        opened, barren = False, 0
        while not self.closed.is_set():
            response = await self._get(parser)
            heard = False
            if response is not None and response.status == 200:
                if media_type(response) != EVENTS_TYPE:
                    response.close()
                    return
                opened = True
                try:
                    heard = await self._follow(response, parser, None)
                except ValueError:
                    return
            elif response is not None:
                status = response.status
                if await self._is_over(response) and opened:
                    self.lose("it has forgotten our session.", gone=True)
                if status < 500 and status != 429:
                    return  # 405, and whatever else a server without such a stream answers
            barren = 0 if heard else barren + 1
            await asyncio.sleep(min(parser.pause * 2 ** min(barren, 10), LONGEST_PAUSE))

    async def _get(self, parser: EventParser) -> aiohttp.ClientResponse | None:
        """
        Ask for a stream, after the last event if there was one; None if nobody can be reached.

        There is no deadline: some servers send the headers together with the first event.
        """
        headers = {"accept": EVENTS_TYPE, "accept-encoding": "identity"}
        if parser.last_id is not None:
            headers["last-event-id"] = parser.last_id
        try:
            return await self._endpoint.send("GET", self._header_set(headers))
        except ChannelLost:
            return None

    async def _is_over(self, response: aiohttp.ClientResponse) -> bool:
        """Whether the refusal of a stream means that the session is gone."""
        text, error = await read_refusal(response)
        return self._session_id is not None and is_gone(response.status, text, error)

    async def _abandon(self, exchange: Exchange) -> None:
        if self._era is Era.HANDSHAKE:
            await super()._abandon(exchange)
        elif exchange.stop_reading is not None:
            exchange.stop_reading()

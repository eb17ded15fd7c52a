"""
The HTTP+SSE transport of 2024-11-05: one stream in, a POST for everything out.

    GET url ──> event "endpoint" (where to POST), then every message of the server
    POST there ──> 202

All answers come on the one stream, so what the server says on its own account belongs to no
request that could be told. When the stream ends, the session is over: there is no way to resume.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from yarl import URL

from trunkline.downstream.channel import Channel, ChannelLost, Exchange, SessionGone
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.http import DELIVERY_TIMEOUT, Body, Endpoint, HttpClient, Unreachable
from trunkline.downstream.responses import (
    EVENTS_TYPE,
    JSON_TYPE,
    drain,
    media_type,
    read_chunk,
    read_refusal,
    refusal,
    wrong_type,
)
from trunkline.downstream.sse_events import Event, EventParser
from trunkline.downstream.tasks import Spawn, open_tasks
from trunkline.models import Json
from trunkline.settings import DownstreamSettings
from trunkline.wire import encode


@asynccontextmanager
async def open_sse(
    config: ServerConfig, settings: DownstreamSettings, client: HttpClient
) -> AsyncGenerator[Channel]:
    """
    A channel to the SSE server at `config.url`, once it has said where to POST.

    Raises `DownstreamUnavailable` when the configuration cannot be used, or `ChannelLost`.
    """
    endpoint = await client.endpoint(config)
    async with open_tasks() as spawn:
        try:
            async with asyncio.timeout(settings.connect_timeout):
                stream = await _open_stream(endpoint)
        except TimeoutError:
            raise _too_slow(settings.connect_timeout) from None
        channel = SseChannel(config.name, spawn, endpoint)
        try:
            spawn(channel.read(stream))
            await channel.wait_for_endpoint(settings.connect_timeout)
            yield channel
        finally:
            channel.lose("Trunkline closed the connection.")
            stream.close()


async def _open_stream(endpoint: Endpoint) -> aiohttp.ClientResponse:
    headers = {**endpoint.headers, "accept": EVENTS_TYPE, "accept-encoding": "identity"}
    stream = await endpoint.send("GET", headers)
    if stream.status != 200:
        text, _ = await read_refusal(stream)
        raise refusal(endpoint, stream, text)
    if media_type(stream) != EVENTS_TYPE:
        stream.close()
        raise wrong_type(endpoint, stream)
    return stream


class SseChannel(Channel):
    """One HTTP+SSE connection."""

    def __init__(self, server: str, spawn: Spawn, endpoint: Endpoint) -> None:
        super().__init__(server, spawn)
        self._spawn, self._stream_endpoint = spawn, endpoint
        self._post_endpoint: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()

    def lose(self, reason: str, *, gone: bool = False) -> None:
        super().lose(reason, gone=gone)
        self._post_endpoint.cancel()

    async def wait_for_endpoint(self, timeout: float) -> None:
        """Wait until the server has said where to POST. Raises `ChannelLost`."""
        await asyncio.wait({self._post_endpoint}, timeout=timeout)
        if self.closed.is_set():
            raise ChannelLost(self.reason, sent=False)
        if not self._post_endpoint.done():
            raise _too_slow(timeout)

    async def read(self, stream: aiohttp.ClientResponse) -> None:
        """Receive everything until the stream ends, which ends the connection."""
        parser = EventParser()
        reason = "its event stream ended."
        try:
            while chunk := await read_chunk(stream):
                for event in parser.feed(chunk):
                    self._take(event)
        except ValueError as error:
            reason = str(error)
        finally:
            stream.close()
        self.lose(reason)

    def _take(self, event: Event) -> None:
        if event.type == "endpoint":
            self._take_endpoint(event.data.decode("utf-8", "replace").strip())
        elif event.type == "message":
            message = event.message()
            for item in message if isinstance(message, list) else [message]:
                self.receive(item)

    def _take_endpoint(self, target: str) -> None:
        if self._post_endpoint.done():
            return
        base = self._stream_endpoint.url
        try:
            url = base.join(URL(target, encoded=True))
            same = url.origin() == base.origin()
        except ValueError:
            self.lose("it named an endpoint that is no valid URL.")
            return
        if same:
            self._post_endpoint.set_result(self._stream_endpoint.at(url))
        else:
            self.lose("it named an endpoint on another origin, which would get our credentials.")

    async def _send(
        self, message: Json, exchange: Exchange | None, headers: Mapping[str, str]
    ) -> None:
        if self.closed.is_set():
            raise ChannelLost(self.reason, sent=False)
        body = Body(encode(message), on_leaving=None if exchange is None else exchange.mark_sent)
        if exchange is not None:
            # Some servers answer the POST only when the request is done. Waiting for that here
            # would keep this request from working off what arrives for it.
            self._start_post(body, exchange)
            return
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT):
                await self._post(body, None)
        except TimeoutError:
            raise ChannelLost(
                f"it took no message for {DELIVERY_TIMEOUT:g} seconds.", sent=True
            ) from None

    def _start_post(self, body: Body, exchange: Exchange) -> None:
        task = self._spawn(self._post_request(body, exchange))

        def stop() -> None:
            if task is not None:
                task.cancel()

        exchange.stop_reading = stop

    async def _post_request(self, body: Body, exchange: Exchange) -> None:
        try:
            await self._post(body, exchange)
        except ChannelLost as error:
            if not exchange.settled:
                self.fail(exchange, error)

    async def _post(self, body: Body, exchange: Exchange | None) -> None:
        endpoint = self._post_endpoint.result()
        headers = {**endpoint.headers, "content-type": JSON_TYPE}
        if self.protocol_version is not None:
            headers["mcp-protocol-version"] = self.protocol_version
        try:
            response = await endpoint.send("POST", headers, body)
        except Unreachable as error:
            self.lose(str(error))
            raise
        if response.status < 300:
            await drain(response)
            return
        text, error = await read_refusal(response)
        if response.status in (404, 410):
            self.lose("it has forgotten our session.", gone=True)
            raise SessionGone(self.reason)
        complaint = refusal(endpoint, response, text)
        if response.status == 401:
            self.lose(str(complaint))
        if error is None or exchange is None or response.status in (401, 429, 503):
            raise complaint
        self.receive({"jsonrpc": "2.0", "id": exchange.id, "error": error})


def _too_slow(seconds: float) -> ChannelLost:
    return ChannelLost(f"it did not open its event stream within {seconds:g} seconds.", sent=False)

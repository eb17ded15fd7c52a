"""
A client over streamable HTTP that shows JSON as it stands on the wire, in either era.

The SDK's client parses into models and drops what they do not know; whether a gateway is lossless
can only be seen without it. This one knows no more than it must: the envelope and the headers of
the modern era, the session of the handshake era, and how an event stream is read.
"""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp

Json = dict[str, Any]

LIMIT: Final = 60.0
"""Seconds an answer may take."""

LINE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes one event may have: the answers of 20 MB arrive as one."""

META: Final = "io.modelcontextprotocol/"
INFO: Final[Json] = {"name": "raw", "version": "1", "x-vendor": {"kept": True}}
ABILITIES: Final[Json] = {
    "roots": {"listChanged": True},
    "sampling": {"tools": {}},
    "elicitation": {"form": {}, "url": {}},
    "x-vendor": {"kept": True},
}

Answer = Callable[[str, Json], Awaitable[Json]]
"""Answers a server's request: from its method and params to the result."""


class Refused(Exception):
    """The JSON-RPC error that came instead of a result."""

    def __init__(self, error: Json, status: int) -> None:
        super().__init__(error.get("message"))
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")
        self.status = status


class RawClient:
    """One client. Made by `raw_client`."""

    def __init__(self, http: aiohttp.ClientSession, url: str, era: str, answer: Answer) -> None:
        self.era = era
        self.heard: list[Json] = []
        """Every notification, in its order."""

        self.asked: list[Json] = []
        """Every request of the server."""

        self.greeting: Json = {}
        """What the server said of itself."""

        self.status = 0
        """The HTTP status of the last answer."""

        self.capabilities: Json = ABILITIES
        self._http, self._url, self._answer = http, url, answer
        self._headers: dict[str, str] = {}
        self._last_id = 0
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Do the era's opening."""
        if self.era == "modern":
            self.greeting = await self.request("server/discover")
            return
        hello = {
            "protocolVersion": "2025-11-25",
            "clientInfo": INFO,
            "capabilities": self.capabilities,
        }
        self.greeting = await self.request("initialize", hello)
        self._headers["MCP-Protocol-Version"] = self.greeting["protocolVersion"]
        await self.notify("notifications/initialized")

    async def request(
        self, method: str, params: Json | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Json:
        """Send a request and return its raw result. Raises `Refused`."""
        self._last_id += 1
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        params = dict(params or {})
        sent = dict(self._headers)
        if self.era == "modern":
            params["_meta"] = {**envelope(self.capabilities), **(params.get("_meta") or {})}
            sent |= routing_headers(method, params)
        answer = await self._post({**message, "params": params}, {**sent, **(headers or {})})
        assert answer is not None, "the stream ended without an answer"
        if "error" in answer:
            raise Refused(answer["error"], self.status)
        return answer["result"]

    async def notify(self, method: str, params: Json | None = None) -> None:
        """Send a notification."""
        message = {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}
        await self._post(message, self._headers)

    async def ask(self, method: str, params: Json) -> Json:
        """Send a modern request again with the answers to its questions, until it is complete."""
        result = await self.request(method, params)
        while result.get("resultType") == "input_required":
            again = {"inputResponses": {}, **params}
            for key, question in result["inputRequests"].items():
                self.asked.append(question)
                answer = await self._answer(question["method"], question.get("params") or {})
                again["inputResponses"] = {**again["inputResponses"], key: answer}
            if "requestState" in result:
                again["requestState"] = result["requestState"]
            result = await self.request(method, again)
        return result

    async def call(self, tool: str, arguments: Json | None = None, **further: Any) -> Json:
        """Call a tool, answering whatever it asks. Raises `Refused`."""
        params: Json = {"name": tool, "arguments": arguments or {}, **further}
        return await self.ask("tools/call", params)

    async def structured(self, tool: str, arguments: Json | None = None, **further: Any) -> Json:
        """The structured content of a call."""
        return (await self.call(tool, arguments, **further))["structuredContent"]

    @asynccontextmanager
    async def listening(
        self, *, lists: Sequence[str] = (), uris: Sequence[str] = ()
    ) -> AsyncGenerator[None]:
        """
        Listen for what concerns no request of ours: changed *lists* (`tools`, ...) and resources.

        A handshake client hears of all lists whether it wants to or not.
        """
        async with asyncio.TaskGroup() as tasks:
            if self.era == "modern":
                wanted: Json = {f"{kind}ListChanged": True for kind in lists}
                if uris:
                    wanted["resourceSubscriptions"] = list(uris)
                listen = self.request("subscriptions/listen", {"notifications": wanted})
                stream = tasks.create_task(listen)
                acknowledged = await self.hear("notifications/subscriptions/acknowledged")
                assert acknowledged["notifications"] == wanted
            else:
                opened = asyncio.Event()
                stream = tasks.create_task(self._read_standing(opened))
                async with asyncio.timeout(LIMIT):
                    await opened.wait()
                for uri in uris:
                    await self.request("resources/subscribe", {"uri": uri})
            yield
            if self.era == "handshake":
                for uri in uris:
                    await self.request("resources/unsubscribe", {"uri": uri})
            stream.cancel()

    async def hear(self, method: str) -> Json:
        """Wait for a notification, take it out of `heard` and return its params."""
        async with asyncio.timeout(LIMIT):
            while True:
                for message in self.heard:
                    if message["method"] == method:
                        self.heard.remove(message)
                        return message.get("params") or {}
                self._news.clear()
                await self._news.wait()

    async def close(self) -> None:
        """End the session, where there is one."""
        if "Mcp-Session-Id" in self._headers:
            async with self._http.delete(self._url, headers=self._headers):
                pass

    async def _post(self, message: Json, headers: Mapping[str, str]) -> Json | None:
        accept = {"Accept": "application/json, text/event-stream"}
        async with self._http.post(self._url, json=message, headers={**headers, **accept}) as reply:
            self.status = reply.status
            if "Mcp-Session-Id" in reply.headers:
                self._headers["Mcp-Session-Id"] = reply.headers["Mcp-Session-Id"]
            if reply.content_type == "application/json":
                return await reply.json()
            if reply.content_type != "text/event-stream":
                return None
            async for line in reply.content:
                if not line.startswith(b"data:") or not line[5:].strip():
                    continue
                heard = json.loads(line[5:])
                if heard.get("id") == message.get("id") and "method" not in heard:
                    return heard
                await self._hear(heard)
        return None

    async def _read_standing(self, opened: asyncio.Event) -> None:
        headers = {**self._headers, "Accept": "text/event-stream"}
        reply = await self._http.get(self._url, headers=headers)
        while reply.status == 409:  # the one before is not yet seen to be closed
            reply = await self._http.get(self._url, headers=headers)
        async with reply:
            assert reply.status == 200
            opened.set()
            async for line in reply.content:
                if line.startswith(b"data:") and line[5:].strip():
                    await self._hear(json.loads(line[5:]))

    async def _hear(self, message: Json) -> None:
        if "id" not in message:
            self.heard.append(message)
            self._news.set()
            return
        self.asked.append(message)
        result = await self._answer(message["method"], message.get("params") or {})
        await self._post({"jsonrpc": "2.0", "id": message["id"], "result": result}, self._headers)


async def silent(method: str, params: Json) -> Json:
    """Answers nothing: for a client that is not to be asked."""
    raise AssertionError(f"asked {method}")


@asynccontextmanager
async def raw_client(
    url: str,
    era: str,
    *,
    answer: Answer = silent,
    capabilities: Json | None = None,
    opened: bool = True,
) -> AsyncGenerator[RawClient]:
    """Connect to the streamable HTTP endpoint *url*. Without *opened*, no opening is sent."""
    timeout = aiohttp.ClientTimeout(total=LIMIT)
    async with aiohttp.ClientSession(timeout=timeout, read_bufsize=LINE_LIMIT) as http:
        client = RawClient(http, url, era, answer)
        if capabilities is not None:
            client.capabilities = capabilities
        if opened:
            await client.open()
        try:
            yield client
        finally:
            await client.close()


def envelope(capabilities: Json) -> Json:
    """What every modern request says of its client."""
    return {
        META + "protocolVersion": "2026-07-28",
        META + "clientInfo": INFO,
        META + "clientCapabilities": capabilities,
    }


def routing_headers(method: str, params: Json) -> dict[str, str]:
    """The headers of a modern request that repeat its body."""
    name = params.get("uri") if method.startswith("resources/") else params.get("name")
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method}
    return {**headers, "Mcp-Name": header_value(name)} if isinstance(name, str) else headers


def header_value(text: str) -> str:
    """A text as a header can carry it."""
    if text.isascii():
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="

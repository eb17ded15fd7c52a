"""
A server that speaks Qdrant's REST interface, as far as the client uses it, and fails on purpose.

What it stores it stores in the client's own local mode, so that whole scenarios run through real
HTTP. It can be stopped and started again on its port, with its data, as a Qdrant that restarts.

    async with stand_in() as qdrant:
        qdrant.fail("upsert", Status(503), Status(503))
        ...qdrant.url...
"""

import asyncio
import json
import re
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter
from qdrant_client import AsyncQdrantClient, models


@dataclass(frozen=True)
class Status:
    """Answer so, and do nothing."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b'{"status":{"error":"on purpose"},"time":0.0}'


@dataclass(frozen=True)
class Silence:
    """Never answer."""


@dataclass(frozen=True)
class Cut:
    """Close the connection: in the middle of the request, or with it done but not answered."""

    done: bool = False


Fault = Status | Silence | Cut


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    operation: str
    collection: str
    headers: Mapping[str, str]
    body: Any


class Refused(Exception):
    """What a request cannot be answered with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unwrapped(Exception):
    """An answer that is not put under `result`."""


class StandIn:
    """The server, what it was asked, and how it is to fail."""

    def __init__(self, api_key: str | None = None) -> None:
        self.store = AsyncQdrantClient(":memory:")
        self.calls: list[Call] = []
        self.connections = 0
        self.port = 0
        self.version = "1.20.0"
        self._api_key = api_key
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._always: dict[str, Fault] = {}
        self._listener: asyncio.Server | None = None
        self._conversations: set[asyncio.Task[None]] = set()
        self._asked = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, operation: str, *faults: Fault) -> None:
        """Let the next requests of an operation fail, one by one in this way."""
        self._faults[operation].extend(faults)

    def always_fail(self, operation: str, fault: Fault | None) -> None:
        """Let every request of an operation fail; None lets them be answered again."""
        self._always.pop(operation, None)
        if fault is not None:
            self._always[operation] = fault

    def seen(self, operation: str) -> list[Call]:
        """The requests of one operation so far."""
        return [call for call in self.calls if call.operation == operation]

    async def wait_for(self, operation: str, number: int = 1) -> None:
        """Until *number* requests of an operation have come."""
        while len(self.seen(operation)) < number:
            self._asked.clear()
            await self._asked.wait()

    async def start(self) -> None:
        """Listen, on the port of the last time if there was one."""
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        assert self._listener is not None
        self._listener.close()
        for conversation in self._conversations:
            conversation.cancel()
        if self._conversations:
            await asyncio.wait(self._conversations)

    # -- HTTP ---------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._conversations.add(task)
        try:
            while await self._converse(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left, or the server stops
        finally:
            self._conversations.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request; whether the connection is good for another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {
            name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)
        }
        operation, collection, answer = _route(method, target)
        queue = self._faults[operation]
        fault = queue.popleft() if queue else self._always.get(operation)
        length = int(headers.get("content-length", "0"))
        body = await reader.readexactly(length // 2 if fault == Cut() else length)
        message = None if fault == Cut() else json.loads(body or b"null")
        self.calls.append(Call(operation, collection, headers, message))
        self._asked.set()
        if isinstance(fault, Silence):
            await asyncio.Event().wait()
        if fault == Cut():
            return False
        if isinstance(fault, Status):
            await _reply(writer, fault.code, fault.body, fault.headers)
            return True
        status, result = await self._answer(answer, collection, message, headers)
        if isinstance(fault, Cut):
            return False
        await _reply(writer, status, json.dumps(result).encode())
        return True

    async def _answer(
        self, answer: "Answer", collection: str, message: Any, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        if self._api_key is not None and headers.get("api-key") != self._api_key:
            return 401, "Must provide an API key or an Authorization bearer token"
        try:
            return 200, {"result": await answer(self, collection, message), "status": "ok"}
        except Unwrapped as answer_itself:
            return 200, answer_itself.args[0]
        except Refused as error:
            return error.status, {"status": {"error": str(error)}}
        except ValueError as error:
            status = 404 if "not found" in str(error) else 400
            return status, {"status": {"error": str(error)}}


Answer = Callable[[StandIn, str, Any], Awaitable[Any]]


async def _reply(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    headers: Mapping[str, str] | None = None,
) -> None:
    reasons = {200: "OK", 429: "Too Many Requests", 503: "Service Unavailable"}
    lines = [f"HTTP/1.1 {status} {reasons.get(status, 'Status')}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    await writer.drain()


# -- Qdrant's operations --------------------------------------------------------------------------

_DONE: Final = {"operation_id": 0, "status": "completed"}


async def _info(server: StandIn, _: str, __: Any) -> Any:
    raise Unwrapped({"title": "a stand-in for Qdrant", "version": server.version})


async def _collections(server: StandIn, _: str, __: Any) -> Any:
    return (await server.store.get_collections()).model_dump(mode="json")


async def _exists(server: StandIn, name: str, _: Any) -> Any:
    return {"exists": await server.store.collection_exists(name)}


async def _create(server: StandIn, name: str, body: Any) -> Any:
    if await server.store.collection_exists(name):
        raise Refused(409, f"Collection `{name}` already exists!")
    wanted = models.CreateCollection.model_validate(body)
    return await server.store.create_collection(
        name,
        vectors_config=wanted.vectors,
        sparse_vectors_config=wanted.sparse_vectors,
        metadata=wanted.metadata,
    )


async def _describe(server: StandIn, name: str, _: Any) -> Any:
    return (await server.store.get_collection(name)).model_dump(mode="json")


async def _drop(server: StandIn, name: str, _: Any) -> Any:
    return await server.store.delete_collection(name)


async def _index_field(server: StandIn, name: str, body: Any) -> Any:
    await server.store.get_collection(name)
    models.CreateFieldIndex.model_validate(body)
    return _DONE


async def _aliases(server: StandIn, _: str, __: Any) -> Any:
    return (await server.store.get_aliases()).model_dump(mode="json")


async def _change_aliases(server: StandIn, _: str, body: Any) -> Any:
    wanted = models.ChangeAliasesOperation.model_validate(body)
    return await server.store.update_collection_aliases(wanted.actions)


async def _upsert(server: StandIn, name: str, body: Any) -> Any:
    await server.store.upsert(name, models.PointsList.model_validate(body).points)
    return _DONE


async def _delete(server: StandIn, name: str, body: Any) -> Any:
    await server.store.delete(name, models.PointIdsList.model_validate(body))
    return _DONE


_QUERY: Final = TypeAdapter(models.QueryRequest)


async def _query(server: StandIn, name: str, body: Any) -> Any:
    asked = _QUERY.validate_python(body)
    found = await server.store.query_points(
        name,
        query=asked.query,  # pyright: ignore[reportArgumentType] - as it came
        prefetch=asked.prefetch,  # pyright: ignore[reportArgumentType]
        using=asked.using,
        query_filter=asked.filter,
        search_params=asked.params,
        limit=asked.limit or 10,
    )
    return found.model_dump(mode="json")


async def _count(server: StandIn, name: str, _: Any) -> Any:
    return (await server.store.count(name)).model_dump(mode="json")


async def _scroll(server: StandIn, name: str, body: Any) -> Any:
    asked = models.ScrollRequest.model_validate(body)
    page, following = await server.store.scroll(name, limit=asked.limit or 10, offset=asked.offset)
    return {
        "points": [record.model_dump(mode="json") for record in page],
        "next_page_offset": following,
    }


_ROUTES: Final[tuple[tuple[str, str, str, Answer], ...]] = (
    ("POST", "/collections/aliases", "switch", _change_aliases),
    ("GET", "/", "info", _info),
    ("GET", "/aliases", "aliases", _aliases),
    ("GET", "/collections", "collections", _collections),
    ("GET", "/collections/([^/]+)/exists", "exists", _exists),
    ("PUT", "/collections/([^/]+)", "create", _create),
    ("GET", "/collections/([^/]+)", "describe", _describe),
    ("DELETE", "/collections/([^/]+)", "drop", _drop),
    ("PUT", "/collections/([^/]+)/index", "index", _index_field),
    ("PUT", "/collections/([^/]+)/points", "upsert", _upsert),
    ("POST", "/collections/([^/]+)/points/delete", "delete", _delete),
    ("POST", "/collections/([^/]+)/points/query", "search", _query),
    ("POST", "/collections/([^/]+)/points/count", "count", _count),
    ("POST", "/collections/([^/]+)/points/scroll", "scroll", _scroll),
)


async def _unknown(_: StandIn, __: str, ___: Any) -> Any:
    raise Refused(404, "The stand-in does not know this request.")


def _route(method: str, target: str) -> tuple[str, str, Answer]:
    path = target.partition("?")[0]
    for known, pattern, operation, answer in _ROUTES:
        if known == method and (match := re.fullmatch(pattern, path)):
            return operation, match[1] if match.groups() else "", answer
    return "unknown", "", _unknown


@asynccontextmanager
async def stand_in(api_key: str | None = None) -> AsyncGenerator[StandIn]:
    """A running stand-in, on a free port of the loopback interface."""
    server = StandIn(api_key)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        await server.store.close()

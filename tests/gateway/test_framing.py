"""Streamable HTTP: each response is JSON or a stream, as its first message needs."""

# The contract test at the end names the private parts on purpose.
# pyright: reportPrivateUsage=false

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp.server import _streamable_http_modern as modern
from mcp.server.streamable_http import EventMessage, StreamableHTTPServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp_types import SubscriptionsListenRequestParams
from tests.servers.face_server import ROOT, Face, RawClient, build_face, events, raw_client, serving

from trunkline.settings import HttpSettings

pytestmark = pytest.mark.anyio

JSON = "application/json"
STREAM = "text/event-stream"
MODERN = "2026-07-28"


def kind(response: httpx2.Response) -> str:
    return response.headers["content-type"]


def modern_call(name: str, **arguments: Any) -> tuple[dict[str, str], bytes]:
    """A modern tool call: headers and body."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": "p",
    }
    params = {"name": name, "arguments": arguments, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "Accept": f"{JSON}, {STREAM}",
        "Content-Type": JSON,
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": name,
    }
    return headers, json.dumps(body).encode()


# -- what decides the framing ---------------------------------------------------------------------


async def test_an_answer_alone_is_json_and_keeps_the_connection() -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        first = await client.call("echo", value="a")
        second = await client.call("echo", value="b")

        assert kind(first) == kind(second) == JSON
        assert second.json()["result"]["content"][0]["text"] == "b"
        ports = {
            r.extensions["network_stream"].get_extra_info("client_addr") for r in (first, second)
        }
        assert len(ports) == 1


async def test_a_notification_before_the_answer_opens_a_stream_that_carries_both() -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        response = await client.call("talk", text="hello")

        assert kind(response) == STREAM
        notification, answer = events(response.text)
        assert notification["method"] == "notifications/progress"
        assert answer["result"]["content"][0]["text"] == "hello"


async def test_a_question_reaches_the_client_on_the_stream_of_its_call() -> None:
    async with serving(build_face()) as url, raw_client(url, roots={}) as client:
        call = client.http.stream(
            "POST", "/mcp", content=client.tool("ask"), headers=client.headers
        )
        async with call as response:
            lines = response.aiter_lines()
            question = await next_event(lines)
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": [{"uri": ROOT}]}}
            accepted = await client.send(json.dumps(answer).encode())
            result = await next_event(lines)

        assert question["method"] == "roots/list"
        assert accepted.status_code == 202
        assert result["result"]["content"][0]["text"] == ROOT


async def next_event(lines: AsyncIterator[str]) -> dict[str, Any]:
    with anyio.fail_after(10):
        async for line in lines:
            if line.startswith("data: "):
                return json.loads(line[6:])
    raise AssertionError("the stream ended")


async def test_a_silent_call_opens_a_stream_and_pings() -> None:
    face = build_face()
    async with serving(face, quiet=0.05) as url, raw_client(url) as client:
        call = client.http.stream(
            "POST", "/mcp", content=client.tool("hold"), headers=client.headers
        )
        async with call as response:
            lines = response.aiter_lines()
            with anyio.fail_after(10):
                pings = [line async for line in take(lines, 4) if line == ": ping"]
            face.release.set()
            answer = await next_event(lines)

        assert kind(response) == STREAM
        assert len(pings) >= 2
        assert answer["result"]["content"][0]["text"] == "released"


async def take(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        count -= 1
        if not count:
            return


async def test_a_client_that_takes_only_json_gets_the_answer_without_notifications() -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        client.headers["Accept"] = JSON

        response = await client.call("talk", text="hello")

        assert kind(response) == JSON
        assert response.json()["result"]["content"][0]["text"] == "hello"


async def test_a_client_that_takes_only_json_is_not_asked_and_not_kept_waiting() -> None:
    async with serving(build_face()) as url, raw_client(url, roots={}) as client:
        client.headers["Accept"] = JSON

        response = await client.call("ask")

        assert response.json()["result"]["isError"]


async def test_a_client_that_takes_only_streams_gets_one() -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        client.headers["Accept"] = STREAM

        response = await client.call("echo", value="a")

        assert kind(response) == STREAM
        assert events(response.text)[-1]["result"]["content"][0]["text"] == "a"


@pytest.mark.parametrize("accept", ["*/*", "application/*, text/*", "text/html, */*;q=0.8"])
async def test_wildcards_are_accepted(accept: str) -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        client.headers["Accept"] = accept

        assert kind(await client.call("echo", value="a")) == JSON


# -- what is carried ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 10**30, 0.1, "\u2028 line", {"deep": [None, {"a": None}]}])
async def test_values_come_back_as_they_were(value: Any) -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        response = await client.call("echo", value={"is": value})

        assert response.json()["result"]["structuredContent"] == {"is": value}


async def test_twenty_megabytes_pass_in_both_directions() -> None:
    size = 20 * 1024 * 1024
    async with serving(build_face()) as url, raw_client(url) as client:
        down = await client.call("large", size=size)
        up = await client.call("echo", value="y" * size)

        assert len(down.json()["result"]["content"][0]["text"]) == size
        assert len(up.json()["result"]["content"][0]["text"]) == size


async def test_an_answer_that_json_cannot_carry_becomes_an_error() -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        response = await client.call("surrogate")

        assert "error" in response.json() or response.json()["result"]["isError"]


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "status", "word"),
    [
        (b"{", {}, 400, "not JSON"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}', {}, 400, "not JSON"),
        (b"[]", {}, 400, "Batches"),
        (b'[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', {}, 400, "Batches"),
        (b"7", {}, 400, "object"),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', {}, 400, "'id'"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', {}, 400, "'params'"),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', {}, 400, "'jsonrpc'"),
        (b"{}", {}, 400, "'jsonrpc'"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "Content-Type"),
        (b"{}", {"Accept": "text/html"}, 406, "text/event-stream"),
        (
            b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}',
            {"Mcp-Session-Id": ""},
            404,
            "initialize",
        ),
        (
            b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}',
            {"Mcp-Session-Id": "x"},
            404,
            "initialize",
        ),
    ],
)
async def test_what_is_no_message_gets_a_status_and_a_sentence(
    body: bytes, headers: dict[str, str], status: int, word: str
) -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        response = await client.send(body, **headers)

        assert response.status_code == status
        assert response.json()["id"] is None
        assert word in response.json()["error"]["message"]
        assert (await client.call("echo", value="a")).status_code == 200


async def test_a_request_without_a_session_is_told_to_initialize() -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        del client.headers["Mcp-Session-Id"]

        posted = await client.call("echo", value="a")
        opened = await client.http.get("/mcp", headers={"Accept": STREAM})

        assert posted.status_code == opened.status_code == 400
        assert "initialize" in posted.json()["error"]["message"]


async def test_other_methods_are_answered_with_those_there_are() -> None:
    async with serving(build_face()) as url, raw_client(url) as client:
        response = await client.http.put("/mcp", content=b"{}", headers=client.headers)

        assert response.status_code == 405
        assert response.headers["allow"] == "GET, POST, DELETE"


@asynccontextmanager
async def holding(face: Face, client: RawClient) -> AsyncGenerator[list[httpx2.Response]]:
    """The call "held" is in flight while the body runs; afterwards the list has its response."""
    responses: list[httpx2.Response] = []

    async def hold() -> None:
        responses.append(await client.send(client.tool("hold", id="held")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        with anyio.fail_after(10):
            await face.holding.wait()
        yield responses


async def test_an_id_in_use_is_refused_and_the_call_that_has_it_is_answered() -> None:
    face = build_face()
    async with serving(face) as url, raw_client(url) as client:
        async with holding(face, client) as held:
            refused = await client.send(client.tool("echo", id="held", value="a"))
            face.release.set()

        assert refused.status_code == 400
        assert "'held'" in refused.json()["error"]["message"]
        assert held[0].json()["result"]["content"][0]["text"] == "released"


# -- the ends of things ---------------------------------------------------------------------------


async def test_a_client_that_leaves_does_not_cancel_its_call_and_leaves_nothing_behind() -> None:
    face = build_face()
    async with serving(face, quiet=0.05) as url, raw_client(url) as client:
        body = client.tool("hold", id="left")
        async with client.http.stream("POST", "/mcp", content=body, headers=client.headers):
            with anyio.fail_after(10):
                await face.holding.wait()

        with anyio.fail_after(10):
            # Its id is free again once nothing is held for it any more.
            while (await client.send(client.tool("echo", id="left", value=1))).status_code == 400:
                pass
            face.release.set()
            await face.released.wait()
        assert not face.cancelled.is_set()


async def test_a_cancelled_call_ends_its_response() -> None:
    face = build_face()
    async with serving(face) as url, raw_client(url) as client:
        async with holding(face, client) as held:
            cancel = {
                "jsonrpc": "2.0",
                "method": "notifications/cancelled",
                "params": {"requestId": "held"},
            }
            await client.send(json.dumps(cancel).encode())

        assert held[0].json()["error"]["message"] == "Request cancelled"
        assert face.cancelled.is_set()


async def test_a_deleted_session_answers_what_it_owes_and_is_gone() -> None:
    face = build_face()
    async with serving(face) as url, raw_client(url) as client:
        async with holding(face, client) as held:
            deleted = await client.http.delete("/mcp", headers=client.headers)

        assert deleted.status_code == 200
        assert "ended" in held[0].json()["error"]["message"]
        assert (await client.call("echo", value="a")).status_code == 404
        assert face.cancelled.is_set()


async def test_an_idle_session_is_forgotten() -> None:
    settings = HttpSettings(port=0, session_idle_timeout=0.05, stop_grace=0.1)
    async with serving(build_face(), settings=settings) as url, raw_client(url) as client:
        with anyio.fail_after(10):
            while (await client.call("echo", value="a")).status_code != 404:  # noqa: ASYNC110 - only time makes it idle
                await anyio.sleep(0.1)


async def test_one_session_too_many_is_refused_and_a_deleted_one_makes_room() -> None:
    settings = HttpSettings(port=0, max_sessions=1, stop_grace=0.1)
    async with serving(build_face(), settings=settings) as url, raw_client(url) as client:
        session = dict(client.headers)
        del client.headers["Mcp-Session-Id"]

        refused = await client.initialize()
        await client.http.delete("/mcp", headers=session)
        del client.headers["Mcp-Session-Id"]
        accepted = await client.initialize()

        assert refused.status_code == 503
        assert "in use" in refused.json()["error"]["message"]
        assert accepted.status_code == 200


async def test_the_stream_for_everything_else_is_one_per_session() -> None:
    async with serving(build_face(), quiet=0.05) as url, raw_client(url) as client:
        accept = client.headers | {"Accept": STREAM}
        async with client.http.stream("GET", "/mcp", headers=accept) as stream:
            with anyio.fail_after(10):
                ping = await anext(aiter(stream.aiter_lines()))
            second = await client.http.get("/mcp", headers=accept)

        assert ping == ": ping"
        assert second.status_code == 409
        assert (
            await client.http.get("/mcp", headers=client.headers | {"Accept": JSON})
        ).status_code == 406


# -- the modern era -------------------------------------------------------------------------------


async def test_a_modern_answer_is_json_unless_something_comes_before_it() -> None:
    async with (
        serving(build_face()) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        headers, body = modern_call("echo", value="a")
        plain = await http.post("/mcp", content=body, headers=headers)
        headers, body = modern_call("talk", text="a")
        talkative = await http.post("/mcp", content=body, headers=headers)
        json_only = await http.post("/mcp", content=body, headers=headers | {"Accept": JSON})

        assert kind(plain) == kind(json_only) == JSON
        assert kind(talkative) == STREAM
        assert [message.get("method") for message in events(talkative.text)] == [
            "notifications/progress",
            None,
        ]
        assert "mcp-session-id" not in plain.headers


async def test_a_modern_client_that_leaves_cancels_its_call() -> None:
    face = build_face()
    async with serving(face) as url, httpx2.AsyncClient(base_url=url, trust_env=False) as http:
        headers, body = modern_call("hold")
        async with anyio.create_task_group() as tasks:

            async def hold() -> None:
                await http.post("/mcp", content=body, headers=headers)

            tasks.start_soon(hold)
            with anyio.fail_after(10):
                await face.holding.wait()
            tasks.cancel_scope.cancel()

        with anyio.fail_after(10):
            await face.cancelled.wait()


async def test_a_modern_subscription_is_a_stream_that_ends_when_the_server_stops() -> None:
    face, stop = build_face(), asyncio.Event()
    face.server._mcp_server.add_request_handler(
        "subscriptions/listen",
        SubscriptionsListenRequestParams,
        ListenHandler(InMemorySubscriptionBus()),
    )
    headers, body = modern_call("echo")
    message = json.loads(body) | {"method": "subscriptions/listen"}
    message["params"] = {
        "_meta": message["params"]["_meta"],
        "notifications": {"toolsListChanged": True},
    }
    headers = headers | {"Mcp-Method": "subscriptions/listen"}
    del headers["Mcp-Name"]
    settings = HttpSettings(port=0, stop_grace=60)
    async with (
        serving(face, settings=settings, stop=stop) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False) as http,
        http.stream("POST", "/mcp", content=json.dumps(message), headers=headers) as response,
    ):
        lines = response.aiter_lines()
        acknowledged = await next_event(lines)
        stop.set()
        with anyio.fail_after(10):
            rest = [line async for line in lines]

        assert kind(response) == STREAM
        assert acknowledged["method"] == "notifications/subscriptions/acknowledged"
        assert not any(line.startswith("data: ") for line in rest)


# -- what is relied on ----------------------------------------------------------------------------


def test_the_mcp_package_still_has_the_private_parts_that_are_used() -> None:
    def parameters(function: Any) -> list[str]:
        return list(inspect.signature(function).parameters)

    manager, transport = StreamableHTTPSessionManager, StreamableHTTPServerTransport
    assert parameters(modern.handle_modern_request) == [
        "app", "security_settings", "json_response", "lifespan_state", "scope", "receive", "send",
    ]  # fmt: skip
    assert parameters(manager._admit_session) == ["self", "requestor"]
    assert parameters(manager._discard_session) == ["self", "session_id", "transport"]
    assert parameters(manager._serve_opening_request) == [
        "self", "http_transport", "scope", "receive", "send",
    ]  # fmt: skip
    assert parameters(transport._handle_request) == ["self", "scope", "receive", "send"]
    assert parameters(transport._terminate_unanswered_request) == ["self", "request_id"]
    assert parameters(transport._get_session_id) == ["self", "request"]
    assert list(EventMessage.__dataclass_fields__) == ["message", "event_id"]

    session = transport("id")
    assert session._request_streams == {}
    assert session._read_stream_writer is None
    sessions = manager(build_face().server._mcp_server)
    assert sessions._server_instances == {}
    assert sessions._session_owners == {}
    assert sessions._lifespan_state is None

"""The channel to a plugin in this process: both eras, every direction, and bad behaviour."""

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from fastmcp import Context, FastMCP
from mcp_types import InputRequiredResult, SamplingMessage, TextContent

from trunkline import Plugin
from trunkline.downstream.channel import Channel, ChannelLost, Inbound
from trunkline.downstream.era import Greeting, Identity, envelope, greet
from trunkline.errors import RpcError
from trunkline.models import Era, Json
from trunkline.plugin.server import running
from trunkline.providers.memory import open_memory
from trunkline.wire import INTERNAL_ERROR, METHOD_NOT_FOUND

pytestmark = pytest.mark.anyio

IDENTITY = Identity(
    info={"name": "test", "version": "1"},
    capabilities={"elicitation": {"form": {}}, "sampling": {}},
)
ERAS = [Era.HANDSHAKE, Era.MODERN]

plugin = Plugin("kitchen", summary="A bit of everything.", version="7")
secret: ContextVar[str] = ContextVar("secret", default="nothing")


class Peer:
    """A client of the channel that answers what it is asked and keeps what it is told."""

    def __init__(self, channel: Channel, greeting: Greeting) -> None:
        self.channel, self.greeting = channel, greeting
        self.heard: list[Inbound] = []
        self.stray: list[Inbound] = []
        channel.on_stray = self.stray.append
        self._meta = {"_meta": envelope(IDENTITY)} if greeting.era is Era.MODERN else {}

    async def request(self, method: str, **params: Any) -> Json:
        async def hear(inbound: Inbound) -> None:
            self.heard.append(inbound)
            if inbound.method == "elicitation/create":
                await self.channel.respond(
                    inbound, {"action": "accept", "content": {"value": "Ada"}}
                )
            elif inbound.method == "sampling/createMessage":
                reply = {"type": "text", "text": "Hello, Ada."}
                message: Json = {"role": "assistant", "model": "m", "content": reply}
                await self.channel.respond(inbound, message)

        async with asyncio.timeout(10):
            return await self.channel.request(
                method, {**params, **self._meta}, on_inbound=hear, progress=True
            )

    async def call(self, tool: str, **arguments: Any) -> Json:
        return await self.request("tools/call", name=tool, arguments=arguments)


@asynccontextmanager
async def connect(
    server: FastMCP[Any] = plugin.server, era: Era = Era.HANDSHAKE
) -> AsyncGenerator[Peer]:
    async with open_memory(server, "kitchen") as channel:
        yield Peer(channel, await greet(channel, IDENTITY, era))


def text(result: Json) -> str:
    return result["content"][0]["text"]


@plugin.tool
def add(a: int, b: int) -> int:
    return a + b


@plugin.tool
async def add_on_the_loop(a: int, b: int) -> int:
    return a + b


@plugin.resource("kitchen://menu")
def menu() -> str:
    return "soup"


@plugin.prompt
def order(dish: str) -> str:
    return f"One {dish}, please."


@pytest.mark.parametrize("era", ERAS)
async def test_it_speaks_the_era_it_is_asked_for(era: Era) -> None:
    async with connect(era=era) as peer:
        greeting = peer.greeting
        listed = await peer.request("tools/list")
        sums = [await peer.call(tool, a=2, b=3) for tool in ("add", "add_on_the_loop")]
        read = await peer.request("resources/read", uri="kitchen://menu")
        prompt = await peer.request("prompts/get", name="order", arguments={"dish": "soup"})

    assert greeting.era is era
    assert greeting.server_info["name"] == "kitchen"
    assert greeting.server_info["version"] == "7"
    assert greeting.instructions == "A bit of everything."
    assert "add" in [tool["name"] for tool in listed["tools"]]
    assert [result["structuredContent"] for result in sums] == [{"result": 5}, {"result": 5}]
    assert read["contents"][0]["text"] == "soup"
    assert prompt["messages"][0]["content"]["text"] == "One soup, please."


async def test_a_server_limited_to_one_era_is_greeted_in_it() -> None:
    async with open_memory(plugin.server, "kitchen", eras={Era.HANDSHAKE}) as channel:
        greeting = await greet(channel, IDENTITY, Era.MODERN)

    assert greeting.era is Era.HANDSHAKE


@plugin.tool
async def converse(ctx: Context) -> str:
    await ctx.report_progress(1, 2, "half")
    await ctx.info("listening")
    answer = await ctx.elicit("Who are you?", response_type=str)
    question = SamplingMessage(role="user", content=TextContent(type="text", text=str(answer)))
    # No related_request_id: the channel knows whose call this is all the same.
    reply = await ctx.session.create_message([question], max_tokens=9)  # pyright: ignore[reportDeprecated]
    assert isinstance(reply.content, TextContent)
    return reply.content.text


async def test_progress_log_elicitation_and_sampling_reach_the_request_that_caused_them() -> None:
    async with connect() as peer:
        result = await peer.call("converse")
        heard, stray = peer.heard, peer.stray

    assert text(result) == "Hello, Ada."
    assert stray == []
    assert {inbound.origin for inbound in heard} == {2}
    assert [inbound.method for inbound in heard] == [
        "notifications/progress",
        "notifications/message",
        "elicitation/create",
        "sampling/createMessage",
    ]


async def test_two_calls_at_once_keep_their_own_conversations() -> None:
    async with connect() as first:
        second = Peer(first.channel, first.greeting)
        await asyncio.gather(first.call("converse"), second.call("converse"))

    assert len({inbound.origin for inbound in first.heard}) == 1
    assert len({inbound.origin for inbound in second.heard}) == 1
    assert first.heard[0].origin != second.heard[0].origin


@plugin.tool
async def multi_round(ctx: Context) -> str | InputRequiredResult:
    if ctx.input_responses:
        return "answered"
    return InputRequiredResult.model_validate(
        {
            "resultType": "input_required",
            "requestState": "s",
            "inputRequests": {
                "who": {
                    "method": "elicitation/create",
                    "params": {
                        "mode": "form",
                        "message": "Who?",
                        "requestedSchema": {"type": "object", "properties": {}},
                    },
                }
            },
        }
    )


async def test_a_modern_tool_may_answer_in_several_rounds() -> None:
    async with connect(era=Era.MODERN) as peer:
        first = await peer.call("multi_round")
        second = await peer.request(
            "tools/call",
            name="multi_round",
            arguments={},
            requestState=first["requestState"],
            inputResponses={"who": {"action": "accept", "content": {}}},
        )

    assert first["resultType"] == "input_required"
    assert text(second) == "answered"


@plugin.tool
async def mutate(value: Any) -> int:
    value["list"].append(1)
    return len(value["list"])


async def test_a_tool_cannot_change_the_message_it_was_sent() -> None:
    value: Json = {"list": []}

    async with connect() as peer:
        await peer.call("mutate", value=value)

    assert value == {"list": []}


@plugin.tool
async def spy() -> str:
    return secret.get()


async def test_a_tool_cannot_see_the_context_of_the_client_that_calls_it() -> None:
    secret.set("a credential")

    async with connect() as peer:
        assert text(await peer.call("spy")) == "nothing"


@plugin.tool
def fail() -> str:
    raise ValueError("no such dish")


@plugin.tool
def leave() -> str:
    sys.exit(3)


@plugin.tool
async def leave_from_the_loop() -> str:
    sys.exit(3)


@plugin.tool
async def interrupt() -> str:
    raise KeyboardInterrupt


@plugin.tool
async def return_garbage() -> object:
    return object()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ("fail", "no such dish"),
        ("leave", "sys.exit(3)"),
        ("leave_from_the_loop", "sys.exit(3)"),
        ("interrupt", "KeyboardInterrupt"),
        ("return_garbage", "serialize"),
    ],
)
async def test_a_tool_that_misbehaves_fails_alone(tool: str, says: str, era: Era) -> None:
    async with connect(era=era) as peer:
        result = await peer.call(tool)
        after = await peer.call("add", a=1, b=1)

    assert result["isError"] is True
    assert says in text(result)
    assert after["structuredContent"] == {"result": 2}


@plugin.tool
async def cancel_itself() -> str:
    raise asyncio.CancelledError


@plugin.tool
async def return_half_a_character() -> str:
    return "\ud800"


class Oddity(BaseException):
    """No `Exception`: most of what catches errors lets it through."""


@plugin.tool
async def raise_an_oddity() -> str:
    raise Oddity


@plugin.resource("kitchen://exit")
def leave_from_a_resource() -> str:
    sys.exit(1)


@plugin.prompt
def leave_from_a_prompt() -> str:
    sys.exit(2)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "cancel_itself", "arguments": {}}),
        ("tools/call", {"name": "raise_an_oddity", "arguments": {}}),
        ("tools/call", {"name": "return_half_a_character", "arguments": {}}),
        ("resources/read", {"uri": "kitchen://exit"}),
        ("prompts/get", {"name": "leave_from_a_prompt"}),
    ],
)
async def test_what_has_no_result_is_an_error_and_the_connection_goes_on(
    method: str, params: Json
) -> None:
    async with connect() as peer:
        with pytest.raises(RpcError) as error:
            await peer.request(method, **params)
        after = await peer.call("add", a=1, b=1)

    assert error.value.rpc_code == INTERNAL_ERROR
    assert after["structuredContent"] == {"result": 2}


async def test_an_unknown_method_is_refused() -> None:
    async with connect() as peer:
        with pytest.raises(RpcError) as error:
            await peer.request("kitchen/burn")

    assert error.value.rpc_code == METHOD_NOT_FOUND


signals: dict[str, anyio.Event] = {}
"""Set by the tools below; every test that looks at them makes new ones."""


def new_signals() -> None:
    signals.update(waiting=anyio.Event(), cancelled=anyio.Event())


@plugin.tool
async def wait_for_nothing() -> str:
    signals["waiting"].set()
    try:
        await anyio.sleep_forever()
    finally:
        signals["cancelled"].set()
    return ""


@pytest.mark.parametrize("era", ERAS)
async def test_cancelling_a_request_cancels_the_tool(era: Era) -> None:
    new_signals()

    async with connect(era=era) as peer:
        request = asyncio.ensure_future(peer.call("wait_for_nothing"))
        with anyio.fail_after(10):
            await signals["waiting"].wait()
            request.cancel()
            await signals["cancelled"].wait()


@plugin.tool
def block() -> str:
    blocked.set()
    released.wait()
    return ""


blocked, released = threading.Event(), threading.Event()


async def test_a_function_that_never_returns_holds_nobody_up() -> None:
    async with connect() as peer:
        request = asyncio.ensure_future(peer.call("block"))
        with anyio.fail_after(10):
            await anyio.to_thread.run_sync(blocked.wait)
        other = await peer.call("add", a=1, b=1)

    with pytest.raises(ChannelLost):
        await request
    released.set()
    assert other["structuredContent"] == {"result": 2}


@plugin.tool
async def refuse_to_stop() -> str:
    signals["waiting"].set()
    while True:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            if gave_in.is_set():
                raise


gave_in = threading.Event()


async def test_a_tool_that_refuses_to_be_cancelled_does_not_keep_the_channel_open() -> None:
    new_signals()
    before = asyncio.all_tasks()

    with anyio.fail_after(10):
        async with connect() as peer:
            request = asyncio.ensure_future(peer.call("refuse_to_stop"))
            await signals["waiting"].wait()
    with pytest.raises(ChannelLost):
        await request

    gave_in.set()
    stuck = asyncio.all_tasks() - before - {request}
    for task in stuck:
        task.cancel()
    await asyncio.wait(stuck)


async def test_a_closed_channel_refuses_requests_that_cannot_have_run() -> None:
    async with connect() as peer:
        pass

    with pytest.raises(ChannelLost) as lost:
        await peer.call("add", a=1, b=1)
    assert lost.value.sent is False


async def test_the_lifespan_runs_once_however_many_channels_there_are() -> None:
    starts: list[str] = []
    counted = Plugin("counted")
    counted.tool(lambda: "x", name="x")

    @counted.on_start
    async def start() -> None:
        starts.append("start")

    @counted.on_stop
    async def stop() -> None:
        starts.append("stop")

    async with running(counted.server):
        for _ in range(3):
            async with connect(counted.server) as one, connect(counted.server, Era.MODERN) as two:
                await one.call("x")
                await two.call("x")

    assert starts == ["start", "stop"]


async def test_fifty_rounds_leave_no_task_behind() -> None:
    before = asyncio.all_tasks()

    for round_ in range(50):
        new_signals()
        async with connect(era=ERAS[round_ % 2]) as peer:
            await peer.call("add_on_the_loop", a=1, b=1)
            unfinished = asyncio.ensure_future(peer.call("wait_for_nothing"))
            await signals["waiting"].wait()
        with pytest.raises(ChannelLost):
            await unfinished

    assert asyncio.all_tasks() == before

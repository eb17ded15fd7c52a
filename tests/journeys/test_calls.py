"""A call arrives as it was sent, and its result comes back as it was given."""

import asyncio
from typing import Any

import pytest

from tests.gateway_under_test import Person
from tests.journeys.conftest import Journey
from tests.journeys.raw_client import INFO, META, RawClient, Refused
from tests.servers import offers

pytestmark = pytest.mark.anyio

ARGUMENTS = {
    "text": "ä \u2028 \U0001f600",
    "big": 123456789012345678901234567890,
    "negative": -(2**70),
    "exact": 0.1,
    "none": None,
    "nested": [{"x": [[]]}, {}],
    "": "no name",
}
OWN_META = {"example.com/trace": offers.VENDOR, "traceparent": "00-0af7651916cd43dd-01"}


async def test_arguments_meta_and_unknown_fields_reach_the_server(journey: Journey) -> None:
    async with journey.raw() as client:
        heard = await client.structured(
            journey.name("echo"), ARGUMENTS, _meta=OWN_META, **{"x-vendor": offers.VENDOR}
        )

    assert heard["arguments"] == ARGUMENTS
    own = {key: value for key, value in heard["meta"].items() if not key.startswith(META)}
    assert own == OWN_META
    assert heard["further"] == {"x-vendor": offers.VENDOR}


async def test_a_result_comes_back_with_every_field(journey: Journey) -> None:
    async with journey.raw() as client:
        result = await client.call(journey.name("echo"), {}, _meta=OWN_META)

    meta = dict(result["_meta"])
    if journey.era == "modern":
        assert meta.pop(META + "serverInfo")["name"] == "trunkline"
        assert result["resultType"] == "complete"
        assert not result.keys() & {"ttlMs", "cacheScope"}
    else:
        assert not result.keys() & {"resultType", "ttlMs", "cacheScope"}
    assert meta == {"example.com/result": offers.VENDOR, **OWN_META}
    assert result["isError"] is False
    assert result["x-vendor"] == offers.VENDOR
    assert result["structuredContent"]["x-vendor"] == offers.VENDOR
    assert result["content"][0]["annotations"] == offers.CONTENTS[0]["annotations"]


async def test_every_type_of_content_comes_back_as_it_was(journey: Journey) -> None:
    async with journey.raw() as client:
        result = await client.call(journey.name("contents"))

    assert result["content"] == list(offers.CONTENTS)


async def test_a_tool_that_fails_says_so_in_its_own_words(journey: Journey) -> None:
    async with journey.raw() as client:
        result = await client.call(journey.name("fail"), {"message": "No luck."})

    assert result["isError"] is True
    assert result["content"] == [{"type": "text", "text": "No luck."}]
    assert result["x-vendor"] == offers.VENDOR
    assert "trunkline/error" not in result.get("_meta", {})


@pytest.mark.parametrize("code", [-31999, -32603, 42])
async def test_a_json_rpc_error_keeps_its_code_message_and_data(
    journey: Journey, code: int
) -> None:
    data = {"why": [1, None], "big": 2**80, "x-vendor": offers.VENDOR}
    async with journey.raw() as client:
        with pytest.raises(Refused) as refused:
            await client.call(
                journey.name("raise_error"), {"code": code, "message": "Broken.", "data": data}
            )

    assert (refused.value.code, refused.value.message) == (code, "Broken.")
    assert refused.value.data == data


async def test_an_unknown_tool_is_answered_with_near_names(journey: Journey) -> None:
    async with journey.raw() as client:
        with pytest.raises(Refused) as refused:
            await client.call(journey.name("ecko"))

    assert refused.value.code == -32602
    assert refused.value.data["code"] == "tool_not_found"
    assert journey.name("echo") in refused.value.data["similar"]
    assert f"There is no tool named {journey.name('ecko')!r}. Did you mean" in refused.value.message


@pytest.mark.parametrize("arguments", [["a"], "text", 3, True])
async def test_arguments_that_are_no_object_are_refused(journey: Journey, arguments: Any) -> None:
    async with journey.raw() as client:
        with pytest.raises(Refused, match="must be an object") as refused:
            await client.request(
                "tools/call", {"name": journey.name("echo"), "arguments": arguments}
            )

    assert refused.value.code == -32602
    assert refused.value.data["code"] == "invalid_arguments"


async def test_a_call_without_a_name_is_refused(journey: Journey) -> None:
    async with journey.raw() as client:
        with pytest.raises(Refused) as refused:
            await client.request("tools/call", {"arguments": {}})

    # The modern era has a name in the headers, and what misses it is refused before it is read.
    assert refused.value.code in (-32602, -32020)


async def test_progress_comes_under_the_clients_own_token(journey: Journey) -> None:
    async with journey.raw() as client:
        meta = {"progressToken": "token-of-mine"}
        await client.call(journey.name("slow"), {"seconds": 0.03, "steps": 3}, _meta=meta)
        told = [one["params"] for one in client.heard]

    assert [one["progress"] for one in told] == [1, 2, 3]
    assert {one["progressToken"] for one in told} == {"token-of-mine"}
    assert {one["total"] for one in told} == {3}
    assert told[0]["message"] == "step 1 of 3"


async def test_without_a_token_there_is_no_progress(journey: Journey) -> None:
    async with journey.raw() as client:
        await client.call(journey.name("slow"), {"seconds": 0.01, "steps": 2})

    assert client.heard == []


async def test_a_cancelled_call_is_cancelled_at_the_server(journey: Journey) -> None:
    person, held = Person(), asyncio.Event()
    key = f"{journey.era}-gives-up"

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        held.set()

    async with journey.client(person) as client, asyncio.timeout(60):
        call = asyncio.create_task(
            client.call_tool(journey.name("hold"), {"key": key}, progress_callback=on_progress)
        )
        await held.wait()
        call.cancel()
        await asyncio.wait({call})
        cancelled: list[str] = []
        while key not in cancelled:
            told = await client.call_tool(journey.name("cancelled_calls"), {})
            cancelled = (told.structured_content or {})["cancelled"]

    assert call.cancelled()


async def test_the_server_learns_who_calls_and_never_more(journey: Journey) -> None:
    secrets = {"Authorization": "Bearer of-the-client", "X-Secret": "of-the-client"}
    async with journey.raw() as client:
        params = {"name": journey.name("whoami"), "arguments": {}}
        who = (await client.request("tools/call", params, headers=secrets))["structuredContent"]

    assert who["era"] == journey.downstream_era
    assert "of-the-client" not in str(who)
    if journey.downstream_era == "modern":
        assert who["clientInfo"] == INFO
        assert who["capabilities"] == client.capabilities
    else:
        assert who["clientInfo"]["name"] == "trunkline"  # the session is shared


async def test_routing_headers_name_what_the_server_knows(journey: Journey) -> None:
    async with journey.raw() as client:
        who = await headers_of(client, journey)

    if journey.transport == "http" and journey.downstream_era == "modern":
        assert who["mcp-method"] == "tools/call"
        assert who["mcp-name"] == "routed"
        assert who["mcp-protocol-version"] == "2026-07-28"
        assert who["mcp-param-region"] == "north"
    else:
        assert not who.keys() & {"mcp-method", "mcp-name", "mcp-param-region"}


async def headers_of(client: RawClient, journey: Journey) -> dict[str, str]:
    """The headers with which a call to `routed` arrived."""
    params = {"name": journey.name("routed"), "arguments": {"region": "north"}}
    param = {"Mcp-Param-Region": "north"} if journey.era == "modern" else {}
    result = await client.request("tools/call", params, headers=param)
    return result["structuredContent"]["headers"]


async def test_a_header_that_contradicts_the_body_is_refused(modern_journey: Journey) -> None:
    params = {"name": modern_journey.name("routed"), "arguments": {"region": "north"}}
    async with modern_journey.raw() as client:
        for wrong in ({"Mcp-Param-Region": "south"}, {"Mcp-Name": "routed"}):
            with pytest.raises(Refused) as refused:
                await client.request("tools/call", params, headers=wrong)
            assert (refused.value.code, refused.value.status) == (-32020, 400)


async def test_ping_is_answered_in_the_era_that_has_it(journey: Journey) -> None:
    async with journey.raw() as client:
        if journey.era == "handshake":
            assert await client.request("ping") == {}
            return
        with pytest.raises(Refused) as refused:
            await client.request("ping")

    assert (refused.value.code, refused.value.status) == (-32601, 404)

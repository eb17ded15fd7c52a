"""What a server asks reaches the client that called, whole, and so does the answer."""

from pathlib import Path

import pytest

from tests.gateway_under_test import Gateway, gateway
from tests.journeys.conftest import Journey
from tests.journeys.raw_client import ABILITIES, META, Json, Refused, raw_client
from tests.servers import offers
from tests.servers.everything import FORM
from tests.servers.processes import stdio_entry

pytestmark = pytest.mark.anyio

THOUGHT: Json = {
    "role": "assistant",
    "content": {"type": "image", "data": offers.PIXEL, "mimeType": "image/png"},
    "model": "model-of-the-client",
    "stopReason": "endTurn",
    "_meta": {"example.com/thought": offers.VENDOR},
    "x-vendor": offers.VENDOR,
}
FILLED: Json = {
    "action": "accept",
    "content": {"name": "Ada", "age": 36},
    "_meta": {"example.com/filled": offers.VENDOR},
    "x-vendor": offers.VENDOR,
}
ROOTS: Json = {
    "roots": [{"uri": "file:///home/ada", "name": "home", "_meta": {"x": 1}, "x-vendor": 1}],
    "x-vendor": offers.VENDOR,
}
ANSWERS = {"sampling/createMessage": THOUGHT, "elicitation/create": FILLED, "roots/list": ROOTS}


async def reply(method: str, params: Json) -> Json:
    """A client that can answer everything."""
    return ANSWERS[method]


def asked_of(message: Json) -> Json:
    """The params of a question."""
    return message["params"]


async def test_a_model_is_asked_and_answers_with_every_field(journey: Journey) -> None:
    async with journey.raw(answer=reply) as client:
        told = await client.structured(journey.name("think"), {"prompt": "Why?"})

    question = asked_of(client.asked[0])
    assert client.asked[0]["method"] == "sampling/createMessage"
    assert question["messages"][0]["content"] == {"type": "text", "text": "Why?"}
    assert question["messages"][1]["content"]["data"] == offers.PIXEL
    assert question["modelPreferences"] == {"hints": [{"name": "small"}], "costPriority": 0.5}
    assert question["stopSequences"] == ["END"]
    assert question["x-vendor"] == question["metadata"]["x-vendor"] == offers.VENDOR
    assert told["answer"] == THOUGHT


async def test_a_form_is_shown_and_filled_in_with_every_field(journey: Journey) -> None:
    async with journey.raw(answer=reply) as client:
        told = await client.structured(journey.name("ask"), {"message": "Who?"})

    assert asked_of(client.asked[0]) == {
        "message": "Who?",
        "mode": "form",
        "requestedSchema": FORM,
        "x-vendor": offers.VENDOR,
    }
    assert told["answers"] == [FILLED]


async def test_a_url_is_shown_as_a_url(journey: Journey) -> None:
    async with journey.raw(answer=reply) as client:
        await client.structured(journey.name("ask"), {"mode": "url"})

    question = asked_of(client.asked[0])
    assert question["mode"] == "url"
    assert question["url"] == "https://example.com/sign-in"
    assert ("elicitationId" in question) == (journey.downstream_era == "handshake")


async def test_several_rounds_of_questions_end_in_one_result(journey: Journey) -> None:
    async with journey.raw(answer=reply) as client:
        told = await client.structured(journey.name("ask"), {"rounds": 4})

    assert len(client.asked) == 4
    assert told["answers"] == [FILLED] * 4


async def test_questions_asked_together_are_answered_by_their_names(journey: Journey) -> None:
    async with journey.raw(answer=reply) as client:
        told = await client.structured(journey.name("interview"))

    assert told["answers"] == {"user": FILLED, "model": THOUGHT, "roots": ROOTS}
    assert len(client.asked) == 3


async def test_roots_are_fetched_from_the_client(journey: Journey) -> None:
    async with journey.raw(answer=reply) as client:
        told = await client.structured(journey.name("roots"))

    assert told["answer"] == ROOTS


async def test_a_prompt_may_ask_first(journey: Journey) -> None:
    async with journey.raw(answer=reply) as client:
        result = await client.ask("prompts/get", {"name": journey.name("confirmed")})

    assert asked_of(client.asked[0])["message"] == "Sure?"
    assert '"name":"Ada"' in result["messages"][0]["content"]["text"]


async def test_a_resource_may_ask_first(journey: Journey) -> None:
    uri = journey.uri(offers.ASKING)
    async with journey.raw(answer=reply) as client:
        result = await client.ask("resources/read", {"uri": uri})

    assert asked_of(client.asked[0])["message"] == "Sure?"
    assert '"name":"Ada"' in result["contents"][0]["text"]
    assert result["contents"][0]["uri"] == uri


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_person_may_refuse(journey: Journey, action: str) -> None:
    async def refuse(method: str, params: Json) -> Json:
        return {"action": action}

    async with journey.raw(answer=refuse) as client:
        told = await client.structured(journey.name("ask"))

    assert told["answers"] == [{"action": action}]


async def test_a_client_that_cannot_be_asked_is_not(journey: Journey) -> None:
    mute = {key: value for key, value in ABILITIES.items() if key != "elicitation"}
    async with journey.raw(capabilities=mute) as client:
        with pytest.raises(Refused, match="elicitation") as refused:
            await client.call(journey.name("ask"))

    assert client.asked == []
    if journey.era == "modern":
        assert refused.value.code == -32021
        assert refused.value.data["requiredCapabilities"] == {"elicitation": {}}


@pytest.mark.parametrize("sharing", ["client", "org"])
async def test_changed_roots_are_told_where_the_session_is_the_clients_own(
    tmp_path: Path, sharing: str
) -> None:
    entry = {**stdio_entry("everything", era="handshake"), "sharing": sharing}
    async with (
        gateway({"one": entry}, tmp_path) as trunkline,
        raw_client(trunkline.mcp, "handshake", answer=reply) as client,
    ):
        told = await client.structured("one__roots")
        await client.notify("notifications/roots/list_changed")
        # Over stdio everything arrives in its order: what was told is counted by now.
        counted = (await client.structured("one__counters"))["methods"]

    assert told["answer"] == ROOTS
    assert counted.get("notifications/roots/list_changed", 0) == (1 if sharing == "client" else 0)


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_modern_servers_state_passes_untouched(
    shared_gateway: Gateway, transport: str
) -> None:
    journey = Journey(shared_gateway, "modern", f"modern_{transport}")
    params = {"name": journey.name("interview"), "arguments": {}}
    async with journey.raw() as client:
        first = await client.request("tools/call", params)
        # The server seals its state: one changed character and it refuses.
        forged = first["requestState"][:-5] + "AAAA="
        with pytest.raises(Refused, match="not issued by this server"):
            await client.request("tools/call", {**params, "requestState": forged})
        answers = {"user": FILLED, "model": THOUGHT, "roots": ROOTS}
        again = {**params, "inputResponses": answers, "requestState": first["requestState"]}
        result = await client.request("tools/call", again)

    assert first["resultType"] == "input_required"
    assert not first.keys() & {"ttlMs", "cacheScope"}
    assert first["_meta"][META + "serverInfo"]["name"] == "trunkline"
    assert not first["requestState"].startswith("trunkline.")
    assert result["structuredContent"]["answers"] == answers


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_held_call_goes_on_for_the_same_request_only(
    shared_gateway: Gateway, transport: str
) -> None:
    journey = Journey(shared_gateway, "modern", f"handshake_{transport}")
    params = {"name": journey.name("ask"), "arguments": {}}
    async with journey.raw() as client:
        first = await client.request("tools/call", params)
        (key,) = first["inputRequests"]
        again = {"inputResponses": {key: FILLED}, "requestState": first["requestState"]}
        with pytest.raises(Refused, match="belongs to another request"):
            await client.request("tools/call", {**params, "name": journey.name("echo"), **again})
        half = await client.request("tools/call", {**params, "requestState": first["requestState"]})
        again["requestState"] = half["requestState"]
        result = await client.request("tools/call", {**params, **again})
        with pytest.raises(Refused, match="expired or was used"):
            await client.request("tools/call", {**params, **again})

    assert first["resultType"] == half["resultType"] == "input_required"
    assert half["inputRequests"] == first["inputRequests"]
    assert result["structuredContent"]["answers"] == [FILLED]

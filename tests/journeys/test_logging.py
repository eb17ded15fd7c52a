"""A client sees the log messages it wants, of its own calls, whole."""

import asyncio

import pytest

from tests.gateway_under_test import Gateway
from tests.journeys.conftest import Journey
from tests.journeys.raw_client import META, RawClient, Refused
from tests.servers import offers
from tests.servers.raw import LEVELS

pytestmark = pytest.mark.anyio


def levels(client: RawClient) -> list[str]:
    """The levels of the messages a client has heard."""
    logs = [one for one in client.heard if one["method"] == "notifications/message"]
    return [one["params"]["level"] for one in logs]


async def test_a_message_comes_with_every_field(journey: Journey) -> None:
    meta = {META + "logLevel": "debug"} if journey.era == "modern" else {}
    async with journey.raw() as client:
        if journey.era == "handshake":
            await client.request("logging/setLevel", {"level": "debug"})
        await client.call(
            journey.name("log"), {"levels": ["error"], "text": journey.era}, _meta=meta
        )

    assert client.heard == [
        {
            "jsonrpc": "2.0",
            "method": "notifications/message",
            "params": {
                "level": "error",
                "logger": "everything",
                "data": {"text": journey.era, "x-vendor": offers.VENDOR},
                "_meta": {"example.com/log": offers.VENDOR},
            },
        }
    ]


async def test_a_handshake_client_hears_from_the_level_it_has_set(
    handshake_journey: Journey,
) -> None:
    async with handshake_journey.raw() as client:
        await client.request("logging/setLevel", {"level": "warning"})
        await client.call(handshake_journey.name("log"))
        first = levels(client)
        client.heard.clear()
        await client.request("logging/setLevel", {"level": "alert"})
        await client.call(handshake_journey.name("log"))

    assert first == list(LEVELS[3:])
    assert levels(client) == ["alert", "emergency"]


async def test_each_client_has_a_level_of_its_own(handshake_journey: Journey) -> None:
    async with handshake_journey.raw() as curious, handshake_journey.raw() as calm:
        await curious.request("logging/setLevel", {"level": "debug"})
        await calm.request("logging/setLevel", {"level": "emergency"})
        await curious.call(handshake_journey.name("log"))
        await calm.call(handshake_journey.name("log"))

    assert levels(curious) == list(LEVELS)
    assert levels(calm) == ["emergency"]


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_level_of_a_client_that_has_left_no_longer_counts(
    shared_gateway: Gateway, transport: str
) -> None:
    journey = Journey(shared_gateway, "handshake", f"handshake_{transport}")
    modern = Journey(shared_gateway, "modern", f"handshake_{transport}")
    async with modern.raw() as curious:
        await curious.call(modern.name("log"), {}, _meta={META + "logLevel": "debug"})
    async with journey.raw() as curious:
        await curious.request("logging/setLevel", {"level": "debug"})
    async with journey.raw() as calm:
        lowest = "debug"
        # That somebody has left is noticed a moment later; setting a level counts who is there.
        async with asyncio.timeout(60):
            while lowest != "error":
                await calm.request("logging/setLevel", {"level": "error"})
                asked = await calm.structured(journey.name("counters"))
                lowest = asked["levels"][-1]
        await calm.call(journey.name("log"))

    assert levels(calm) == list(LEVELS[4:])


async def test_a_modern_client_hears_what_the_request_asks_for(modern_journey: Journey) -> None:
    async with modern_journey.raw() as client:
        await client.call(modern_journey.name("log"))
        unasked = levels(client)
        meta = {META + "logLevel": "critical"}
        await client.call(modern_journey.name("log"), {}, _meta=meta)

    assert unasked == []
    assert levels(client) == ["critical", "alert", "emergency"]


async def test_a_level_that_does_not_exist_is_left_to_the_server(modern_journey: Journey) -> None:
    meta = {META + "logLevel": "loud"}
    async with modern_journey.raw() as client:
        call = client.call(modern_journey.name("log"), {}, _meta=meta)
        if modern_journey.downstream_era == "modern":
            with pytest.raises(Refused, match="Invalid request parameters"):
                await call
        else:
            assert "isError" not in await call


async def test_a_handshake_client_that_never_set_a_level_hears_everything(
    handshake_journey: Journey,
) -> None:
    async with handshake_journey.raw() as client:
        await client.call(handshake_journey.name("log"))

    assert levels(client) == list(LEVELS)


async def test_an_unknown_level_is_refused_with_the_known_ones(
    handshake_journey: Journey,
) -> None:
    async with handshake_journey.raw() as client:
        with pytest.raises(Refused, match="The levels are debug, info") as refused:
            await client.request("logging/setLevel", {"level": "loud"})

    assert refused.value.code == -32602


async def test_a_modern_client_cannot_set_a_level_for_good(modern_journey: Journey) -> None:
    async with modern_journey.raw() as client:
        with pytest.raises(Refused) as refused:
            await client.request("logging/setLevel", {"level": "info"})

    assert (refused.value.code, refused.value.status) == (-32601, 404)

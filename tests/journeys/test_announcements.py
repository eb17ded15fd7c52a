"""What changes at a server is heard by every client that wants to know, in its own era."""

import asyncio
from pathlib import Path

import pytest

from tests.gateway_under_test import gateway
from tests.journeys.conftest import ERAS, Journey
from tests.journeys.raw_client import META, RawClient, Refused, raw_client
from tests.servers import offers
from tests.servers.processes import running

pytestmark = pytest.mark.anyio

LISTS = ("tools", "prompts", "resources")
UPDATED = "notifications/resources/updated"


async def names(client: RawClient) -> set[str]:
    """Everything that is listed."""
    tools = (await client.request("tools/list"))["tools"]
    prompts = (await client.request("prompts/list"))["prompts"]
    resources = (await client.request("resources/list"))["resources"]
    return {one["name"] for one in (*tools, *prompts)} | {one["uri"] for one in resources}


async def test_what_a_server_adds_and_removes_is_seen_without_reconnecting(
    journey: Journey,
) -> None:
    fruit = f"fruit_{journey.era}_{journey.downstream}"
    grown = {journey.name(fruit), f"grown://{fruit}"}
    async with journey.raw() as client, client.listening(lists=LISTS):
        await client.call(journey.name("grow"), {"name": fruit})
        for kind in LISTS:
            await client.hear(f"notifications/{kind}/list_changed")
        after_growing = await names(client)
        called = await client.call(journey.name(fruit))
        await client.call(journey.name("shrink"), {"name": fruit})
        for kind in LISTS:
            await client.hear(f"notifications/{kind}/list_changed")
        after_shrinking = await names(client)
        with pytest.raises(Refused, match="There is no tool named"):
            await client.call(journey.name(fruit))

    assert grown <= after_growing
    assert called["content"][0]["text"] == f"{fruit} has grown"
    assert not grown & after_shrinking


async def test_a_modern_client_hears_only_what_it_asked_for(modern_journey: Journey) -> None:
    fruit = f"berry_{modern_journey.downstream}"
    async with modern_journey.raw() as client, client.listening(lists=["prompts"]):
        await client.call(modern_journey.name("grow"), {"name": fruit})
        heard = await client.hear("notifications/prompts/list_changed")
        await client.call(modern_journey.name("shrink"), {"name": fruit})
        await client.hear("notifications/prompts/list_changed")

    assert META + "subscriptionId" in heard["_meta"]
    assert client.heard == []


async def test_a_subscriber_hears_of_its_resource_under_the_uri_it_knows(
    journey: Journey,
) -> None:
    uri = journey.uri(offers.WATCHED)
    async with journey.raw() as client, client.listening(uris=[uri]):
        await client.call(journey.name("touch"), {"uri": offers.BLOB})
        await client.call(journey.name("touch"), {"uri": offers.WATCHED})
        heard = await client.hear(UPDATED)

    assert heard["uri"] == uri
    assert (META + "subscriptionId" in heard.get("_meta", {})) == (journey.era == "modern")


async def test_who_has_unsubscribed_hears_no_more(journey: Journey) -> None:
    uri = journey.uri(offers.WATCHED)
    async with journey.raw() as client:
        async with client.listening(uris=[uri]):
            await client.call(journey.name("touch"), {"uri": offers.WATCHED})
            await client.hear(UPDATED)
        async with client.listening(uris=[journey.uri(offers.STATIC)]):
            await client.call(journey.name("touch"), {"uri": offers.WATCHED})
            await client.call(journey.name("touch"), {"uri": offers.STATIC})
            heard = await client.hear(UPDATED)

    assert heard["uri"] == journey.uri(offers.STATIC)


async def test_two_subscribers_hear_of_it_and_the_one_that_stays_still_does(
    journey: Journey,
) -> None:
    uri = journey.uri(offers.WATCHED)
    async with journey.raw() as stays, stays.listening(uris=[uri]):
        async with journey.raw() as leaves, leaves.listening(uris=[uri]):
            await stays.call(journey.name("touch"), {"uri": offers.WATCHED})
            await leaves.hear(UPDATED)
            await stays.hear(UPDATED)
        await stays.call(journey.name("touch"), {"uri": offers.WATCHED})
        heard = await stays.hear(UPDATED)

    assert heard["uri"] == uri


async def test_subscribing_to_what_nobody_has_is_refused(handshake_journey: Journey) -> None:
    async with handshake_journey.raw() as client:
        with pytest.raises(Refused) as refused:
            await client.request("resources/subscribe", {"uri": "nobody://has/this"})

    assert refused.value.code == -32002


async def test_a_modern_client_is_told_which_subscriptions_are_honoured(
    modern_journey: Journey,
) -> None:
    person_wants = [modern_journey.uri(offers.STATIC), "nobody://has/this"]
    async with (
        modern_journey.client() as client,
        client.listen(tools_list_changed=True, resource_subscriptions=person_wants) as stream,
    ):
        honoured = stream.honored

    assert honoured.tools_list_changed
    assert honoured.prompts_list_changed is None
    assert honoured.resource_subscriptions == person_wants[:1]


@pytest.mark.parametrize("server_era", ERAS)
@pytest.mark.parametrize("era", ERAS)
async def test_a_subscription_outlives_the_restart_of_its_server(
    tmp_path: Path, era: str, server_era: str
) -> None:
    async with running("everything", era=server_era) as server:  # pyright: ignore[reportArgumentType]
        async with (
            gateway({"one": server.entry()}, tmp_path) as trunkline,
            raw_client(trunkline.mcp, era) as client,
            client.listening(lists=["tools"], uris=[offers.WATCHED]),
        ):
            await server.restart()
            # The gateway subscribes anew once it has noticed; nobody is told when that was.
            async with asyncio.timeout(60):
                while not any(one["method"] == UPDATED for one in client.heard):
                    await client.call("one__touch", {"uri": offers.WATCHED})
            await client.call("one__grow", {"name": "fig"})
            await client.hear("notifications/tools/list_changed")
            listed = await names(client)

    assert {"one__fig", "grown://fig"} <= listed

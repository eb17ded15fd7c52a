"""What is listed is what the servers said, every field of it, under the gateway's names."""

import pytest

from tests.gateway_under_test import Gateway
from tests.journeys.conftest import DOWNSTREAMS, Journey
from tests.journeys.raw_client import Refused, raw_client
from tests.servers import offers

pytestmark = pytest.mark.anyio

LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}


async def test_tools_are_listed_losslessly_and_in_order(journey: Journey) -> None:
    async with journey.raw() as client:
        listed = (await client.request("tools/list"))["tools"]

    mine = [tool for tool in listed if tool["name"].startswith(journey.name(""))]
    told = [{**tool, "name": tool["name"].removeprefix(journey.name(""))} for tool in mine]
    assert told[: len(offers.TOOLS)] == list(offers.TOOLS)


async def test_prompts_are_listed_losslessly_and_in_order(journey: Journey) -> None:
    async with journey.raw() as client:
        listed = (await client.request("prompts/list"))["prompts"]

    mine = [prompt for prompt in listed if prompt["name"].startswith(journey.name(""))]
    told = [{**prompt, "name": prompt["name"].removeprefix(journey.name(""))} for prompt in mine]
    assert told[: len(offers.PROMPTS)] == list(offers.PROMPTS)


async def test_resources_are_listed_losslessly_and_in_order(journey: Journey) -> None:
    async with journey.raw() as client:
        listed = (await client.request("resources/list"))["resources"]

    mine = [resource for resource in listed if resource["uri"].startswith(journey.uri(""))]
    told = [{**resource, "uri": journey.own(resource["uri"])} for resource in mine]
    assert told[: len(offers.RESOURCES)] == list(offers.RESOURCES)


async def test_templates_are_listed_losslessly_and_in_order(journey: Journey) -> None:
    async with journey.raw() as client:
        listed = (await client.request("resources/templates/list"))["resourceTemplates"]

    mine = [one for one in listed if one["uriTemplate"].startswith(journey.uri(""))]
    told = [{**one, "uriTemplate": journey.own(one["uriTemplate"])} for one in mine]
    assert told == list(offers.TEMPLATES)


async def test_servers_stand_in_the_order_of_the_file(shared_gateway: Gateway, era: str) -> None:
    async with raw_client(shared_gateway.mcp, era) as client:
        listed = (await client.request("tools/list"))["tools"]

    assert list(dict.fromkeys(tool["name"].split("__")[0] for tool in listed)) == list(DOWNSTREAMS)


@pytest.mark.parametrize("method", LISTS)
async def test_a_foreign_cursor_is_refused_with_a_sentence(journey: Journey, method: str) -> None:
    async with journey.raw() as client:
        whole = await client.request(method)
        with pytest.raises(Refused, match="cursor is unknown") as refused:
            await client.request(method, {"cursor": "after:3"})

    assert "nextCursor" not in whole
    assert refused.value.code == -32602
    assert refused.value.data["code"] == "invalid_arguments"


@pytest.mark.parametrize("method", LISTS)
async def test_only_modern_lists_carry_what_the_modern_era_added(
    journey: Journey, method: str
) -> None:
    async with journey.raw() as client:
        listed = await client.request(method)

    if journey.era == "handshake":
        assert listed.keys() == {LISTS[method]}
    else:
        assert listed["resultType"] == "complete"
        assert listed["ttlMs"] == 0  # the handshake servers name none, and the smallest counts
        assert listed["cacheScope"] == "private"
        assert listed["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "trunkline"


async def test_the_greeting_names_capabilities_and_every_servers_instructions(
    journey: Journey,
) -> None:
    async with journey.raw() as client:
        greeting = client.greeting

    capabilities = greeting["capabilities"]
    assert capabilities["tools"] == capabilities["prompts"] == {"listChanged": True}
    assert capabilities["resources"] == {"subscribe": True, "listChanged": True}
    assert capabilities["completions"] == {}
    assert f"# {journey.downstream}\n\n{offers.INSTRUCTIONS}" in greeting["instructions"]
    if journey.era == "handshake":
        assert greeting["serverInfo"]["name"] == "trunkline"
        assert "resultType" not in greeting
    else:
        assert greeting["resultType"] == "complete"
        assert "2026-07-28" in greeting["supportedVersions"]

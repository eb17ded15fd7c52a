"""Prompts, resources, templates and completion, from both eras to both eras."""

import pytest

from tests.journeys.conftest import Journey
from tests.journeys.raw_client import META, Json, Refused
from tests.servers import offers

pytestmark = pytest.mark.anyio

MARKS: Json = {"_meta": {"example.com/contents": offers.VENDOR}, "x-vendor": offers.VENDOR}


def without_stamp(result: Json) -> Json:
    """The `_meta` of a result without what the gateway signs in the modern era."""
    return {key: value for key, value in result["_meta"].items() if not key.startswith(META)}


async def test_a_prompt_gets_its_arguments_and_comes_back_whole(journey: Journey) -> None:
    async with journey.raw() as client:
        params = {"name": journey.name("greet"), "arguments": {"name": "Ada", "style": "formal"}}
        result = await client.request("prompts/get", params)

    assert result["description"] == "The prompt greet"
    assert result["messages"] == [
        {
            "role": "user",
            "content": {"type": "text", "text": 'greet {"name":"Ada","style":"formal"}'},
            "x-vendor": offers.VENDOR,
        }
    ]
    assert without_stamp(result) == {"example.com/result": offers.VENDOR}
    assert result["x-vendor"] == offers.VENDOR
    assert ("resultType" in result) == (journey.era == "modern")


async def test_a_prompt_may_hold_images_and_resources(journey: Journey) -> None:
    async with journey.raw() as client:
        result = await client.request("prompts/get", {"name": journey.name("pictured")})

    contents = [message["content"] for message in result["messages"]]
    assert contents == [offers.CONTENTS[1], offers.CONTENTS[3]]


async def test_a_prompt_that_misses_an_argument_is_refused_by_its_server(journey: Journey) -> None:
    async with journey.raw() as client:
        with pytest.raises(Refused, match="Missing required argument: name") as refused:
            await client.request("prompts/get", {"name": journey.name("greet")})

    assert refused.value.code == -32602


async def test_an_unknown_prompt_is_answered_with_near_names(journey: Journey) -> None:
    async with journey.raw() as client:
        with pytest.raises(Refused) as refused:
            await client.request("prompts/get", {"name": journey.name("gret")})

    assert refused.value.code == -32602
    assert refused.value.data["code"] == "prompt_not_found"
    assert journey.name("greet") in refused.value.data["similar"]


async def test_a_text_is_read_under_the_uri_it_was_asked_for(journey: Journey) -> None:
    uri = journey.uri(offers.STATIC)
    async with journey.raw() as client:
        result = await client.request("resources/read", {"uri": uri})

    (contents,) = result["contents"]
    assert contents.pop("text").startswith(f"{offers.STATIC} version")
    assert contents == {"uri": uri, "mimeType": "text/markdown", **MARKS}
    assert result["x-vendor"] == offers.VENDOR


async def test_a_blob_is_read_as_it_is(journey: Journey) -> None:
    uri = journey.uri(offers.BLOB)
    async with journey.raw() as client:
        result = await client.request("resources/read", {"uri": uri})

    assert result["contents"] == [
        {"uri": uri, "mimeType": "image/png", "blob": offers.PIXEL, **MARKS}
    ]


async def test_only_modern_reads_say_how_long_they_keep(journey: Journey) -> None:
    async with journey.raw() as client:
        result = await client.request("resources/read", {"uri": journey.uri(offers.STATIC)})

    if journey.era == "handshake":
        assert not result.keys() & {"resultType", "ttlMs", "cacheScope"}
    elif journey.downstream_era == "modern":
        assert (result["ttlMs"], result["cacheScope"]) == (1000, "public")
    else:
        assert (result["ttlMs"], result["cacheScope"]) == (0, "private")


@pytest.mark.parametrize(
    "own", ["weather://Paris/monday", "page://a/b/c", "search://notes?q=x", "user://ünï"]
)
async def test_a_resource_of_a_template_is_read(journey: Journey, own: str) -> None:
    async with journey.raw() as client:
        result = await client.request("resources/read", {"uri": journey.uri(own)})

    assert result["contents"][0]["uri"] == journey.uri(own)
    assert result["contents"][0]["text"] == f"{own} version 0"


async def test_a_resource_that_several_servers_have_must_say_whose(journey: Journey) -> None:
    async with journey.raw() as client:
        with pytest.raises(Refused, match="Several servers offer it") as refused:
            await client.request("resources/read", {"uri": offers.STATIC})

    assert journey.uri(offers.STATIC) in refused.value.message
    assert refused.value.data == {"code": "resource_not_found", "uri": offers.STATIC}


async def test_a_resource_that_is_not_there_gets_the_code_of_the_clients_era(
    journey: Journey,
) -> None:
    async with journey.raw() as client:
        with pytest.raises(Refused, match="Unknown resource: note://nowhere") as by_server:
            await client.request("resources/read", {"uri": journey.uri("note://nowhere")})
        with pytest.raises(Refused) as by_gateway:
            await client.request("resources/read", {"uri": "nobody://has/this"})

    # A modern server's own -32602 cannot be told from any other mistake, and stays what it is.
    older = -32002 if journey.downstream_era == "handshake" else -32602
    assert by_server.value.code == (older if journey.era == "handshake" else -32602)
    assert by_gateway.value.code == (-32002 if journey.era == "handshake" else -32602)


async def test_the_arguments_of_a_prompt_are_completed_with_their_context(
    journey: Journey,
) -> None:
    ref = {"type": "ref/prompt", "name": journey.name("greet")}
    async with journey.raw() as client:
        names = await client.request(
            "completion/complete", {"ref": ref, "argument": {"name": "name", "value": "a"}}
        )
        styles = await client.request(
            "completion/complete",
            {
                "ref": ref,
                "argument": {"name": "style", "value": "f"},
                "context": {"arguments": {"name": "Ada"}},
            },
        )

    assert names["completion"]["values"] == ["Ada"]
    assert styles["completion"] == {
        "values": ["formal", "friendly"],
        "total": 2,
        "hasMore": False,
        "x-vendor": offers.VENDOR,
    }
    assert names["x-vendor"] == offers.VENDOR


async def test_the_variables_of_a_template_are_completed_with_their_context(
    journey: Journey,
) -> None:
    ref = {"type": "ref/resource", "uri": journey.uri("weather://{city}/{day}")}
    async with journey.raw() as client:
        cities = await client.request(
            "completion/complete", {"ref": ref, "argument": {"name": "city", "value": "P"}}
        )
        days = await client.request(
            "completion/complete",
            {
                "ref": ref,
                "argument": {"name": "day", "value": ""},
                "context": {"arguments": {"city": "Porto"}},
            },
        )

    assert cities["completion"]["values"] == ["Paris", "Pau", "Perth"]
    assert cities["completion"]["hasMore"] is True
    assert days["completion"]["values"] == ["friday", "saturday"]


async def test_a_completion_of_something_unknown_is_refused_with_a_sentence(
    journey: Journey,
) -> None:
    argument = {"name": "name", "value": ""}
    async with journey.raw() as client:
        for ref, said in (
            ({"type": "ref/prompt", "name": "nobody__has"}, "There is no prompt named"),
            ({"type": "ref/resource", "uri": "nobody://{x}"}, "There is no resource"),
            ({"type": "ref/tool", "name": "x"}, "knows ref/prompt and ref/resource"),
        ):
            with pytest.raises(Refused, match=said):
                await client.request("completion/complete", {"ref": ref, "argument": argument})

"""The tools about tools, as a model reads them: how one is called, what it is told."""

from dataclasses import replace
from typing import Any

import pytest
from tests.catalog.shelf import Shelf, catalog_of, tool, tools
from tests.search.searchable import Searchable, searchable

from trunkline.catalog.catalog import Catalog
from trunkline.errors import InvalidArguments
from trunkline.gateway.exposure import META, Exposure, Mode
from trunkline.gateway.meta_tools import (
    DEFINITIONS,
    LONGEST,
    MOST_SHOWN,
    MetaTools,
    meant_by,
    signature,
)
from trunkline.models import LOCAL, Client, Era, Json, Listing
from trunkline.wire import LATEST_MODERN, encode

pytestmark = pytest.mark.anyio


class Somebody:
    """A caller who cannot be asked anything."""

    standing = None
    log_level = None

    def __init__(self, org: str | None = None) -> None:
        self.client = Client(
            id="somebody",
            era=Era.MODERN,
            protocol_version=LATEST_MODERN,
            principal=replace(LOCAL, org=org),
        )

    async def ask(self, method: str, params: Json | None) -> Json:
        raise NotImplementedError

    async def tell(self, method: str, params: Json | None) -> None:
        raise NotImplementedError


def catalog() -> Catalog:
    long = "Send a mail to somebody. " * 50
    schema = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}
    mail = Listing(
        tools=(
            tool("send_mail", title="Send", description=long, inputSchema=schema),
            tool("read_inbox", description="Read the\n  mails\tin the inbox."),
        ),
        prompts=({"name": "write_mail", "description": "Write a mail."},),
    )
    return catalog_of(
        Shelf("mail", mail, prefix="mail"),
        Shelf("payroll", tools("pay_salaries"), prefix="payroll", org="acme"),
    )


def meta_tools(it: Searchable, mode: Mode = "search") -> MetaTools:
    async def search() -> Any:
        await it.current()
        return it.search

    return MetaTools(it.catalog, Exposure(mode), search, "hybrid")


async def call(name: str, arguments: Any, org: str | None = None) -> Json:
    async with searchable(catalog()) as it:
        return await meta_tools(it).call(name, arguments, Somebody(org))


# -- how a tool is called -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, "go()"),
        ({"properties": {"a": True, "b": {}}, "required": ["b"]}, "go(b: any, a?: any)"),
        ({"properties": {"a": {"type": ["string", "null"]}}}, "go(a?: string|null)"),
        ({"properties": {"a": {"type": "array", "items": {"type": "null"}}}}, "go(a?: null[])"),
        ({"properties": {"a": {"type": "array"}}}, "go(a?: any[])"),
        ({"properties": {"a": {"enum": ["x", 1, None]}}}, 'go(a?: "x"|1|null)'),
        ({"properties": {"a": {"type": "string", "enum": list("abcdefg")}}}, "go(a?: string)"),
        ({"properties": {"a": {"type": "string", "enum": ["x" * 99]}}}, "go(a?: string)"),
        ({"properties": {"a": {"type": "string", "enum": []}}}, "go(a?: string)"),
        ({"properties": {"a": {"anyOf": [{"type": "null"}, {}]}}}, "go(a?: null|any)"),
        ({"properties": {"a": {"$ref": "#/$defs/A"}}}, "go(a?: any)"),
        ({"properties": {"a": True}}, "go(a?: any)"),
        ({"properties": "nonsense", "required": "nonsense"}, "go()"),
        ("nonsense", "go()"),
        (None, "go()"),
    ],
)  # fmt: skip
def test_a_signature_says_in_a_line_how_a_tool_is_called(schema: Any, expected: str) -> None:
    assert signature({"name": "go", "inputSchema": schema}) == expected


def test_a_signature_shows_what_is_needed_before_it_grows_too_long() -> None:
    properties: Json = {f"p{n}": {"type": "string"} for n in range(50)}
    shown = signature(
        {"name": "go", "inputSchema": {"properties": properties, "required": ["p49"]}}
    )

    assert shown.startswith("go(p49: string, p0?: string, ")
    assert shown.endswith(", …)")
    assert shown.count(":") == MOST_SHOWN


# -- search_tools ---------------------------------------------------------------------------------


async def test_a_hit_has_everything_that_its_call_needs_and_no_more() -> None:
    answer = (await call("search_tools", {"query": "send a mail", "limit": 1}))["structuredContent"]

    (hit,) = answer["hits"]
    assert set(hit) == {"name", "server", "title", "description", "score", "also_on", "call"}
    assert hit["name"] == "mail__send_mail"
    assert (hit["server"], hit["title"], hit["also_on"]) == ("mail", "Send", [])
    assert hit["call"] == "mail__send_mail(to: string)"
    assert len(hit["description"]) == LONGEST
    assert hit["description"].endswith("…")
    assert {**answer, "hits": []} == {
        "hits": [],
        "strategy": "hybrid",
        "degraded": False,
        "skills": [],
    }


async def test_a_model_reads_one_line_for_each_hit() -> None:
    answer = await call("search_tools", {"query": "read inbox"})

    (block,) = answer["content"]
    lines = block["text"].splitlines()
    assert lines[0] == "mail__read_inbox() - Read the mails in the inbox."
    assert len(lines) == len(answer["structuredContent"]["hits"])
    assert "isError" not in answer


async def test_schemas_and_explanations_are_shown_to_who_asks_for_them() -> None:
    arguments = {"query": "send mail", "limit": 1, "schemas": True, "explain": True}

    (hit,) = (await call("search_tools", arguments))["structuredContent"]["hits"]

    assert hit["inputSchema"]["required"] == ["to"]
    assert set(hit["explanation"]["terms"]) == {"send", "mail"}
    assert hit["explanation"]["dense"] > 0


async def test_prompts_are_found_as_what_they_are() -> None:
    answer = await call("search_tools", {"query": "write a mail", "type": "prompts"})

    (hit,) = answer["structuredContent"]["hits"]
    assert (hit["name"], hit["type"]) == ("mail__write_mail", "prompts")
    assert "call" not in hit


async def test_nothing_found_is_said_with_what_to_do() -> None:
    answer = await call("search_tools", {"query": "zebra", "strategy": "lexical"})

    assert answer["structuredContent"]["hits"] == []
    assert "Try other words" in answer["content"][0]["text"]


async def test_an_answer_that_is_not_whole_says_so() -> None:
    async with searchable(catalog()) as it:
        await it.current()
        it.embedding.is_away = True
        answer = await meta_tools(it).call("search_tools", {"query": "mail"}, Somebody())

    assert answer["structuredContent"]["degraded"]
    assert "did not answer" in answer["content"][0]["text"]
    assert answer["structuredContent"]["hits"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "search_tools: query: Field required."),
        ({"query": 7}, "search_tools: query: Input should be a valid string."),
        ({"query": "x", "limit": 0}, "limit is 0; it has to be 1 or more."),
        ({"query": "x", "limit": "many"}, "search_tools: limit: "),
        ({"query": "x", "type": "tool"}, "search_tools: type: Input should be 'tools', "),
        ({"query": "x", "servers": ["male"]}, "There is no server 'male'. Did you mean 'mail'?"),
        ({"query": "x", "colour": "red"}, "search_tools: colour: Extra inputs are not permitted."),
        ("nonsense", "search_tools: arguments: "),
        ([], "search_tools: arguments: "),
    ],
)
async def test_bad_arguments_come_back_as_a_sentence_for_the_model(
    arguments: Any, sentence: str
) -> None:
    answer = await call("search_tools", arguments)

    assert answer["isError"] is True
    assert answer["content"][0]["text"].startswith(sentence)
    assert answer["_meta"] == {"trunkline/error": {"code": "invalid_arguments"}}


async def test_a_search_sees_what_its_caller_sees() -> None:
    theirs = await call("search_tools", {"query": "pay salaries"}, "acme")
    others = await call("search_tools", {"query": "pay salaries"}, "globex")

    assert theirs["structuredContent"]["hits"][0]["name"] == "payroll__pay_salaries"
    assert "payroll" not in str(others)


# -- describe_tool --------------------------------------------------------------------------------


async def test_a_tool_is_described_whole() -> None:
    answer = await call("describe_tool", {"name": "mail__send_mail"})

    described = answer["structuredContent"]["tool"]
    assert described["inputSchema"]["required"] == ["to"]
    assert len(described["description"]) > LONGEST
    assert answer["content"][0]["text"] == encode(described).decode()


@pytest.mark.parametrize("name", sorted(META))
async def test_the_tools_about_tools_are_described_too(name: str) -> None:
    answer = await call("describe_tool", {"name": name})

    assert answer["structuredContent"]["tool"]["name"] == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [("mail__send_mial", "Did you mean 'mail__send_mail'"), ("zebra", "no tool named 'zebra'.")],
)
async def test_a_name_that_does_not_exist_is_answered_with_one_that_does(
    name: str, hint: str
) -> None:
    answer = await call("describe_tool", {"name": name})

    assert answer["isError"] is True
    assert hint in answer["content"][0]["text"]
    assert answer["_meta"]["trunkline/error"]["code"] == "tool_not_found"


async def test_what_others_have_is_not_described_and_not_suggested() -> None:
    answer = await call("describe_tool", {"name": "payroll__pay_salarie"}, "globex")

    assert answer["isError"] is True
    assert "pay_salaries" not in answer["content"][0]["text"]


# -- call_tool ------------------------------------------------------------------------------------


def test_a_call_means_the_call_that_it_names_and_keeps_everything_else() -> None:
    params = {
        "name": "call_tool",
        "arguments": {"name": "mail__send", "arguments": {"to": "Ada"}},
        "_meta": {"progressToken": 7},
        "requestState": "x",
    }

    assert meant_by(params) == {
        "name": "mail__send",
        "arguments": {"to": "Ada"},
        "_meta": {"progressToken": 7},
        "requestState": "x",
    }
    assert meant_by({"name": "call_tool", "arguments": {"name": "x"}})["arguments"] == {}


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (None, "name"),
        ({}, "name"),
        ({"name": 7}, "name"),
        ({"name": "x", "args": {}}, "args"),
        ({"name": "x", "arguments": "{}"}, "arguments"),
        ("x", "arguments"),
    ],
)
def test_a_call_that_names_nothing_is_refused(arguments: Any, where: str) -> None:
    with pytest.raises(InvalidArguments) as refusal:
        meant_by({"name": "call_tool", "arguments": arguments})

    assert str(refusal.value).startswith(f"call_tool: {where}: ")


# -- what is listed -------------------------------------------------------------------------------


async def test_they_are_listed_where_tools_are_searched_for_and_nowhere_else() -> None:
    async with searchable(catalog()) as it:
        view, client = it.catalog.snapshot.view(None), Somebody().client
        modes: tuple[Mode, ...] = ("search", "full", "auto")
        listed = {mode: meta_tools(it, mode).listed(client, view) for mode in modes}

    assert [one["name"] for one in listed["search"]] == [one["name"] for one in DEFINITIONS]
    assert not listed["full"]
    assert not listed["auto"]


async def test_one_whose_name_the_catalog_has_is_left_to_it() -> None:
    taken = catalog_of(Shelf("own", tools("search_tools")), Shelf("mail", tools("send")))
    async with searchable(taken) as it:
        listed = meta_tools(it).listed(Somebody().client, it.catalog.snapshot.view(None))

    assert [one["name"] for one in listed] == ["describe_tool", "call_tool"]

"""A search as somebody asks for it: who may find what, what is refused, what an answer says."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.catalog.shelf import Shelf, catalog_of, everybodys, tool, tools
from tests.search.searchable import ORGS, Counting, Searchable, searchable
from trunkline.errors import InvalidArguments
from trunkline.index.index import Point, Ref
from trunkline.models import LOCAL, Listing
from trunkline.search.embedding.static import StaticEmbedding
from trunkline.search.search import MOST, Request
from trunkline.search.strategies import STRATEGIES
from trunkline.search.text import ItemText

pytestmark = pytest.mark.anyio

SENDING = {"description": "Send a mail to somebody, with a subject and a text."}


def shelves() -> list[Shelf]:
    """Two mail servers that do the same, and something of each organisation's own."""
    mail = Listing(
        tools=(
            tool("send_mail", **SENDING),
            tool("read_inbox", description="Read the mails in the inbox."),
        ),
        prompts=({"name": "write_mail", "description": "Write a mail."},),
        resources=({"uri": "mail://inbox", "name": "inbox", "description": "Mails that came."},),
        templates=({"uriTemplate": "mail://{id}", "name": "one", "description": "One mail."},),
    )
    post = Listing(
        tools=(tool("sendMail", **SENDING), tool("frank", description="Stamp a parcel."))
    )
    secret = Listing(tools=(tool("mail_payroll", description="Mail the salaries."),))
    return [
        Shelf("mail", mail, prefix="mail", position=0),
        Shelf("post", post, prefix="post", position=1),
        Shelf("payroll", secret, prefix="payroll", position=2, org="acme"),
        Shelf("rockets", tools("launch_mail_rocket"), prefix="rockets", position=3, org="globex"),
    ]


@pytest.fixture
async def it() -> AsyncIterator[Searchable]:
    async with searchable(catalog_of(*shelves())) as it:
        yield it


# -- who may find what ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_an_organisation_finds_what_is_global_and_its_own(
    it: Searchable, strategy: str
) -> None:
    found = {
        org: await it.names("mail payroll rocket", org, limit=99, strategy=strategy) for org in ORGS
    }

    assert "payroll__mail_payroll" in found["acme"]
    assert "rockets__launch_mail_rocket" in found["globex"]
    assert {"payroll", "rockets"} & servers_of(found[None]) == set()
    assert servers_of(found["acme"]) & {"rockets"} == set()
    assert servers_of(found["globex"]) & {"payroll"} == set()
    assert all("mail__send_mail" in names for names in found.values())


async def test_what_others_have_does_not_show_in_a_score(it: Searchable) -> None:
    alone = catalog_of(*[shelf for shelf in shelves() if shelf.org is None])
    async with searchable(alone) as without:
        expected = [(hit.entry.name, hit.score) for hit in (await without.find("mail")).hits]

    assert [(hit.entry.name, hit.score) for hit in (await it.find("mail")).hits] == expected


async def test_another_organisations_server_is_as_unknown_as_one_that_is_not_there(
    it: Searchable,
) -> None:
    with pytest.raises(InvalidArguments) as of_another:
        await it.find("mail", "globex", servers=["payroll"])
    with pytest.raises(InvalidArguments) as of_nobody:
        await it.find("mail", "globex", servers=["payrull"])

    assert str(of_another.value).replace("payroll", "payrull") == str(of_nobody.value)


async def test_an_organisation_that_has_nothing_yet_finds_what_is_everybodys(
    it: Searchable,
) -> None:
    assert await it.names("mail", "initech") == await it.names("mail")


async def test_what_has_left_the_catalog_is_no_hit_even_while_the_index_has_it(
    it: Searchable,
) -> None:
    await it.current()

    it.catalog.remove(everybodys("mail"))
    found = await it.search.find(request("send mail"), LOCAL)

    assert await it.index.count() > 2
    assert [hit.entry.name for hit in found.hits] == ["post__sendMail", "post__frank"]


async def test_a_server_of_the_same_name_that_others_have_is_not_taken_for_ours(
    it: Searchable,
) -> None:
    await it.current()
    await it.index.upsert(
        [point_of("payroll", "mail_payroll"), point_of("mail", "send_mail", "acme")]
    )

    hits = (await it.find("mail", "acme", limit=99)).hits
    found = [one.name for hit in hits for one in (hit.entry, *hit.also_on)]

    assert "payroll__mail_payroll" in found
    assert len(found) == len(set(found))
    assert "payroll__mail_payroll" not in await it.names("mail", limit=99)


def servers_of(names: list[str]) -> set[str]:
    return {name.partition("__")[0] for name in names}


def request(words: str) -> Request:
    return Request(words=words)


def point_of(server: str, own: str, org: str | None = None) -> Point:
    """What another process has put into an index that both share."""
    text = ItemText.of("tools", tool(own), server=server)
    return Point(
        ref=Ref(ORGS[org], "tools", server, own),
        vector=np.zeros(512, np.float32),
        terms=text.count_terms(),
    )


# -- what an answer is ----------------------------------------------------------------------------


async def test_the_same_on_two_servers_is_one_hit_that_names_both(it: Searchable) -> None:
    found = await it.find("send a mail", limit=99)

    first = found.hits[0]
    assert (first.entry.name, [one.name for one in first.also_on]) == (
        "mail__send_mail",
        ["post__sendMail"],
    )
    assert "post__sendMail" not in [hit.entry.name for hit in found.hits]


async def test_a_limit_counts_hits_and_not_the_servers_that_have_them(it: Searchable) -> None:
    assert await it.names("send a mail", limit=1) == ["mail__send_mail"]
    assert len(await it.names("send a mail", limit=2)) == 2


async def test_more_than_there_is_and_more_than_is_given_can_be_asked_for() -> None:
    many = Shelf("many", tools(*(f"mail_{n}" for n in range(MOST + 50))))
    async with searchable(catalog_of(many)) as it:
        assert len(await it.names("mail", limit=10_000)) == MOST
        assert len(await it.names("mail", limit=10**30)) == MOST


@pytest.mark.parametrize(
    ("filters", "kinds"),
    [
        ({"kinds": ["prompts"]}, {"prompts"}),
        ({"kinds": ["resources", "templates"]}, {"resources", "templates"}),
        ({}, {"tools", "prompts", "resources", "templates"}),
    ],
)
async def test_only_what_was_asked_for_is_found(
    it: Searchable, filters: dict[str, Any], kinds: set[str]
) -> None:
    hits = (await it.find("mail", **filters, limit=99)).hits

    assert {hit.entry.kind for hit in hits} == kinds


async def test_only_servers_that_were_asked_for_are_searched(it: Searchable) -> None:
    assert await it.names("mail", servers=["post"]) == ["post__sendMail", "post__frank"]
    assert servers_of(await it.names("mail", servers=["post", "mail"], kinds=["tools"])) == {
        "post",
        "mail",
    }


async def test_hits_below_a_score_are_left_out(it: Searchable) -> None:
    hits = (await it.find("send a mail", limit=99)).hits
    least = hits[1].score

    some = (await it.find("send a mail", limit=99, min_score=least)).hits

    assert [hit.score for hit in some] == [hit.score for hit in hits if hit.score >= least]
    assert await it.names("send a mail", min_score=1e9) == []


async def test_a_hit_tells_what_its_score_is_made_of(it: Searchable) -> None:
    hit = (await it.find("read inbox", kinds=["tools"])).hits[0]

    assert hit.entry.own == "read_inbox"
    assert set(hit.match.terms) == {"read", "inbox"}
    assert hit.match.lexical == pytest.approx(sum(hit.match.terms.values()), rel=1e-3)
    assert 0 < (hit.match.dense or 0) <= 1


# -- with the embedding that is shipped ------------------------------------------------------------

REQUESTS = {
    "put a meeting into my calendar": "create_event",
    "when are we all free?": "find_free_slot",
    "answer that e-mail": "reply_to_mail",
    "get rid of newsletters": "unsubscribe",
    "tell the team on the channel": "post_message",
    "file a bug": "create_ticket",
    "who wrote this line?": "blame_file",
    "rename a file": "move_file",
    "compress a folder": "zip_files",
    "why is my SQL slow?": "explain_query",
    "take a picture of the web page": "screenshot",
    "plot sales over time": "line_chart",
    "will it rain in Oslo?": "weather_forecast",
    "how many euros is a dollar?": "exchange_rate",
    "find a plane to Rome": "search_flights",
    "say this in French": "translate_text",
    "merge the PR": "merge_pull_request",
    "log three hours on a ticket": "log_work",
    "save the attached file": "save_attachment",
    "list the columns of a table": "describe_table",
}
"""What people say, and the one tool of a hundred that they mean."""


async def test_most_of_what_people_say_finds_the_tool_they_mean() -> None:
    lists = json.loads((Path(__file__).parents[1] / "data/catalogue.json").read_text())
    catalog = catalog_of(
        *(Shelf(name, Listing(tools=tuple(listed)), name) for name, listed in lists.items())
    )
    async with searchable(catalog, Counting(StaticEmbedding())) as it:
        missed = [
            words
            for words, wanted in REQUESTS.items()
            if wanted not in [hit.entry.own for hit in (await it.find(words)).hits]
        ]

    assert len(missed) <= 3, missed


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"limit": 0}, "limit is 0; it has to be 1 or more."),
        ({"limit": -5}, "limit is -5; it has to be 1 or more."),
        ({"kinds": ["tool"]}, "There is no type 'tool'. Did you mean 'tools'?"),
        ({"servers": ["male"]}, "There is no server 'male'. Did you mean 'mail'?"),
        ({"servers": ["zzz"]}, "There is no server 'zzz'. There are mail, post."),
        ({"strategy": "hybird"}, "There is no strategy 'hybird'. Did you mean 'hybrid'?"),
        ({"servers": ["x" * 5000]}, "There is no server 'xxx"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_what_can(
    it: Searchable, asked: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidArguments) as refusal:
        await it.find("mail", **asked)

    assert str(refusal.value).startswith(sentence)
    assert len(str(refusal.value)) < 250
    assert refusal.value.code == "invalid_arguments"


@pytest.mark.parametrize("words", ["", "   \n", "🦄🎉", "the of and", "。、", "\0", "..."])
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_words_that_say_nothing_are_answered_and_no_error(
    it: Searchable, words: str, strategy: str
) -> None:
    found = await it.find(words, strategy=strategy)

    assert found.hits == [] or strategy != "lexical"
    assert not found.degraded


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_query_of_a_hundred_thousand_characters_is_read_from_its_beginning(
    it: Searchable, strategy: str
) -> None:
    names = await it.names("send a mail. " + "lorem ipsum dolor " * 6_000, strategy=strategy)

    assert names[0] == "mail__send_mail"


async def test_a_query_in_another_script_finds_what_is_written_in_it() -> None:
    weather = Shelf(
        "天气", Listing(tools=(tool("forecast", description="查询城市的天气预报"), tool("send")))
    )
    async with searchable(catalog_of(weather, *shelves())) as it:
        assert (await it.names("明天的天气预报"))[0] == "forecast"
        assert (await it.find("明天的天气预报", strategy="lexical")).hits[0].entry.own == "forecast"


async def test_a_catalog_with_nothing_in_it_has_nothing_to_find() -> None:
    async with searchable(catalog_of()) as it:
        assert await it.names("mail") == []
        with pytest.raises(InvalidArguments, match=r"no server 'mail'\. There is none\."):
            await it.find("mail", servers=["mail"])

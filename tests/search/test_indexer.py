"""The index of a process follows its catalog: nothing lost, nothing left, nothing twice."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.catalog.shelf import Shelf, catalog_of, everybodys, resources, tool, tools
from tests.gateway_under_test import until
from tests.search.searchable import ORGS, Counting, Searchable, searchable
from trunkline.catalog.catalog import Catalog
from trunkline.index.index import Ref
from trunkline.models import KINDS, LOCAL, Listing
from trunkline.search.indexer import BATCH
from trunkline.search.points import Findable
from trunkline.search.search import Request

pytestmark = pytest.mark.anyio


def served(catalog: Catalog) -> dict[Ref, bytes]:
    """What there is to find, and the hash of what it says."""
    return {
        ref: Findable.of(ref, entry.definition, offer.title).content_hash
        for offer in catalog.snapshot.offers
        for kind in KINDS
        for entry in offer.entries[kind]
        for ref in [Ref(ORGS[offer.org], kind, offer.provider, entry.own)]
    }


async def indexed(it: Searchable) -> dict[Ref, bytes]:
    """What is in the index, when it has caught up."""
    await it.current()
    return {ref: content_hash async for ref, content_hash in it.index.contents()}


# -- any story ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One thing that happens."""

    provider: str
    tools: Mapping[str, str] | None
    """What it lists, with a description each; None: it leaves."""

    uris: frozenset[str]
    is_away: bool
    """Whether the embedding is, from now on."""

    renews: bool
    """Whether the skill cards change at the same time."""

    waits: bool
    """Whether the index catches up before the next turn."""


PROVIDERS = {"mail": None, "chat": "acme", "tasks": "globex"}

turns = st.builds(
    Turn,
    provider=st.sampled_from(sorted(PROVIDERS)),
    tools=st.none()
    | st.dictionaries(st.sampled_from(["send", "read", "Read"]), st.sampled_from(["", "A", "B"])),
    uris=st.frozensets(st.sampled_from(["file:///a", "file:///b", "file:///{name}"])),
    is_away=st.booleans(),
    renews=st.booleans(),
    waits=st.booleans(),
)


@given(story=st.lists(turns, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_sequence_of_changes_ends_with_the_index_as_the_catalog_is(story: list[Turn]) -> None:
    async def play() -> None:
        async with searchable(Catalog(), again=0.05) as it:
            for turn in story:
                apply(it, turn)
                if turn.waits:
                    await it.current()
                else:
                    await asyncio.sleep(0)
            it.embedding.is_away = False
            async with asyncio.timeout(60):
                while not all(  # noqa: ASYNC110
                    [await has_vector(it, ref) for ref in served(it.catalog)]
                ):
                    await asyncio.sleep(0.001)

            assert await indexed(it) == served(it.catalog)

    asyncio.run(play())


def apply(it: Searchable, turn: Turn) -> None:
    it.embedding.is_away = turn.is_away
    if turn.tools is None:
        it.catalog.remove(everybodys(turn.provider))
    else:
        listing = Listing(
            tools=tuple(tool(name, description=about) for name, about in turn.tools.items()),
            resources=resources(*turn.uris).resources,
            templates=resources(*turn.uris).templates,
        )
        org = PROVIDERS[turn.provider]
        it.catalog.put(Shelf(turn.provider, listing, prefix=turn.provider, org=org))
    if turn.renews:
        it.indexer.renew()


async def has_vector(it: Searchable, ref: Ref) -> bool:
    """Whether an item is found by what it is called, and not only by its terms."""
    org = next(name for name, org in ORGS.items() if org == ref.org)
    found = await it.find(ref.own_name, org, strategy="semantic", limit=99)
    return any(hit.match.ref == ref and (hit.match.dense or 0) > 0 for hit in found.hits)


# -- what is not done -----------------------------------------------------------------------------


async def test_only_what_is_new_or_says_something_else_is_embedded() -> None:
    mail, chat = Shelf("mail", tools("send", "read")), Shelf("chat", tools("say"))
    async with searchable(catalog_of(mail, chat)) as it:
        await it.current()
        first = it.embedding.texts.copy()

        mail.listing = Listing(
            tools=(tool("send"), tool("read", description="Read."), tool("drop"))
        )
        it.catalog.put(mail)
        await it.current()
        it.catalog.put(chat)
        mail.listing = Listing(tools=tuple(reversed(mail.listing.tools)))
        it.catalog.put(mail)
        await it.current()

        assert sorted(first) == ["chat: say", "mail: read", "mail: send"]
        assert it.embedding.texts[3:] == ["mail: read. Read.", "mail: drop"]


async def test_what_searches_do_not_read_is_not_embedded_again() -> None:
    mail = Shelf("mail", Listing(tools=(tool("send", annotations={"readOnlyHint": True}),)))
    async with searchable(catalog_of(mail)) as it:
        await it.current()
        mail.listing = Listing(tools=(tool("send", annotations={"readOnlyHint": False}),))
        it.catalog.put(mail)
        await it.current()

        assert it.embedding.texts == ["mail: send"]


async def test_other_skill_cards_have_every_point_made_anew() -> None:
    async with searchable(catalog_of(Shelf("mail", tools("send", "read")))) as it:
        await it.current()

        it.indexer.renew()
        await it.current()

        assert it.embedding.texts == ["mail: send", "mail: read"] * 2
        assert await indexed(it) == served(it.catalog)


async def test_what_left_and_comes_back_as_it_was_is_found_again() -> None:
    mail = Shelf("mail", tools("send"))
    async with searchable(catalog_of(mail)) as it:
        await it.current()
        it.catalog.remove(everybodys("mail"))
        gone = await indexed(it)
        it.catalog.put(mail)

        assert gone == {}
        assert await it.names("send") == ["send"]


async def test_what_leaves_while_everything_is_made_anew_leaves_the_index_too() -> None:
    async with searchable(catalog_of(Shelf("mail", tools("send", "read")))) as it:
        await it.current()

        it.indexer.renew()
        it.catalog.remove(everybodys("mail"))

        assert await indexed(it) == {}


# -- an embedding that is away --------------------------------------------------------------------


async def test_without_the_embedding_everything_is_found_by_terms_and_with_it_by_meaning() -> None:
    embedding = Counting()
    embedding.is_away = True
    async with searchable(catalog_of(Shelf("post", tools("send_mail", "fold"))), embedding) as it:
        by_terms = await it.find("mail")
        embedding.is_away = False
        await until(lambda: len(embedding.texts) == 2)
        by_meaning = await it.find("letter")

    assert [hit.entry.own for hit in by_terms.hits] == ["send_mail"]
    assert by_terms.degraded
    assert by_meaning.hits[0].entry.own == "send_mail"
    assert not by_meaning.degraded


async def test_an_embedding_that_is_away_is_asked_once_a_round_however_many_wait_for_it() -> None:
    embedding = Counting()
    embedding.is_away = True
    many = Shelf("mail", tools(*(f"tool_{n}" for n in range(3 * BATCH))))
    async with searchable(catalog_of(many), embedding, again=60) as it:
        found = await it.names(f"tool {3 * BATCH - 1}", strategy="lexical")

    assert found[0] == f"tool_{3 * BATCH - 1}"
    assert embedding.refusals == 1


async def test_what_is_new_is_found_by_its_terms_while_the_embedding_hangs() -> None:
    class Hanging(Counting):
        def __init__(self) -> None:
            super().__init__()
            self.goes_on = asyncio.Event()

        async def embed(self, texts: Any, *, query: bool = False) -> Any:
            if not query:
                await self.goes_on.wait()
            return await super().embed(texts, query=query)

    post = Shelf("post", tools("send_mail", "fold", *(f"tool_{n}" for n in range(BATCH))))
    async with searchable(catalog_of(post), embedding := Hanging(), patience=0.05) as it:
        async with asyncio.timeout(60):
            while await it.index.count() <= BATCH:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        by_terms = await it.search.find(Request(words="mail"), LOCAL)
        embedding.goes_on.set()
        await until(lambda: len(embedding.texts) == BATCH + 2)
        by_meaning = await it.find("letter", strategy="semantic", limit=1)

    assert by_terms.hits[0].entry.own == "send_mail"
    assert [hit.entry.own for hit in by_meaning.hits] == ["send_mail"]


async def test_what_leaves_before_it_could_be_embedded_leaves_the_index_too() -> None:
    embedding = Counting()
    embedding.is_away = True
    async with searchable(catalog_of(Shelf("mail", tools("send"))), embedding, again=60) as it:
        assert len(await indexed(it)) == 1

        it.catalog.remove(everybodys("mail"))

        assert await indexed(it) == {}


async def test_a_crash_on_the_way_is_logged_and_nothing_is_lost_by_it() -> None:
    class Crashing(Counting):
        async def embed(self, texts: Any, *, query: bool = False) -> Any:
            if not self.refusals:
                self.refusals += 1
                raise ZeroDivisionError
            return await super().embed(texts, query=query)

    with capture_logs() as logs:
        async with searchable(catalog_of(Shelf("mail", tools("send"))), Crashing()) as it:
            await until(lambda: it.embedding.texts)

            assert await indexed(it) == served(it.catalog)
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "indexer.crashed"
    ]

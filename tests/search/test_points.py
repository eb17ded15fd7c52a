"""From an item of the catalog to its point: what it says, and what makes it another one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.databases import database_of
from tests.search.stored import Stored, definition, stored
from trunkline.index.in_process import InProcessIndex
from trunkline.index.index import Query, Ref
from trunkline.models import Json
from trunkline.search.points import Findable
from trunkline.search.terms import query_terms

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

SEND = Ref(None, "tools", "mail", "send")
SAID = definition("mail__send", "Send a mail.")


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Stored]:
    async with stored(database_of(tmp_path)) as it:
        yield it


def key(item: Json, ref: Ref = SEND, title: str = "") -> bytes:
    return Findable.of(ref, item, title).content_hash


@pytest.mark.parametrize(
    "same",
    [
        {"name": "other__send"},
        {"annotations": {"readOnlyHint": True}},
        {"outputSchema": {"type": "object"}},
        {"_meta": {"x": 1}},
        {"inputSchema": {"type": "object", "properties": {}, "required": []}},
    ],
    ids=lambda same: next(iter(same)),
)
def test_what_no_search_reads_makes_no_other_point(same: dict[str, Any]) -> None:
    assert key({**SAID, **same}) == key(SAID)


@pytest.mark.parametrize(
    "other",
    [
        {"description": "Send a letter."},
        {"title": "Send"},
        {"inputSchema": {"type": "object", "properties": {"to": {"type": "string"}}}},
        {"inputSchema": {"properties": {"to": {"description": "Who gets it."}}}},
    ],
    ids=["description", "title", "parameter", "what is said of a parameter"],
)
def test_what_a_search_reads_makes_another_point(other: dict[str, Any]) -> None:
    assert key({**SAID, **other}) != key(SAID)


def test_a_server_that_is_called_otherwise_makes_another_point() -> None:
    assert key(SAID, title="Pigeon Post") != key(SAID)
    assert key(SAID, Ref(None, "tools", "post", "send")) != key(SAID)


def test_a_point_is_of_a_servers_own_name_whatever_it_is_served_under() -> None:
    item = Findable.of(SEND, definition("a_very_long_name_that_was_cut_3f9a2c"), "")

    assert item.text.dense == "mail: send"


@pytest.mark.parametrize("text", ["\ud800", "\0", "🦄" * 5_000, "天气", ""])
async def test_whatever_a_definition_says_makes_a_point(it: Stored, text: str) -> None:
    item = Findable.of(SEND, definition("send", text), text)

    (point,) = await it.maker.make([item])

    assert point.vector.shape == (it.embedding.dimensions,)
    assert "send" in point.terms
    assert point.content_hash == item.content_hash


async def test_tools_have_skills_and_nothing_else_has(it: Stored) -> None:
    text = "Send an email message. Read an inbox, reply to emails."
    tool = Findable.of(SEND, definition("send", text), "")
    prompt = Findable.of(Ref(None, "prompts", "mail", "send"), definition("send", text), "")

    before = await it.maker.make([tool])
    await it.cards.look()
    made = await it.maker.make([tool, prompt])

    assert [list(one.skills) for one in before] == [[]]
    assert "email" in made[0].skills
    assert list(made[1].skills) == []


async def test_without_a_vector_a_point_is_found_by_its_terms_and_never_by_meaning(
    it: Stored,
) -> None:
    items = [Findable.of(SEND, SAID, ""), Findable.of(Ref(None, "tools", "mail", "fold"), {}, "")]
    it.embedding.is_away = True
    index = InProcessIndex(it.embedding.dimensions)

    await index.upsert(it.maker.make_unembedded(items))
    by_terms = await index.search(Query(org=None, terms=query_terms("send")))
    vector = np.ones(it.embedding.dimensions, np.float32) / it.embedding.dimensions**0.5
    by_meaning = await index.search(Query(org=None, vector=vector))

    assert [match.ref for match in by_terms] == [SEND]
    assert {match.dense for match in by_meaning} == {0.0}


async def test_nothing_makes_no_points(it: Stored) -> None:
    assert await it.maker.make([]) == []

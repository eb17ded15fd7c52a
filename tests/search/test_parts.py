"""A query that asks for several things is asked part by part."""

import pytest

from trunkline.search.parts import MOST_PARTS, query_parts
from trunkline.search.terms import LONGEST_QUERY


@pytest.mark.parametrize(
    "text",
    [
        "",
        "send a mail",
        "Send a mail to Ann.",
        "Hi there! Send a mail to Ann.",
        "Convert 1.5 GB to bytes with the v2.0 API of example.com",
        "Send a mail, e.g. to Ann",
        "\n\n  \n",
        "🌦️! 🎉! 🌦️! 🎉!",
    ],
)
def test_what_asks_for_one_thing_stays_whole(text: str) -> None:
    assert query_parts(text) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "Find a flight to Oslo. Put it into my calendar.",
        "Find a flight to Oslo.\nPut it into my calendar.",
        "Find a flight to Oslo.   Put it into my calendar. Thanks!",
    ],
)
def test_what_asks_for_two_things_is_two_parts(text: str) -> None:
    assert query_parts(text) == ["Find a flight to Oslo.", "Put it into my calendar."]


def test_sentences_without_spaces_between_them_are_parts() -> None:
    parts = query_parts("查找下周飞往奥斯陆的最便宜航班。然后把它添加到我的工作日历里面。")

    assert parts == ["查找下周飞往奥斯陆的最便宜航班。", "然后把它添加到我的工作日历里面。"]


def test_an_endless_query_has_few_parts() -> None:
    assert len(query_parts("Find a flight to Oslo. " * 5_000)) == MOST_PARTS
    assert sum(map(len, query_parts("word" * 1_000_000))) <= LONGEST_QUERY

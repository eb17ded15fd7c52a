"""Results that are too large: what is sent of them, who may read the rest, and for how long."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import ResourceNotFound
from trunkline.models import Json, Principal
from trunkline.security.limits.oversize import size_of
from trunkline.security.limits.results import KEPT, LargeResults, ResultTooLarge

ADA = Principal(subject="key:ada", org="acme", user="ada")
ADA_ELSEWHERE = Principal(subject="key:ada", org="globex", user="ada")
BOB = Principal(subject="key:bob", org="acme", user="bob")
MIB = 1024 * 1024


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def large(clock: Clock) -> LargeResults:
    return LargeResults(MIB, clock=clock)


def text(*texts: str) -> Json:
    return {"content": [{"type": "text", "text": one} for one in texts]}


def fit(large: LargeResults, result: Json, limit: int, who: Principal = ADA) -> Json:
    return large.fit("tools/call", result, who, limit)


def link_of(result: Json) -> Json:
    (link,) = [one for one in result["content"] if one["type"] == "resource_link"]
    return link


def rest_of(large: LargeResults, result: Json, who: Principal = ADA) -> list[Json]:
    return large.read(link_of(result)["uri"], who)["contents"]


def test_what_fits_is_sent_as_it_is(large: LargeResults) -> None:
    result = {**text("x" * 60, "y" * 40), "_meta": {"kept": "z"}}

    assert fit(large, result, 100 + len('{"kept":"z"}')) is result
    assert large.fit("tools/call", text("x" * MIB), ADA, None) == text("x" * MIB)


def test_a_text_is_cut_and_the_rest_is_at_the_link(large: LargeResults) -> None:
    whole = "".join(str(number) for number in range(2000))

    cut = fit(large, {**text("first", whole, "last"), "_meta": {"kept": 1}}, 1000)

    first, second, note, link = cut["content"]
    assert size_of({"content": [first, second]}) == 1000
    assert first["text"] == "first"
    assert second["text"] == whole[:995]
    assert link["uri"] in note["text"]
    assert f"{len(whole) + 19:,} bytes, and 1,000 may be sent" in note["text"]
    assert cut["_meta"] == {"kept": 1}
    assert "isError" not in cut
    rest = rest_of(large, cut)
    assert [one["text"] for one in rest] == [whole[995:], "last"]
    assert {one["uri"] for one in rest} == {link["uri"]}
    assert link["size"] == len(whole) - 995 + 4


@given(st.text(st.characters(exclude_categories=[])), st.integers(1, 50))
def test_no_character_is_lost_or_split_at_the_cut(whole: str, limit: int) -> None:
    large = LargeResults(MIB)
    cut = fit(large, text(whole), limit)
    if cut == text(whole):
        assert len(whole.encode(errors="surrogatepass")) <= limit
        return

    head = cut["content"][0]["text"]
    assert head + rest_of(large, cut)[0]["text"] == whole
    assert limit - 4 < len(head.encode(errors="surrogatepass")) <= limit


def test_what_is_no_text_goes_whole_or_to_the_rest(large: LargeResults) -> None:
    image = {"type": "image", "mimeType": "image/png", "data": "A" * 400}
    inner = {"uri": "file:///a", "mimeType": "text/x", "text": "B" * 400}
    result: Json = {"content": [image, {"type": "resource", "resource": inner}, image]}

    cut = fit(large, result, 500)

    assert cut["content"][0] == image
    assert [one["type"] for one in cut["content"]] == ["image", "text", "resource_link"]
    link = link_of(cut)
    assert rest_of(large, cut) == [
        {"uri": link["uri"], "mimeType": "text/x", "text": "B" * 400},
        {"uri": link["uri"], "mimeType": "image/png", "blob": "A" * 400},
    ]


def test_nothing_large_hides_beside_the_texts(large: LargeResults) -> None:
    hidden = [
        {**text("x"), "_meta": {"x": "y" * 5000}},
        {**text("x"), "unheard-of": ["y" * 5000]},
        {"content": [{"type": "text", "text": "x", "annotations": {"x": "y" * 5000}}]},
        {"content": [{"type": "resource_link", "uri": "file:///" + "y" * 5000}]},
        {"content": [{"type": "resource", "resource": {"text": "x", "_meta": {"x": "y" * 5000}}}]},
        {"structuredContent": {"x": 1}, "_meta": {"x": "y" * 5000}},
    ]

    for result in hidden:
        assert len(json.dumps(fit(large, result, 1000))) < 2000, result


def test_structured_content_has_no_half_so_it_is_an_error_with_a_link(large: LargeResults) -> None:
    structured = {"rows": list(range(500))}
    image = {"type": "image", "mimeType": "image/png", "data": "AAAA"}
    result = {
        "content": [{"type": "text", "text": json.dumps(structured)}, image],
        "structuredContent": structured,
        "_meta": {"kept": 1},
    }

    refused = fit(large, result, 1000)

    assert refused["isError"] is True
    assert "structuredContent" not in refused
    assert refused["_meta"] == {"kept": 1, "trunkline/error": {"code": "result_too_large"}}
    assert link_of(refused)["uri"] in refused["content"][0]["text"]
    whole, picture = rest_of(large, refused)
    assert json.loads(whole["text"]) == structured
    assert picture["blob"] == "AAAA"


def test_an_answer_that_is_not_a_tools_is_refused_whole(large: LargeResults) -> None:
    result: Json = {"contents": [{"uri": "file:///a", "text": "x" * 1000}]}

    assert large.fit("resources/read", result, ADA, 1009) is result
    with pytest.raises(ResultTooLarge, match=r"1,009 bytes, and may have 1,008"):
        large.fit("resources/read", result, ADA, 1008)


@pytest.mark.parametrize("other", [BOB, ADA_ELSEWHERE], ids=["credential", "organisation"])
def test_nobody_else_reads_the_rest(large: LargeResults, other: Principal) -> None:
    cut = fit(large, text("x" * 1000), 100)

    with pytest.raises(ResourceNotFound, match="Make the call again"):
        rest_of(large, cut, other)
    with pytest.raises(ResourceNotFound):
        large.read("trunkline://results/guess", ADA)

    assert rest_of(large, cut)[0]["text"] == "x" * 900


def test_the_rest_can_be_read_again_for_ten_minutes(large: LargeResults, clock: Clock) -> None:
    cut = fit(large, text("x" * 1000), 100)

    clock.now += KEPT - 1
    assert rest_of(large, cut) == rest_of(large, cut)
    clock.now += 1
    with pytest.raises(ResourceNotFound):
        rest_of(large, cut)


def test_the_rests_have_a_bounded_space_and_the_one_unread_for_longest_goes(
    clock: Clock,
) -> None:
    large = LargeResults(3000, clock=clock)
    one, other, third = (fit(large, text(letter * 1100), 100) for letter in "abc")
    rest_of(large, one)
    fourth = fit(large, text("d" * 1100), 100)

    with pytest.raises(ResourceNotFound):
        rest_of(large, other)
    for kept in (one, third, fourth):
        assert len(rest_of(large, kept)[0]["text"]) == 1000


def test_there_are_no_more_rests_than_may_be(clock: Clock) -> None:
    large = LargeResults(MIB, most=10, clock=clock)
    cuts = [fit(large, text("x" * 20), 10) for _ in range(30)]

    readable = 0
    for cut in cuts:
        try:
            rest_of(large, cut)
            readable += 1
        except ResourceNotFound:
            pass

    assert readable == 10


def test_a_rest_that_is_larger_than_the_space_is_not_kept_and_that_is_said(clock: Clock) -> None:
    large = LargeResults(100, clock=clock)
    small = fit(large, text("y" * 60), 10)

    cut = fit(large, text("x" * 1000), 500)

    assert [one["type"] for one in cut["content"]] == ["text", "text"]
    assert "too large to be kept" in cut["content"][1]["text"]
    assert rest_of(large, small)[0]["text"] == "y" * 50


def test_links_cannot_be_guessed(large: LargeResults) -> None:
    uris = {link_of(fit(large, text("x" * 20), 10))["uri"] for _ in range(100)}

    assert len(uris) == 100
    assert all(large.owns(uri) and len(uri) >= len("trunkline://results/") + 22 for uri in uris)
    assert not large.owns("file:///a")
    assert not large.owns(None)


@pytest.mark.parametrize(
    "result",
    [
        {"content": [None, 5, "text", {}, {"type": "text"}, {"type": "text", "text": 5}]},
        {"content": "no list"},
        {"content": [{"type": "resource", "resource": 5}, {"type": "unheard-of", "x": "y" * 99}]},
        {"structuredContent": {"half": "\ud800", "number": float("nan")}},
        {},
    ],
)
def test_a_result_of_no_known_form_is_cut_or_sent_and_breaks_nothing(
    large: LargeResults, result: dict[str, Any]
) -> None:
    size = size_of(result)

    assert fit(large, result, max(size, 1)) is result
    if size > 1:
        assert fit(large, result, 1) != result

"""What several servers offer alike is one hit; what only looks alike is not."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.index.index import Ref
from trunkline.models import Kind
from trunkline.search.collapse import Candidate, Hit, collapse


def found(
    server: str, name: str, text: str, *, org: UUID | None = None, kind: Kind = "tools"
) -> Candidate:
    return Candidate(ref=Ref(org, kind, server, name), score=1.0, name=name, text=text)


def shape(hits: list[Hit]) -> list[list[str]]:
    """The servers of each hit, the best first."""
    return [[one.ref.server for one in (hit.best, *hit.also)] for hit in hits]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            ("play_audio", "Play an audio file. Supports WAV and MP3 formats."),
            ("play_audio", "Play an audio file. Supports WAV and MP3 formats. Not video."),
        ),
        (
            ("fork_repository", "Fork a GitHub repository to your account or organization"),
            ("fork_repository", "Fork a GitHub repository to your account or organization"),
        ),
        (
            ("create_bulk_tasks", "Creates multiple tasks in one list. Use listId or listName."),
            ("createBulkTasks", "Create multiple tasks in one list; use listId or listName"),
        ),
        (("createIssue", "Open an issue."), ("create_issue", "Open an issue")),
        (("create issue", "Open an issue."), ("CREATE-ISSUE", "Open an issue")),
        (
            ("get_note", "获取笔记内容,参数url要带上xsec_token"),
            ("get-note", "获取笔记内容,参数url要带上 xsec_token。"),
        ),
    ],
)
def test_a_tool_that_two_servers_have_is_one_hit(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    hits = collapse([found("a", *one), found("b", *other)])

    assert shape(hits) == [["a", "b"]]
    assert hits[0].best.name == one[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("get_project", "Get a project from Todoist"), ("get_project", "Get a Jira project")),
        (("list_pages", "List the pages of a wiki"), ("delete_pages", "List the pages of a wiki")),
        (("update_project", "Update a project in Todoist"), ("update_project", "Update a project")),
        (("search", ""), ("search", "")),
        (("🎵", "Play an audio file."), ("🛑", "Play an audio file.")),
        (("search", "🔎"), ("search", "🔎")),
        (("get_forecast", "Weather by city"), ("get_forecast", "Sales by quarter")),
    ],
)
def test_what_only_looks_alike_is_two_hits(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert shape(collapse([found("a", *one), found("b", *other)])) == [["a"], ["b"]]


def test_two_tools_of_one_server_are_two_hits() -> None:
    text = "Play an audio file."

    hits = collapse(
        [found("a", "play_audio", text), found("b", "play", text), found("a", "playAudio", text)]
    )

    assert shape(hits) == [["a"], ["b"], ["a"]]


def test_a_server_is_listed_once_with_a_hit() -> None:
    text = "Play an audio file."
    spellings = [("a", "play_audio"), ("b", "play_audio"), ("b", "playAudio")]

    hits = collapse([found(server, name, text) for server, name in spellings])

    assert shape(hits) == [["a", "b"], ["b"]]


def test_two_kinds_of_item_are_two_hits() -> None:
    text = "Play an audio file."

    hits = collapse([found("a", "play", text), found("b", "play", text, kind="prompts")])

    assert len(hits) == 2


def test_a_server_of_one_organisation_is_not_the_one_of_all() -> None:
    text = "Play an audio file."

    hits = collapse([found("a", "play", text), found("a", "play", text, org=UUID(int=1))])

    assert shape(hits) == [["a", "a"]]


def test_the_order_stays_and_nothing_is_lost() -> None:
    text = "Play an audio file."
    names = ["play", "stop", "play", "pause", "stop", "play"]
    candidates = [found(f"s{place}", name, text) for place, name in enumerate(names)]

    hits = collapse(candidates)

    assert shape(hits) == [["s0", "s2", "s5"], ["s1", "s4"], ["s3"]]


CANDIDATES = st.builds(
    found,
    st.sampled_from("abc"),
    st.sampled_from(["play", "play_it", "Play", "", "🎵"]),
    st.text(alphabet="ab 天", max_size=6),
)


@given(st.lists(CANDIDATES))
def test_every_candidate_is_in_one_hit_and_the_best_come_in_order(
    candidates: list[Candidate],
) -> None:
    hits = collapse(candidates)

    members = [id(one) for hit in hits for one in (hit.best, *hit.also)]
    assert sorted(members) == sorted(map(id, candidates))
    places = [next(i for i, one in enumerate(candidates) if one is hit.best) for hit in hits]
    assert places == sorted(places)

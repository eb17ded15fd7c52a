"""`trunkline search`, run as a program: what is found, how it is shown, what is refused."""

import json

import pytest
from tests.cli.conftest import Workplace
from tests.servers.processes import stdio_entry

POST = '''
from trunkline import Plugin

plugin = Plugin("post", summary="Letters and parcels.")


@plugin.tool
def send_letter(to: str, text: str = "") -> str:
    """Send a letter to somebody by mail."""
    return to


@plugin.tool
def track_parcel(number: int) -> str:
    """Where a parcel is now."""
    return str(number)


@plugin.prompt
def complaint(about: str) -> str:
    """Write a letter of complaint."""
    return about
'''
PIGEON = POST.replace('"post"', '"pigeon"')


@pytest.fixture
def post(workplace: Workplace) -> Workplace:
    """A place with one plugin and no server."""
    workplace.configure({})
    workplace.add_plugin("post", POST)
    return workplace


def test_a_search_shows_what_is_found_and_how_it_is_called(post: Workplace) -> None:
    done = post.run("search", "send a letter")

    header, first, *_ = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert header.split() == ["Score", "Name", "Description", "Also", "on"]
    assert "post__send_letter(to: string, text?: string)" in first
    assert "Send a letter to somebody by mail." in first
    assert first.endswith("-")
    assert done.stderr == ""


def test_as_json_it_is_what_search_tools_answers(post: Workplace) -> None:
    answer = json.loads(post.run("search", "send a letter", "--json", "--limit", "1").stdout)

    (hit,) = answer["hits"]
    assert set(answer) == {"hits", "strategy", "degraded", "skills"}
    assert set(hit) == {"name", "server", "title", "description", "score", "also_on", "call"}
    assert (hit["name"], hit["server"]) == ("post__send_letter", "post")


def test_an_explanation_names_the_terms_and_what_they_gave(post: Workplace) -> None:
    shown = post.run("search", "send letter", "--explain")
    told = json.loads(post.run("search", "send letter", "--explain", "--json").stdout)

    explanation = told["hits"][0]["explanation"]
    assert "post__send_letter: dense 0." in shown.stdout
    assert {"send", "letter"} == set(explanation["terms"])
    assert explanation["lexical"] == pytest.approx(sum(explanation["terms"].values()), abs=0.01)


def test_prompts_are_found_where_they_are_asked_for(post: Workplace) -> None:
    prompts = json.loads(post.run("search", "letter", "--type", "prompts", "--json").stdout)
    everything = json.loads(post.run("search", "letter", "--type", "all", "--json").stdout)

    assert [hit["name"] for hit in prompts["hits"]] == ["post__complaint"]
    assert {hit.get("type", "tools") for hit in everything["hits"]} == {"tools", "prompts"}


def test_the_same_of_two_servers_is_one_line_and_one_of_them_can_be_asked_for(
    post: Workplace,
) -> None:
    post.add_plugin("pigeon", PIGEON)

    both = json.loads(post.run("search", "send a letter", "--json").stdout)["hits"]
    shown = post.run("search", "send a letter").stdout
    one = json.loads(post.run("search", "letter", "--server", "pigeon", "--json").stdout)["hits"]

    assert {both[0]["server"], both[0]["also_on"][0]["server"]} == {"pigeon", "post"}
    assert [hit["name"].partition("__")[2] for hit in both].count("send_letter") == 1
    assert shown.splitlines()[1].rstrip().endswith(both[0]["also_on"][0]["server"])
    assert {hit["server"] for hit in one} == {"pigeon"}


def test_tools_are_found_by_their_skill_and_the_skills_of_the_words_are_told(
    post: Workplace,
) -> None:
    of_skill = post.run("search", "letter", "--skill", "messaging", "--json")
    shown = post.run("search", "send an email message to my inbox", "--strategy", "hierarchical")

    hits = json.loads(of_skill.stdout)["hits"]
    assert [hit["name"] for hit in hits] == ["post__send_letter"]
    assert "Skills: email (" in shown.stdout


def test_nothing_found_is_said_and_no_failure(post: Workplace) -> None:
    done = post.run("search", "zebra", "--strategy", "lexical")

    assert (done.returncode, done.stdout) == (0, "Nothing was found.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--server", "pots"), "There is no server 'pots'. Did you mean 'post'?"),
        (("--skill", "emial"), "There is no skill 'emial'. Did you mean 'email'"),
        (("--limit", "0"), "limit is 0; it has to be 1 or more."),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused_with_one_that_can(
    post: Workplace, arguments: tuple[str, ...], sentence: str
) -> None:
    done = post.run("search", "letter", *arguments)

    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [(), ("x", "--type", "tool"), ("x", "--strategy", "best")])
def test_what_cannot_be_read_is_a_misuse(post: Workplace, arguments: tuple[str, ...]) -> None:
    done = post.run("search", *arguments)

    assert done.returncode == 2
    assert done.stderr


@pytest.mark.parametrize("query", ["", "🦄", "天气预报", "x " * 50_000, "\udcff"])
def test_any_words_are_answered(post: Workplace, query: str) -> None:
    done = post.run("search", query)

    assert done.returncode == 0, done.stderr


def test_what_was_stored_is_found_while_its_server_is_not_running(workplace: Workplace) -> None:
    entry = stdio_entry("everything", era="handshake")
    workplace.configure({"one": {**entry, "lazy": True}})

    answers = [
        json.loads(workplace.run("search", "echo", "--json", "--limit", "1").stdout)
        for _ in range(2)
    ]

    assert [[hit["name"] for hit in answer["hits"]] for answer in answers] == [["one__echo"]] * 2

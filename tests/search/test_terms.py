"""Words are counted so that a person's and a programmer's spelling of them are one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.search.terms import MOST_TERMS, query_terms, split_terms


@pytest.mark.parametrize(
    "name", ["create_issue", "create-issue", "createIssues", "Create Issue", "create.issue"]
)
def test_identifiers_are_taken_apart(name: str) -> None:
    assert {"creat", "issu"} <= set(split_terms(name))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("HTTPServer", ["http", "server", "httpserver"]),
        ("getURLForUser", ["get", "url", "user"]),
        ("GitHub", ["git", "hub", "github"]),
        ("base64 oauth2 s3", ["base64", "oauth2", "s3"]),
        ("the user's files", ["user", "file"]),
        ("please help me with it", []),
        ("x y 7", []),
        ("", []),
        ("🌦️ 🎉 ¿? --- __", []),
    ],
)
def test_what_becomes_of_a_text(text: str, terms: list[str]) -> None:
    assert list(split_terms(text)) == terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("repositories", "repository"),
        ("searching", "searches"),
        ("Café", "cafe"),
        ("ﬁle", "file"),
        ("\uff37\uff25\uff22", "web"),
        ("cafe\u0301", "café"),
        ("Straße", "STRASSE"),
        ("НОВОСТИ", "новости"),
        ("ΚΑΙΡΌΣ", "καιρος"),
    ],
)
def test_spellings_of_one_word_are_one_term(one: str, other: str) -> None:
    assert list(split_terms(one)) == list(split_terms(other)) != []


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("获取城市的天气预报", "天气"),
        ("カレンダーに予定を追加する", "カレンダー"),
        ("ไฟล์และโฟลเดอร์", "ไฟล์"),
        ("이메일을 보내기", "이메일"),
        ("मौसम का पूर्वानुमान", "मौसम"),
        ("погода в городе", "погода"),
        ("البحث عن الملفات", "الملفات"),
        ("GitHub上的issue", "GitHub"),
    ],
)
def test_every_script_is_found(text: str, query: str) -> None:
    assert set(query_terms(query)) & set(split_terms(text))


def test_a_word_of_an_indic_script_stays_whole() -> None:
    assert list(split_terms("हिन्दी भाषा")) == ["हिन्दी", "भाषा"]


def test_saying_a_word_again_makes_it_no_more_important() -> None:
    assert query_terms("mail, mails, MAIL and post") == {"mail": 1.0, "post": 1.0}


def test_an_endless_query_has_few_terms() -> None:
    words = " ".join(f"word{number}" for number in range(20_000))

    for query in (words, "x" * 100_000, "天" * 100_000, "aB" * 50_000, "\u0301" * 100_000):
        assert len(query_terms(query)) <= MOST_TERMS


def test_the_end_of_an_endless_query_is_not_looked_at() -> None:
    assert query_terms("mail " * 1_000_000 + "post") == {"mail": 1.0}


@given(st.text())
def test_no_text_is_an_error_and_no_term_is_empty(text: str) -> None:
    assert all(query_terms(text))

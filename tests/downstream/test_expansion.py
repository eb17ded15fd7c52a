"""References in mcp.json stand for what the documentation says."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.downstream.expansion import Expansion, ExpansionError, VariableMissing

ENVIRON = {"TOKEN": "s3cret", "EMPTY": "", "HOME": "/home/ada", "TRICK": "${TOKEN}"}


def expand(text: str) -> str:
    return Expansion(ENVIRON, Path("/home/ada/project")).expand(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bearer ${TOKEN}", "Bearer s3cret"),
        ("${env:TOKEN}${TOKEN}", "s3crets3cret"),
        ("${NONE:-8080}", "8080"),
        ("${TOKEN:-other}", "s3cret"),
        ("${EMPTY:-other}", "other"),
        ("[${EMPTY}]", "[]"),
        ("[${NONE:-}]", "[]"),
        ("${NONE:-${ALSO_NONE:-deep}}", "deep"),
        ('${NONE:-{"a": {}}}', '{"a": {}}'),
        ("${workspaceFolder}/x", "/home/ada/project/x"),
        ("${workspaceFolderBasename}", "project"),
        ("${userHome}", "/home/ada"),
        ("a${/}b${pathSeparator}c", f"a{os.sep}b{os.sep}c"),
        ("$${TOKEN} $$ $TOKEN 5$", "${TOKEN} $$ $TOKEN 5$"),
        ("$${ $${NONE:-${TOKEN}} $$${TOKEN}", "${ ${NONE:-s3cret} $${TOKEN}"),
        ("${TRICK}", "${TOKEN}"),
    ],
)
def test_a_reference_is_replaced(text: str, expected: str) -> None:
    assert expand(text) == expected


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(VariableMissing, match="NONE is not set") as caught:
        expand("x ${NONE} y")

    assert caught.value.name == "NONE"


@pytest.mark.parametrize("text", ["${}", "${a b}", "${command:pick}", "${TOKEN", "${x%%y}"])
def test_what_stands_for_nothing_is_refused_with_the_way_to_write_it_literally(text: str) -> None:
    with pytest.raises(ExpansionError, match=r"\$\$\{"):
        expand(text)


def test_what_is_about_whoever_calls_is_left_for_the_calls() -> None:
    text = "${TOKEN} ${user.token:github}@${org.name} $${user.name}"

    template = Expansion(ENVIRON, Path()).template(text)

    assert str(template) == "s3cret ${user.token:github}@${org.name} ${user.name}"
    assert [str(one) for one in template.references] == ["${user.token:github}", "${org.name}"]


def test_what_a_variable_holds_is_about_nobody() -> None:
    shady = Expansion({"TRICK": "${user.token:github}"}, Path())

    assert shady.template("${TRICK}").references == ()


@pytest.mark.parametrize("text", ["${user.name}", "${NONE:-${client.authorization}}"])
def test_where_everybody_gets_the_same_nothing_can_be_told_of_a_caller(text: str) -> None:
    with pytest.raises(ExpansionError, match='"headers", "env" or "args"'):
        expand(text)


@pytest.mark.parametrize("text", ["${client.token}", "${user.id}", "${user.token}", "${org.id}"])
def test_what_is_not_known_of_callers_is_refused(text: str) -> None:
    with pytest.raises(ExpansionError, match=r"There are \$\{client\.authorization\}"):
        expand(text)


def test_an_input_that_nobody_can_be_asked_for_becomes_advice() -> None:
    with pytest.raises(ExpansionError, match=r"write \$\{NAME\}"):
        expand("${input:github-token}")


@given(st.text())
def test_text_without_references_stays_as_it_is(text: str) -> None:
    if "${" not in text:
        assert expand(text) == text


@given(st.text(alphabet="${}:-NOE./ "))
def test_any_text_can_be_written_so_that_it_stays_as_it_is(text: str) -> None:
    assert expand(text.replace("${", "$${")) == text


@given(st.text(alphabet="${}:-NOE./ "))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    with suppress(ExpansionError):
        expand(text)

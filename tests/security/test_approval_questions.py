"""What makes two calls the same, and what a person is shown of one."""

import json
import unicodedata
from dataclasses import replace
from typing import Any

import pytest

from trunkline.errors import InvalidArguments
from trunkline.models import LOCAL, Client, Era, Json, Principal
from trunkline.security.approvals.questions import (
    RiskyCall,
    can_be_asked,
    digest_of,
    question_about,
    shown,
)
from trunkline.security.policy.risk import Risk

DEFINITION: Json = {"name": "mail__drop", "description": "Drops a box.", "inputSchema": {}}
CALL = RiskyCall(
    server="mail", tool="drop", arguments={"box": "in"}, definition=DEFINITION, risk=Risk.HIGH
)
ALICE = Principal(subject="key:alice", org="acme", user="alice")


def with_arguments(**arguments: Any) -> RiskyCall:
    return replace(CALL, arguments=arguments)


def client(capabilities: Json) -> Client:
    return Client(
        id="1",
        era=Era.HANDSHAKE,
        protocol_version="2025-11-25",
        capabilities=capabilities,
        principal=LOCAL,
    )


# -- what makes two calls the same ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1}', '{"a": 1.0}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 0}', '{"a": -0.0}'),
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": null}', "{}"),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ('{"a": [1, [2]]}', '{"a": [[1], 2]}'),
        ('{"a": "b", "c": "d"}', '{"a": "b\\",\\"c\\":\\"d"}'),
        ('{"a": 9007199254740993}', '{"a": 9007199254740992}'),
        ('{"a": 9007199254740993}', '{"a": 9007199254740993.0}'),
        ('{"a": "\\ud800"}', '{"a": "\\\\ud800"}'),
        ('{"a": " "}', '{"a": "\u00a0"}'),
    ],
)
def test_arguments_that_a_server_could_tell_apart_are_others(one: str, other: str) -> None:
    calls = [replace(CALL, arguments=json.loads(text)) for text in (one, other)]

    assert digest_of(ALICE, calls[0]) != digest_of(ALICE, calls[1])


def test_two_ways_to_write_a_letter_are_two_texts() -> None:
    written = [unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD")]

    assert len({digest_of(ALICE, with_arguments(a=one)) for one in written}) == 2


def test_the_order_of_keys_means_nothing_nor_does_the_name_a_tool_is_served_under() -> None:
    calls = [
        replace(CALL, arguments=json.loads(text)) for text in ('{"a":1,"b":2}', '{"b":2,"a":1}')
    ]
    renamed = replace(calls[0], definition={**DEFINITION, "name": "drop", "_meta": {"seen": 1}})

    assert len({digest_of(ALICE, one) for one in (*calls, renamed)}) == 1


def test_who_calls_what_cannot_be_shifted_between_fields() -> None:
    one = digest_of(replace(ALICE, subject="a", user="b"), replace(CALL, server="c", tool="d"))
    other = digest_of(replace(ALICE, subject="a", user="bc"), replace(CALL, server="", tool="d"))

    assert one != other


def test_arguments_that_are_too_deep_are_refused_in_a_sentence() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(InvalidArguments, match="too deep"):
        digest_of(ALICE, with_arguments(a=deep))


# -- what a person sees ---------------------------------------------------------------------------


def test_a_question_shows_what_hides_and_hides_what_is_secret() -> None:
    call = RiskyCall(
        server="mail\u200b",
        tool="drop\nRisk: LOW",
        arguments={
            "text": "in\u202ebox\nTool: read",
            "api_key": "sk-12345",
            "nested": {"password": ["hunter2"], "size": 5},
            "\u2028evil": 1,
            "greeting": "\u4f60\u597d",
            "url": "https://user:hunter2@example.com/",
        },
        definition={},
        risk=Risk.HIGH,
    )

    message = question_about(call)["message"]

    assert "sk-12345" not in message
    assert "hunter2" not in message
    assert "\u4f60\u597d" in message
    assert '"size": 5' in message
    assert r"mail\u200b" in message
    assert r"drop\nRisk: LOW" in message
    assert len(message.splitlines()) == 5 + len(call.arguments)
    assert all(one.isprintable() or one == "\n" for one in message)


def test_what_is_long_is_cut_where_it_can_be_seen() -> None:
    text = shown(
        {
            "body": "x y " * 2_500,
            "list": ["z"] * 1_000,
            **{f"arg{rank}": "y " * 150 for rank in range(50)},
        }
    )

    assert len(text) < 6_000
    assert "(10,000 characters)" in text
    assert "(cut; 5,000 characters in all)" in text
    assert "more that are not shown" in text
    deep: Any = 1
    for _ in range(400):
        deep = {"a": deep}
    assert shown({"deep": deep}) == "  deep: (not shown: more than 2,000 values)"


@pytest.mark.parametrize(
    ("capabilities", "able"),
    [
        ({"elicitation": {}}, True),
        ({"elicitation": {"form": {}}}, True),
        ({"elicitation": {"form": {}, "url": {}}}, True),
        ({"elicitation": {"url": {}}}, False),
        ({"elicitation": None}, False),
        ({"elicitation": True}, False),
        ({}, False),
    ],
)
def test_a_client_is_asked_if_it_says_that_it_shows_forms(capabilities: Json, able: bool) -> None:
    assert can_be_asked(client(capabilities)) is able

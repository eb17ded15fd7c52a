"""How risky a tool is, by what it says, what is said of it, and who says so."""

from typing import Any

import pytest

from trunkline.models import Json
from trunkline.security.policy.policy import DEFAULT, Policy
from trunkline.security.policy.risk import Risk

STRICT = Policy(unknown_servers="strict", trusted_servers=("git*",))

SAYS_HIGH = {"_meta": {"trunkline/risk": "HIGH"}}
SAYS_LOW = {"_meta": {"trunkline/risk": "LOW"}}
DESTROYS = {"annotations": {"destructiveHint": True}}
READS = {"annotations": {"readOnlyHint": True}}


def tool(**hints: Any) -> Json:
    return {"name": "tool", "annotations": hints}


@pytest.mark.parametrize(
    ("definition", "trusted", "strict"),
    [
        (tool(readOnlyHint=True), Risk.LOW, Risk.LOW),
        (tool(readOnlyHint=False, destructiveHint=False), Risk.MEDIUM, Risk.MEDIUM),
        (tool(idempotentHint=True), Risk.MEDIUM, Risk.MEDIUM),
        (tool(destructiveHint=True), Risk.MEDIUM, Risk.HIGH),
        (tool(destructiveHint=True, idempotentHint=True), Risk.MEDIUM, Risk.HIGH),
        (tool(destructiveHint=True, readOnlyHint=True), Risk.MEDIUM, Risk.HIGH),
        (tool(), Risk.MEDIUM, Risk.HIGH),
        ({"name": "tool"}, Risk.MEDIUM, Risk.HIGH),
        ({"name": "tool", "annotations": "read only"}, Risk.MEDIUM, Risk.HIGH),
        (tool(readOnlyHint="true"), Risk.MEDIUM, Risk.HIGH),
        (tool(readOnlyHint=1), Risk.MEDIUM, Risk.HIGH),
    ],
)
def test_hints_are_believed_and_silence_is_taken_for_the_worst_where_that_is_wanted(
    definition: Json, trusted: Risk, strict: Risk
) -> None:
    assert DEFAULT.risk("mail", "tool", definition) == trusted
    assert STRICT.risk("mail", "tool", definition) == strict
    assert STRICT.risk("github", "tool", definition) == trusted


@pytest.mark.parametrize("server", ["git/evil", "evil-git", "Git", "", "gi"])
def test_a_trusted_server_lends_its_trust_to_no_other(server: str) -> None:
    policy = Policy(unknown_servers="strict", trusted_servers=("git",))

    assert policy.risk(server, "tool", tool()) == Risk.HIGH


def test_what_the_policy_says_counts_before_mcp_json_and_that_before_the_tool() -> None:
    policy = Policy(risks=(("mail/send", Risk.LOW), ("mail/*", Risk.HIGH)))
    configured = {"send": "HIGH", "re*": "LOW"}

    assert policy.risk("mail", "send", DESTROYS | SAYS_HIGH, configured=configured) == Risk.LOW
    assert policy.risk("mail", "read", READS, configured=configured) == Risk.HIGH
    assert DEFAULT.risk("mail", "read", DESTROYS, configured=configured) == Risk.LOW
    assert DEFAULT.risk("mail", "send", READS, configured=configured) == Risk.HIGH
    assert DEFAULT.risk("mail", "drop", READS, configured=configured) == Risk.LOW


def test_a_server_may_only_say_that_its_tool_is_riskier() -> None:
    assert DEFAULT.risk("mail", "read", READS | SAYS_HIGH) == Risk.HIGH
    assert STRICT.risk("mail", "drop", DESTROYS | SAYS_LOW) == Risk.HIGH
    assert STRICT.risk("mail", "move", tool(destructiveHint=False) | SAYS_LOW) == Risk.MEDIUM


def test_a_plugin_is_the_operators_own_and_says_what_it_likes() -> None:
    assert STRICT.risk("clock", "set", DESTROYS | SAYS_LOW, is_plugin=True) == Risk.LOW
    assert STRICT.risk("clock", "now", READS | SAYS_HIGH, is_plugin=True) == Risk.HIGH
    assert STRICT.risk("clock", "now", {"name": "now"}, is_plugin=True) == Risk.MEDIUM


@pytest.mark.parametrize("said", ["high", "DIRE", 3, None, ["HIGH"], {"HIGH": 1}])
def test_a_risk_that_does_not_exist_says_nothing(said: object) -> None:
    meta: Json = {"_meta": {"trunkline/risk": said}}

    assert DEFAULT.risk("mail", "read", READS | meta) == Risk.LOW
    assert DEFAULT.risk("mail", "read", READS, configured={"read": str(said)}) == Risk.LOW


def test_what_is_remembered_of_a_tool_goes_with_its_definition_and_its_rules() -> None:
    first, second = dict(READS), dict(DESTROYS)
    rules = {"tool": "LOW"}

    assert STRICT.risk("mail", "tool", first) == Risk.LOW
    assert STRICT.risk("mail", "tool", second) == Risk.HIGH
    assert STRICT.risk("mail", "tool", first) == Risk.LOW
    assert STRICT.risk("mail", "tool", second, configured=rules) == Risk.LOW
    assert STRICT.risk("mail", "tool", second) == Risk.HIGH

"""What becomes of a call, by who calls and what the policy says."""

import pytest

from trunkline.models import LOCAL, Principal, Role, Scope
from trunkline.security.policy.file import parse_policy
from trunkline.security.policy.policy import DEFAULT, UNREADABLE, Action, ApprovalTerms, Policy
from trunkline.security.policy.risk import Risk


def somebody(role: Role = Role.USER, scope: Scope | None = None) -> Principal:
    return Principal(subject="key:1", org="acme", user="alice", role=role, scope=scope or Scope())


def test_who_has_no_policy_notices_nothing_until_somebody_says_high() -> None:
    assert DEFAULT.decide(LOCAL, "mail", "drop", Risk.MEDIUM).action is Action.ALLOW
    assert DEFAULT.decide(LOCAL, "mail", "read", Risk.LOW).action is Action.ALLOW
    assert DEFAULT.decide(LOCAL, "mail", "drop", Risk.HIGH).action is Action.ASK


def test_an_action_can_depend_on_the_role() -> None:
    policy = parse_policy("""
        [default.actions]
        HIGH = "deny"
        operator.HIGH = "ask"
        admin.HIGH = "allow"
        user.MEDIUM = "ask"
    """).default

    def action(role: Role, risk: Risk) -> Action:
        return policy.decide(somebody(role), "mail", "drop", risk).action

    assert [action(role, Risk.HIGH) for role in Role] == [Action.DENY, Action.ASK, Action.ALLOW]
    assert [action(role, Risk.MEDIUM) for role in Role] == [Action.ASK, Action.ALLOW, Action.ALLOW]
    assert {action(role, Risk.LOW) for role in Role} == {Action.ALLOW}


def test_what_is_denied_is_denied_to_everybody_whatever_its_risk() -> None:
    policy = Policy(deny=("shell/*", "mail/drop_*"))

    for who in (LOCAL, somebody(Role.ADMIN)):
        assert policy.decide(who, "shell", "ls", Risk.LOW).action is Action.DENY
        assert policy.decide(who, "mail", "drop_all", Risk.LOW).action is Action.DENY
        assert policy.decide(who, "mail", "read", Risk.LOW).action is Action.ALLOW


def test_a_credential_is_good_for_what_it_was_made_for() -> None:
    scope = Scope(allow=("mail",), deny=("mail/drop",))

    def action(server: str, own: str) -> Action:
        return DEFAULT.decide(somebody(scope=scope), server, own, Risk.LOW).action

    assert action("mail", "read") is Action.ALLOW
    assert action("mail", "drop") is Action.DENY
    assert action("shell", "ls") is Action.DENY


def test_what_is_remembered_for_one_is_not_taken_for_another() -> None:
    policy = Policy(deny=("mail/drop",))
    narrow = somebody(scope=Scope(allow=("shell/*",)))
    order = [somebody(), narrow, somebody(Role.ADMIN), narrow, somebody()]

    actions = [policy.decide(who, "mail", "read", Risk.LOW).action for who in order]

    assert actions == [Action.ALLOW, Action.DENY, Action.ALLOW, Action.DENY, Action.ALLOW]
    assert policy.decide(somebody(), "mail", "drop", Risk.LOW).action is Action.DENY
    assert policy.decide(somebody(), "mail", "read", Risk.HIGH).action is Action.ASK


def test_a_denial_says_why() -> None:
    policy = parse_policy('[default]\ndeny = ["shell"]\nactions.HIGH = "deny"').default
    narrow = somebody(scope=Scope(allow=("mail/*",)))

    assert "to everybody" in policy.decide(LOCAL, "shell", "ls", Risk.LOW).reason
    assert "HIGH" in policy.decide(LOCAL, "mail", "drop", Risk.HIGH).reason
    assert "key or token" in policy.decide(narrow, "shell", "ls", Risk.LOW).reason


def test_a_decision_made_before_is_the_same_object() -> None:
    policy = Policy()

    first = policy.decide(somebody(), "mail", "read", Risk.LOW)

    assert policy.decide(somebody(), "mail", "read", Risk.LOW) is first


@pytest.mark.parametrize("role", Role)
def test_under_a_policy_that_cannot_be_read_every_call_waits_for_an_operator(role: Role) -> None:
    hints = {"annotations": {"readOnlyHint": True}}
    risk = UNREADABLE.risk("clock", "now", hints, is_plugin=True, configured={"*": "LOW"})

    assert risk is Risk.HIGH
    for each in Risk:
        assert UNREADABLE.decide(somebody(role), "clock", "now", each).action is Action.ASK
    asks = UNREADABLE.approvals.asks_in_client(somebody(role))
    assert asks is role.includes(Role.OPERATOR)


def test_nobody_is_asked_about_their_own_call_under_four_eyes() -> None:
    terms = ApprovalTerms(four_eyes=True)

    assert not any(terms.asks_in_client(somebody(role)) for role in Role)
    assert all(ApprovalTerms().asks_in_client(somebody(role)) for role in Role)

"""What being safe costs a call: a part of what the call itself costs, never a multiple."""

import pytest
from bench.security import measure

pytestmark = pytest.mark.anyio


async def test_identity_policy_limits_and_audit_cost_less_than_the_call_itself() -> None:
    cost = await measure(calls=150, rounds=3)

    bare = cost["call without a gate"]
    added = cost["call with policy, limits and audit"] - bare + cost["identity by key"]
    assert added < bare, cost  # a seventh of it where nothing else runs

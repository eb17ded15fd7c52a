"""A call that a person has to approve, from the client's side, in both eras."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.gateway_under_test import Gateway, gateway
from tests.journeys.raw_client import Json, RawClient, raw_client
from tests.servers.processes import stdio_entry
from trunkline.models import LOCAL
from trunkline.security.approvals.desk import ApprovalDesk

pytestmark = pytest.mark.anyio

POLICY = """
[default]
deny = ["everything/ask"]
risk."everything/echo" = "HIGH"
"""
TOOL = "everything__echo"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncGenerator[Gateway]:
    """A gateway whose policy has one tool asked about and one denied."""
    (tmp_path / "policy.toml").write_text(POLICY)
    async with gateway({"everything": stdio_entry("everything", era="handshake")}, tmp_path) as one:
        yield one


def refusal(result: Json) -> Json:
    """What a refused call says for programs."""
    assert result["isError"] is True
    return result["_meta"]["trunkline/error"]


def client_of(gateway: Gateway, era: str, answer: Json | None) -> Any:
    async def reply(method: str, params: Json) -> Json:
        assert method == "elicitation/create"
        assert answer is not None
        return answer

    return raw_client(gateway.mcp, era, answer=reply)


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_a_yes_in_the_client_lets_the_call_run(guarded: Gateway, era: str) -> None:
    yes = {"action": "accept", "content": {"approve": True}}
    async with client_of(guarded, era, yes) as client:
        result = await client.call(TOOL, {"text": "hello"})

    assert not result.get("isError"), result
    assert len(client.asked) == 1


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_a_no_in_the_client_stops_it(guarded: Gateway, era: str) -> None:
    async with client_of(guarded, era, {"action": "decline"}) as client:
        result = await client.call(TOOL, {"text": "hello"})

    assert refusal(result)["code"] == "approval_denied"


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_without_a_question_it_waits_for_an_operator_and_runs_once(
    guarded: Gateway, era: str
) -> None:
    async def call(client: RawClient) -> Json:
        return await client.call(TOOL, {"text": "hello"})

    async with raw_client(guarded.mcp, era, capabilities={}) as client:
        required = refusal(await call(client))
        assert required["code"] == "AUTHORIZATION_REQUIRED"
        desk = ApprovalDesk(guarded.app.standing.database, lambda _: None)
        await desk.approve(LOCAL, required["id"])
        assert not (await call(client)).get("isError")
        assert refusal(await call(client))["id"] != required["id"]


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_what_the_policy_denies_is_told_to_the_model(guarded: Gateway, era: str) -> None:
    async with raw_client(guarded.mcp, era) as client:
        result = await client.call("everything__ask", {"message": "?"})

    assert refusal(result)["code"] == "policy_denied"

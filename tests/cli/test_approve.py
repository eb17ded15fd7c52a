"""`trunkline approvals`, `approve` and `deny`, run as programs beside the database."""

import asyncio
import json
import secrets

import pytest
from tests.cli.conftest import Workplace

from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import open_pool
from trunkline.storage.repositories.approvals import ApprovalRepository, NewApproval
from trunkline.storage.repositories.orgs import OrgRepository


def request(place: Workplace, tool: str = "drop", *, four_eyes: bool = False) -> str:
    """Leave a request of the organisation acme in the database; return its id."""
    id_ = "".join(secrets.choice("abcdefgh") for _ in range(8))

    async def put() -> None:
        url = place.environment["DATABASE_URL"]
        async with open_pool(url, DatabaseSettings()) as database:
            org = await OrgRepository(database).put("acme")
            new = NewApproval(
                id=id_,
                call_hash=secrets.token_bytes(32),
                subject="local" if four_eyes else "key:1",
                user=None,
                server="mail",
                tool=tool,
                arguments='  box: "in"\n  force: true',
                risk="HIGH",
                four_eyes=four_eyes,
                valid_for=600,
                pending_for=600,
            )
            assert await ApprovalRepository(database).put(org, new, most=9)

    asyncio.run(put())
    return id_


def test_what_waits_is_listed_approved_and_gone_from_the_list(workplace: Workplace) -> None:
    assert workplace.run("approvals").stdout == "Nothing waits for approval.\n"
    id_ = request(workplace)

    shown = workplace.run("approvals").stdout
    done = workplace.run("approve", id_)
    left = workplace.run("approvals").stdout

    for part in (id_, "mail/drop", "HIGH", "key:1 of acme", 'box: "in" force: true'):
        assert part in shown
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Approved {id_} (drop of mail). Its caller may call it once")
    assert left == "Nothing waits for approval.\n"


def test_programs_get_json(workplace: Workplace) -> None:
    first, second = request(workplace, "drop"), request(workplace, "send")

    waiting = json.loads(workplace.run("approvals", "--json").stdout)["approvals"]
    approved = json.loads(workplace.run("approve", first, "--json").stdout)
    denied = json.loads(workplace.run("deny", second, "--json").stdout)
    everything = json.loads(workplace.run("approvals", "--all", "--json").stdout)["approvals"]

    assert [(one["id"], one["tool"]) for one in waiting] == [(first, "drop"), (second, "send")]
    assert (approved["state"], approved["decided_by"]) == ("approved", "local")
    assert denied["state"] == "denied"
    assert [one["state"] for one in everything] == ["approved", "denied"]
    assert "call_hash" not in everything[0]


def test_an_approval_can_be_taken_back_once(workplace: Workplace) -> None:
    id_ = request(workplace)

    ends = [workplace.run(word, id_) for word in ("approve", "deny", "approve", "deny")]

    assert [end.returncode for end in ends] == [0, 0, 1, 1]
    assert ends[1].stdout.startswith(f"Denied {id_}")
    assert "is denied already" in ends[2].stderr
    assert "[approval_settled]" in ends[3].stderr


@pytest.mark.parametrize("id_", ["nothing0", "é", "x" * 300])
def test_an_id_that_does_not_exist_is_a_sentence(id_: str, workplace: Workplace) -> None:
    done = workplace.run("approve", id_)

    assert done.returncode == 1
    assert "There is no request" in done.stderr
    assert "[approval_not_found]" in done.stderr
    assert "Traceback" not in done.stderr


def test_under_four_eyes_a_call_of_the_local_user_is_not_approved_by_the_local_user(
    workplace: Workplace,
) -> None:
    done = workplace.run("approve", request(workplace, four_eyes=True))

    assert done.returncode == 1
    assert "[approval_forbidden]" in done.stderr

"""Approvals over the API: looked at and decided on by who may, and told to the audit."""

import pytest

from tests.api.office import Office

pytestmark = pytest.mark.anyio


async def test_a_call_is_approved_once(office: Office) -> None:
    waiting = await office.approval("acme")

    first = await office.ask("operator", "POST", f"/approvals/{waiting}/approve")
    second = await office.ask("admin", "POST", f"/approvals/{waiting}/approve")

    assert (first.json()["state"], first.json()["decided_by"]) == ("approved", "key:operator")
    assert (second.status_code, second.json()["code"]) == (409, "approval_settled")


async def test_an_approval_can_be_taken_back(office: Office) -> None:
    waiting = await office.approval("acme")

    await office.ask("operator", "POST", f"/approvals/{waiting}/approve")
    answer = await office.ask("operator", "POST", f"/approvals/{waiting}/deny")

    assert (answer.status_code, answer.json()["state"]) == (200, "denied")


async def test_under_four_eyes_nobody_approves_their_own(office: Office) -> None:
    own = await office.approval("acme", four_eyes=True, user="ole")

    answer = await office.ask("operator", "POST", f"/approvals/{own}/approve")

    assert (answer.status_code, answer.json()["code"]) == (403, "approval_forbidden")


async def test_they_can_be_listed_by_what_became_of_them(office: Office) -> None:
    waiting, approved, denied = [await office.approval("acme") for _ in range(3)]
    await office.approval("globex")
    late = await office.approval("acme", pending_for=0.0)
    await office.ask("operator", "POST", f"/approvals/{approved}/approve")
    await office.ask("operator", "POST", f"/approvals/{denied}/deny")

    async def listed(query: str, person: str = "operator") -> list[str]:
        answer = await office.ask(person, "GET", f"/approvals{query}")
        return [one["id"] for one in answer.json()["items"]]

    assert await listed("") == [waiting, approved, denied, late]
    assert await listed("?state=pending") == [waiting]
    assert await listed("?state=approved") == [approved]
    assert await listed("?state=denied") == [denied]
    assert await listed("?state=expired") == [late]
    assert len(await listed("", "root")) == 5


async def test_they_are_told_a_page_at_a_time(office: Office) -> None:
    ids = [await office.approval("acme") for _ in range(3)]

    first = (await office.ask("operator", "GET", "/approvals?limit=2")).json()
    params = {"limit": "2", "cursor": first["next"]}
    second = (await office.ask("operator", "GET", "/approvals", params=params)).json()

    assert [one["id"] for one in first["items"] + second["items"]] == ids
    assert second["next"] is None


async def test_an_organisation_without_a_row_has_nothing_to_decide(office: Office) -> None:
    answer = await office.ask("newcomer", "GET", "/approvals")

    assert (answer.status_code, answer.json()["items"]) == (200, [])


async def test_the_audit_is_told_whose_call_was_decided_on(office: Office) -> None:
    waiting = await office.approval("acme", server="mail", tool="send")

    await office.ask("operator", "POST", f"/approvals/{waiting}/approve")
    await office.ask("operator", "POST", f"/approvals/{waiting}/approve")

    done, failed = office.events
    assert (done.action, done.outcome, done.server, done.own_name, done.name) == (
        "approval.approve",
        "ok",
        "mail",
        "send",
        waiting,
    )
    assert (failed.outcome, failed.code, failed.own_name) == (
        "failed",
        "approval_settled",
        waiting,
    )

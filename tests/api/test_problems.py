"""What goes wrong is told in one form, and tells nothing that is nobody's business."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.api.office import Office
from trunkline.api.problems import status_of
from trunkline.errors import NotStorable, StorageReadOnly, StorageUnavailable, TrunklineError
from trunkline.security.audit.audit import AuditFull
from trunkline.security.limits.limits import LimitReached
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import open_pool
from trunkline.storage.repositories.keys import AllKeys

pytestmark = pytest.mark.anyio

MEMBERS = {"type", "title", "status", "detail", "code"}


@pytest.mark.parametrize("path", ["/me", "/nothing", "/keys", "/openapi.json", ""])
async def test_who_is_not_known_is_told_nothing_but_that(office: Office, path: str) -> None:
    answer = await office.ask(None, "GET", path)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "identity_required"
    assert set(answer.json()) == MEMBERS


async def test_an_address_that_there_is_not(office: Office) -> None:
    answer = await office.ask("user", "GET", "/nothing")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_method_that_there_is_not(office: Office) -> None:
    answer = await office.ask("user", "PUT", "/me")

    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


async def test_all_methods_of_an_address_are_named(office: Office) -> None:
    of_all = await office.ask("admin", "OPTIONS", "/keys")
    of_one = await office.ask("admin", "PATCH", "/servers/x")

    assert of_all.headers["allow"] == "GET, POST"
    assert of_one.headers["allow"] == "DELETE, GET"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[]", b'{"name": 1}', b'{"name": "x", "nme": "y"}', b"[" * 100_000],
)
async def test_a_body_that_does_not_fit(office: Office, body: bytes) -> None:
    answer = await office.ask(
        "admin", "POST", "/keys", content=body, headers={"content-type": "application/json"}
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_arguments")


async def test_what_was_sent_is_not_repeated(office: Office) -> None:
    body = {"name": "x", "expires_at": "canary-1", "role": "canary-2", "allow": "canary-3"}

    answer = await office.ask("admin", "POST", "/keys", json=body)

    assert answer.status_code == 422
    assert "canary" not in answer.text


async def test_who_may_not_is_told_so_before_what_is_wrong_with_the_request(
    office: Office,
) -> None:
    answer = await office.ask("user", "POST", "/keys", json={"name": 1})

    assert answer.status_code == 403


async def test_while_the_database_is_away_it_is_told_when_to_come_back(
    office: Office, tmp_path: Path
) -> None:
    settings = DatabaseSettings(connect_timeout=0.2)
    async with open_pool("postgresql:///x?host=/nonexistent", settings) as away:
        office.stand_on(office.backing(away, tmp_path))
        answers = await asyncio.gather(
            office.ask("admin", "GET", "/keys"),
            office.ask("admin", "POST", "/keys", json={"name": "x"}),
            office.ask("admin", "GET", "/audit"),
        )

    assert [answer.status_code for answer in answers] == [503] * 3
    assert {answer.json()["code"] for answer in answers} == {"storage_unavailable"}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert "nonexistent" not in "".join(answer.text for answer in answers)


async def test_what_cannot_be_recorded_is_not_done(office: Office) -> None:
    key = await office.key("acme")
    office.room_trouble = AuditFull("The disk is full.")

    answer = await office.ask("admin", "DELETE", f"/keys/{key.id}")

    assert (answer.status_code, answer.json()["code"]) == (503, "audit_full")
    assert (await AllKeys(office.database).list_all()) == [key]
    assert (await office.ask("admin", "GET", "/keys")).status_code == 200


async def test_a_fault_of_our_own_is_logged_and_not_shown(office: Office, tmp_path: Path) -> None:
    backing = office.backing(office.database, tmp_path)

    class Broken:
        def __getattr__(self, _: str) -> object:
            raise RuntimeError("canary-1")

    object.__setattr__(backing, "administration", Broken())
    office.stand_on(backing)
    with capture_logs() as logs:
        seen = await office.ask("admin", "GET", "/servers")
        done = await office.ask("admin", "DELETE", "/servers/x")

    for answer in (seen, done):
        assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
        assert "canary" not in answer.text
        assert "Traceback" not in answer.text
    assert [log["event"] for log in logs] == ["api.crashed"] * 2
    assert [(event.outcome, event.code) for event in office.events] == [("failed", "unexpected")]


def test_an_error_has_the_status_of_its_kind() -> None:
    assert status_of(StorageUnavailable("")) == status_of(StorageReadOnly("")) == 503
    assert status_of(NotStorable("")) == 422
    assert status_of(LimitReached("", 3.0)) == 429
    assert status_of(TrunklineError("")) == 500

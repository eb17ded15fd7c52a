"""Servers over the API: added, changed, switched and removed."""

from pathlib import Path

import pytest

from tests.api.office import DEAD, Office, open_office

pytestmark = pytest.mark.anyio


async def test_a_server_is_added_changed_and_removed(office: Office) -> None:
    added = await office.ask("root", "POST", "/servers", json={"name": "a b", "config": DEAD})
    changed = await office.ask(
        "root", "POST", "/servers", json={"name": "a b", "config": DEAD | {"disabled": False}}
    )
    shown = await office.ask("root", "GET", added.headers["location"].removeprefix("/api/v1"))
    removed = await office.ask("root", "DELETE", "/servers/a%20b")
    gone = await office.ask("root", "GET", "/servers/a%20b")

    assert (added.status_code, added.json()["state"]) == (201, "DISCONNECTED")
    assert changed.json()["state"] == "ERROR"
    assert shown.json()["origin"] == "api"
    assert removed.status_code == 204
    assert (gone.status_code, gone.json()["code"]) == (404, "server_not_found")


async def test_a_server_is_switched_on_and_off(office: Office) -> None:
    await office.ask("admin", "POST", "/servers", json={"name": "x", "config": DEAD})

    on = await office.ask("operator", "POST", "/servers/x/connect")
    off = await office.ask("operator", "POST", "/servers/x/disconnect")

    assert (on.json()["state"], off.json()["state"]) == ("ERROR", "DISCONNECTED")


async def test_an_organisation_adds_nothing_that_reaches_into_the_machine(office: Office) -> None:
    for config in ({"command": "true"}, {"url": "http://x/${HOME}"}):
        new = {"name": "x", "config": config}
        for person in ("admin", "loopback"):
            answer = await office.ask(person, "POST", "/servers", json=new)
            assert (answer.status_code, answer.json()["code"]) == (422, "server_invalid")


@pytest.mark.parametrize("config", ["{}", '{"url": 1}', '{"timeout": NaN}', '{"x": "\\ud800"}'])
async def test_a_server_that_is_described_wrongly_is_refused(office: Office, config: str) -> None:
    answer = await office.ask(
        "root",
        "POST",
        "/servers",
        content=f'{{"name": "x", "config": {config}}}',
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 422
    assert answer.json()["code"] in ("server_invalid", "not_storable", "invalid_arguments")


async def test_they_are_told_a_page_at_a_time(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    async with open_office(tmp_path, dict.fromkeys(reversed(names), DEAD)) as office:
        first = (await office.ask("operator", "GET", "/servers?limit=2")).json()
        params = {"cursor": first["next"]}
        second = (await office.ask("operator", "GET", "/servers", params=params)).json()

    assert [one["name"] for one in first["items"] + second["items"]] == names


async def test_the_audit_is_told_of_a_server_and_not_of_its_secrets(office: Office) -> None:
    config = DEAD | {"headers": {"X-Key": "canary-7"}}

    await office.ask("admin", "POST", "/servers", json={"name": "x", "config": config})

    (event,) = office.events
    assert (event.action, event.server, event.outcome) == ("server.add", "x", "ok")
    assert "canary" not in repr(event)

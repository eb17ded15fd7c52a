"""The audit over the API: narrowed, page by page, and of one's own organisation only."""

from typing import Any

import pytest

from tests.api.office import Office
from trunkline.security.audit.entries import Entries

pytestmark = pytest.mark.anyio


async def listed(office: Office, person: str, **params: Any) -> list[Any]:
    answer = await office.ask(person, "GET", "/audit", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def test_what_happened_is_told_the_newest_first_a_page_at_a_time(office: Office) -> None:
    await office.happened("acme", 5)
    seen: list[str] = []
    cursor: str | None = None

    for _ in range(3):
        params: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await office.ask("admin", "GET", "/audit", params=params)).json()
        seen += [one["own_name"] for one in page["items"]]
        cursor = page["next"]
        await office.happened("acme", 1, "later")

    assert seen == [f"tool {number}" for number in (4, 3, 2, 1, 0)]
    assert cursor is None


async def test_everybody_sees_their_own_organisations_and_root_sees_all(office: Office) -> None:
    await office.happened("acme", 2)
    await office.happened("globex", 3)
    await office.happened(None, 1)

    assert {one["org"] for one in await listed(office, "admin")} == {"acme"}
    assert len(await listed(office, "stranger")) == 3
    assert len(await listed(office, "root")) == 6
    assert len(await listed(office, "root", org="acme")) == 2


async def test_it_can_be_narrowed(office: Office) -> None:
    await office.happened("acme", 2)
    await office.happened("acme", 1, "key.revoke")

    assert len(await listed(office, "admin", what="key.*")) == 1
    assert len(await listed(office, "admin", what="mail/tool 1")) == 1
    assert len(await listed(office, "admin", who="cleo", outcome="ok")) == 3
    assert await listed(office, "admin", outcome="denied") == []
    assert await listed(office, "admin", since="2999-01-01T00:00:00Z") == []
    assert len(await listed(office, "admin", since="2020-01-01T00:00:00+02:00")) == 3


@pytest.mark.parametrize(
    "params",
    [
        {"since": "2026-11-24T10:00:00"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"since": "9999-12-31T23:59:59-14:00"},
        {"outcome": "nice"},
        {"limit": "0"},
        {"limit": "501"},
        {"cursor": "x"},
        {"cursor": "WyItMSJd"},  # ["-1"]
        {"cursor": "WyI5OTk5OTk5OTk5OTk5OTk5OTk5OSJd"},  # more than a bigint takes
        {"cursor": "W10"},  # []
        {"cursor": "é"},
    ],
)
async def test_what_cannot_be_meant_is_refused(office: Office, params: dict[str, str]) -> None:
    answer = await office.ask("admin", "GET", "/audit", params=params)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_arguments")


async def test_what_is_done_and_refused_here_is_in_it(office: Office) -> None:
    key = await office.key("acme")
    await office.ask("operator", "DELETE", f"/keys/{key.id}")
    await office.ask("admin", "DELETE", f"/keys/{key.id}")
    await office.ask("admin", "DELETE", f"/keys/{key.id}")
    entries = Entries("http", lambda _: True)
    await office.audit.add([entries.of(event) for event in office.events])

    found = await listed(office, "admin", what="key.revoke")

    assert [(one["subject"], one["outcome"], one["code"]) for one in found] == [
        ("key:admin", "failed", "key_not_found"),
        ("key:admin", "ok", None),
        ("key:operator", "denied", "forbidden"),
    ]
    assert {(one["own_name"], one["face"]) for one in found} == {(key.id, "api")}

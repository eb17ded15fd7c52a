"""Every route, for everybody: who may, who may not, and who is not to know what there is."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.api.office import DEAD, Office, open_office
from trunkline.api.application import ROUTERS
from trunkline.api.routes import Operation

pytestmark = pytest.mark.anyio

WHO = (None, "user", "operator", "admin", "stranger", "root")
"""Nobody; three of acme; an administrator of globex, and one of everything."""

Asked = tuple[str, str, dict[str, Any]]
"""A method, a path, and what comes with it."""


@dataclass(frozen=True)
class Row:
    """One route, asked for something new each time."""

    operation: str
    what: str
    ask: Callable[[Office], Awaitable[Asked]]
    statuses: tuple[int, int, int, int, int, int]
    """As `WHO` has them."""

    def __str__(self) -> str:
        return f"{self.operation} {self.what}".strip()


def plain(method: str, path: str, **more: Any) -> Callable[[Office], Awaitable[Asked]]:
    async def ask(_: Office) -> Asked:
        return method, path, more

    return ask


def of_key(method: str, path: str) -> Callable[[Office], Awaitable[Asked]]:
    async def ask(office: Office) -> Asked:
        return method, path.format((await office.key("acme")).id), {}

    return ask


def new_key(**more: Any) -> Callable[[Office], Awaitable[Asked]]:
    async def ask(_: Office) -> Asked:
        return "POST", "/keys", {"json": {"name": uuid4().hex, **more}}

    return ask


def of_approval(method: str, path: str) -> Callable[[Office], Awaitable[Asked]]:
    async def ask(office: Office) -> Asked:
        return method, path.format(await office.approval("acme")), {}

    return ask


def of_pin(org: str | None, method: str, path: str) -> Callable[[Office], Awaitable[Asked]]:
    async def ask(office: Office) -> Asked:
        hash_ = await office.pin(org, "mail", "send", "Sends.", "Sends more.")
        return method, path, {"json": {"hash": hash_}} if method == "POST" else {}

    return ask


def of_server(method: str, path: str) -> Callable[[Office], Awaitable[Asked]]:
    async def ask(office: Office) -> Asked:
        new = {"name": "acmes", "config": DEAD}
        assert (await office.ask("admin", "POST", "/servers", json=new)).status_code == 201
        return method, path, {}

    return ask


NEW_SERVER = {"name": "new", "config": DEAD}
EVERYBODY, OPERATORS, ADMINS = (
    (401, 200, 200, 200, 200, 200),
    (401, 403, 200, 200, 200, 200),
    (401, 403, 403, 200, 200, 200),
)
MADE, GLOBAL = (401, 403, 403, 201, 201, 201), (401, 403, 403, 403, 403, 200)

TABLE = [
    Row("me.show", "", plain("GET", "/me"), EVERYBODY),
    Row("openapi.show", "", plain("GET", "/openapi.json"), EVERYBODY),
    Row("server.list", "", plain("GET", "/servers"), OPERATORS),
    Row("server.add", "", plain("POST", "/servers", json=NEW_SERVER), MADE),
    Row("server.show", "of everybody", plain("GET", "/servers/shared"), OPERATORS),
    Row(
        "server.show", "of acme", of_server("GET", "/servers/acmes"), (401, 403, 200, 200, 404, 404)
    ),
    Row(
        "server.remove",
        "of acme",
        of_server("DELETE", "/servers/acmes"),
        (401, 403, 403, 204, 404, 404),
    ),
    Row(
        "server.remove",
        "of mcp.json",
        plain("DELETE", "/servers/shared"),
        (401, 403, 403, 409, 409, 409),
    ),
    Row(
        "server.connect",
        "of acme",
        of_server("POST", "/servers/acmes/connect"),
        (401, 403, 200, 200, 404, 404),
    ),
    Row("server.connect", "of everybody", plain("POST", "/servers/shared/connect"), GLOBAL),
    Row(
        "server.disconnect",
        "of acme",
        of_server("POST", "/servers/acmes/disconnect"),
        (401, 403, 200, 200, 404, 404),
    ),
    Row("server.disconnect", "of everybody", plain("POST", "/servers/shared/disconnect"), GLOBAL),
    Row("key.list", "", plain("GET", "/keys"), ADMINS),
    Row("key.create", "", new_key(), MADE),
    Row(
        "key.create",
        "of acme",
        new_key(org="acme"),
        (401, 403, 403, 201, 403, 201),
    ),
    Row("key.revoke", "of acme", of_key("DELETE", "/keys/{}"), (401, 403, 403, 204, 404, 204)),
    Row("key.rotate", "of acme", of_key("POST", "/keys/{}/rotate"), (401, 403, 403, 200, 404, 200)),
    Row("approval.list", "", plain("GET", "/approvals"), OPERATORS),
    Row(
        "approval.show",
        "of acme",
        of_approval("GET", "/approvals/{}"),
        (401, 403, 200, 200, 404, 200),
    ),
    Row(
        "approval.approve",
        "of acme",
        of_approval("POST", "/approvals/{}/approve"),
        (401, 403, 200, 200, 404, 200),
    ),
    Row(
        "approval.deny",
        "of acme",
        of_approval("POST", "/approvals/{}/deny"),
        (401, 403, 200, 200, 404, 200),
    ),
    Row("pin.list", "", plain("GET", "/pins"), OPERATORS),
    Row(
        "pin.show",
        "of acme",
        of_pin("acme", "GET", "/pins/mail/send"),
        (401, 403, 200, 200, 404, 404),
    ),
    Row("pin.show", "of everybody", of_pin(None, "GET", "/pins/mail/send"), OPERATORS),
    Row(
        "pin.accept",
        "of acme",
        of_pin("acme", "POST", "/pins/mail/send/accept"),
        (401, 403, 200, 200, 404, 404),
    ),
    Row(
        "pin.accept",
        "of everybody",
        of_pin(None, "POST", "/pins/mail/send/accept"),
        (401, 403, 403, 403, 403, 200),
    ),
    Row("audit.list", "", plain("GET", "/audit"), ADMINS),
    Row(
        "audit.list",
        "of acme",
        plain("GET", "/audit", params={"org": "acme"}),
        (401, 403, 403, 200, 403, 200),
    ),
]


@pytest.fixture
async def shared_office(tmp_path: Path) -> AsyncGenerator[Office]:
    """One with a server of everybody's."""
    async with open_office(tmp_path, {"shared": DEAD}) as opened:
        yield opened


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_who_may(shared_office: Office, row: Row) -> None:
    statuses: list[int] = []

    for person in WHO:
        method, path, more = await row.ask(shared_office)
        answer = await shared_office.ask(person, method, path, **more)
        statuses.append(answer.status_code)
        if answer.is_error:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code

    assert dict(zip(WHO, statuses, strict=True)) == dict(zip(WHO, row.statuses, strict=True))


async def test_every_route_has_a_row(office: Office) -> None:
    described = (await office.ask("user", "GET", "/openapi.json")).json()
    operations = {
        one["operationId"] for path in described["paths"].values() for one in path.values()
    }

    assert operations == {row.operation for row in TABLE}


async def test_every_route_is_described_and_tells_the_audit(office: Office) -> None:
    routes = [route for router in ROUTERS for route in router.routes]

    assert routes
    assert all(isinstance(route, Operation) and route.include_in_schema for route in routes)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/keys/{}"),
        ("POST", "/keys/{}/rotate"),
        ("GET", "/approvals/{}"),
        ("POST", "/approvals/{}/approve"),
        ("POST", "/approvals/{}/deny"),
        ("GET", "/pins/{}/send"),
        ("GET", "/servers/{}"),
        ("DELETE", "/servers/{}"),
    ],
)
async def test_what_is_anothers_is_answered_like_what_is_not_there(
    office: Office, method: str, path: str
) -> None:
    kind = path.split("/")[1]
    if kind == "keys":
        theirs = (await office.key("acme")).id
    elif kind == "approvals":
        theirs = await office.approval("acme")
    else:
        theirs = "acmemail"
        await office.pin("acme", theirs, "send")
        new = {"name": theirs, "config": DEAD}
        await office.ask("admin", "POST", "/servers", json=new)
    nobodys = "z" * len(theirs)

    of_theirs = await office.ask("stranger", method, path.format(theirs))
    of_nobodys = await office.ask("stranger", method, path.format(nobodys))

    assert of_theirs.status_code == of_nobodys.status_code == 404
    assert of_theirs.text.replace(theirs, nobodys) == of_nobodys.text
    assert of_theirs.headers == of_nobodys.headers


async def test_nothing_of_another_organisation_is_in_a_list(office: Office) -> None:
    await office.key("globex", name="globex secret project")
    await office.pin("globex", "globexmail", "send", "Sends.", "Sends more.")
    await office.approval("globex", tool="globex_tool")
    await office.happened("globex", 2)
    await office.ask("stranger", "POST", "/servers", json={"name": "globexserver", "config": DEAD})

    for path in ("/me", "/servers", "/keys", "/approvals", "/pins", "/audit"):
        answer = await office.ask("admin", "GET", path)
        assert answer.status_code == 200
        assert "globex" not in answer.text, path

"""
The admin API over a whole Trunkline with a database, and the people who come to it.

Who somebody is says a header here, where a gateway would look at their key.
"""

import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.databases import database_of
from trunkline.api.backing import Backing
from trunkline.api.mount import PREFIX, api_routes
from trunkline.app import App, open_app
from trunkline.catalog.added import AddedServers
from trunkline.catalog.administration import Administration
from trunkline.models import LOOPBACK, PRINCIPAL, Json, Principal, Role
from trunkline.models import Scope as Permitted
from trunkline.security.audit.entries import Entries, Event
from trunkline.security.identity.keys import make_secret
from trunkline.security.outbound.guard import OutboundGuard
from trunkline.security.pins.digest import digest
from trunkline.security.pins.review import Case, PinReview
from trunkline.settings import OutboundSettings, PinSettings, PluginSettings, Settings
from trunkline.storage.pool import Database
from trunkline.storage.repositories.approvals import ApprovalRepository, NewApproval
from trunkline.storage.repositories.audit import AuditRepository
from trunkline.storage.repositories.keys import KeyRepository, KeyRow, NewKey
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.pins import PinRepository, Seen

DEAD: Final[Json] = {"url": "http://127.0.0.1:9/mcp", "disabled": True}
"""A server that is switched off, and that nothing answers at when it is not."""

PEOPLE: Final = {
    "user": Principal(subject="key:user", org="acme", user="uma", role=Role.USER),
    "operator": Principal(subject="key:operator", org="acme", user="ole", role=Role.OPERATOR),
    "admin": Principal(subject="key:admin", org="acme", user="ada", role=Role.ADMIN),
    "stranger": Principal(subject="key:stranger", org="globex", user="stan", role=Role.ADMIN),
    "root": Principal(subject="key:root", org=None, user="rita", role=Role.ADMIN),
    "clerk": Principal(subject="key:clerk", org=None, user="carl", role=Role.OPERATOR),
    "limited": Principal(
        subject="key:limited",
        org="acme",
        user="lea",
        role=Role.ADMIN,
        scope=Permitted(("github/*", "mail"), ("github/delete_*",)),
        orgs=frozenset({"acme-labs"}),
    ),
    "newcomer": Principal(subject="token:x#y", org="initech", user="neil", role=Role.ADMIN),
    "loopback": LOOPBACK,
}
"""By name. The organisation of `newcomer` is in no row."""


class Office:
    """The API, with things to decide on."""

    def __init__(self, app: App, folder: Path) -> None:
        self.app, self.database = app, app.standing.database
        self.events: list[Event] = []
        self.room_trouble: Exception | None = None
        """Why nothing can be recorded, if it cannot."""

        self.review = PinReview(self.database, PinSettings())
        self.keys, self.audit = KeyRepository(self.database), AuditRepository(self.database)
        self.orgs: dict[str | None, UUID | None] = {None: None}
        self._entries = Entries("api", lambda _: True)
        self.stand_on(self.backing(self.database, folder))

    def stand_on(self, backing: Backing) -> None:
        """Serve the API of that from now on."""
        self.asgi = Introduced(Starlette(routes=api_routes(backing)))

    def backing(self, database: Database, folder: Path) -> Backing:
        app = self.app
        administration = Administration(
            AddedServers(database, folder),
            app.registry,
            app.servers,
            app.reporter,
            guard=OutboundGuard(OutboundSettings(allow=("127.0.0.1",))),
            patience=5,
        )
        return Backing(
            administration=administration,
            database=database,
            review=self.review,
            case_of=lambda org, row: Case.of(org, row, PinSettings()),
            record=self.events.append,
            room=self._room,
        )

    async def _room(self, _: Principal) -> None:
        if self.room_trouble is not None:
            raise self.room_trouble

    def client(self, person: str | None) -> httpx.AsyncClient:
        """Somebody's; None is nobody's."""
        headers = {} if person is None else {"x-person": person}
        transport = httpx.ASGITransport(self.asgi, client=("127.0.0.1", 1))
        return httpx.AsyncClient(
            transport=transport, base_url=f"http://trunkline{PREFIX}", headers=headers, timeout=30
        )

    async def ask(self, person: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        """What somebody is answered."""
        async with self.client(person) as client:
            return await client.request(method, path, **more)

    # -- what there is ------------------------------------------------------------------------

    async def populate(self) -> None:
        orgs = OrgRepository(self.database)
        for name in ("acme", "globex"):
            self.orgs[name] = await orgs.put(name)

    async def key(self, org: str | None, **values: Any) -> KeyRow:
        """A new key of an organisation."""
        secret = make_secret()
        new = NewKey(name=values.pop("name", f"key {secret.id}"), **values)
        return await self.keys.add(self.orgs[org], secret.id, secret.hash, new)

    async def approval(self, org: str | None, **values: Any) -> str:
        """The id of a new call that waits for a person."""
        given: dict[str, Any] = {
            "id": "".join(secrets.choice("23456789abcdefgh") for _ in range(8)),
            "call_hash": secrets.token_bytes(32),
            "subject": "key:caller",
            "user": "cleo",
            "server": "mail",
            "tool": "send",
            "arguments": '{"to": "x"}',
            "risk": "HIGH",
            "four_eyes": False,
            "valid_for": 600.0,
            "pending_for": 600.0,
        }
        new = NewApproval(**given | values)
        row = await ApprovalRepository(self.database).put(self.orgs[org], new, most=10_000)
        assert row is not None
        return row.id

    async def pin(self, org: str | None, server: str, tool: str, *described: str) -> str:
        """A tool that had these descriptions, one after the other; the hash of the last."""
        found = b""
        for description in described or ("Sends a letter.",):
            definition: Json = {"name": tool, "description": description, "inputSchema": {}}
            found = digest(definition)
            seen = Seen(server, tool, definition, found, is_late=False)
            await PinRepository(self.database).see(self.orgs[org], org, [seen])
        return found.hex()

    async def happened(self, org: str | None, count: int, action: str = "tools/call") -> None:
        """Entries in the audit."""
        someone = Principal(subject="key:caller", org=org, user="cleo")
        events = [
            Event(action=action, principal=someone, server="mail", own_name=f"tool {number}")
            for number in range(count)
        ]
        await self.audit.add([self._entries.of(event) for event in events])


class Introduced:
    """Says of a request who sent it, as the header has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        person = dict(scope["headers"]).get(b"x-person", b"").decode()
        if person in PEOPLE:
            scope = {**scope, PRINCIPAL: PEOPLE[person]}
        await self._app(scope, receive, send)


@asynccontextmanager
async def open_office(folder: Path, servers: Json | None = None) -> AsyncGenerator[Office]:
    """An office with the organisations acme and globex, and a database of its own."""
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": servers or {}}))
    settings = Settings(
        config=folder / "mcp.json",
        home=folder / "home",
        plugins=PluginSettings(folders=()),
        database_url=database_of(folder / "home"),  # pyright: ignore[reportArgumentType]
    )
    async with open_app(settings, single_client=False) as app:
        assert await app.settled(30)
        office = Office(app, folder)
        await office.populate()
        yield office

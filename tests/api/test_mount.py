"""The API where people find it: beside everything else over HTTP, made when it is asked for."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.api.office import Office
from trunkline.api.mount import api_routes
from trunkline.cli.serve import identities_of
from trunkline.gateway.http import build_app, serve_http
from trunkline.gateway.identity import Identity
from trunkline.models import Role
from trunkline.security.identity.keys import make_secret
from trunkline.settings import HttpSettings
from trunkline.storage.repositories.keys import NewKey

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(office: Office, folder: Path) -> AsyncGenerator[str]:
    """The URL of the API, behind the whole gateway, which asks for keys."""
    app, http = office.app, HttpSettings(port=0, stop_grace=1)
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with identities_of(app) as identities, asyncio.TaskGroup() as tasks:
        routes = api_routes(office.backing(office.database, folder))
        identity = Identity(identities, app.settings.auth)
        whole = build_app(app.server, http, identity=identity, routes=routes)
        tasks.create_task(serve_http(whole, http, on_listening=listening.set_result, stop=stop))
        try:
            async with asyncio.timeout(30):
                yield f"{await listening}/api/v1"
        finally:
            stop.set()


async def holder(office: Office, org: str | None, role: Role) -> dict[str, str]:
    """The headers of who holds a new key."""
    secret = make_secret()
    new = NewKey(name=secret.id, role=role)
    await office.keys.add(office.orgs[org], secret.id, secret.hash, new)
    return {"authorization": f"Bearer {secret.key}"}


async def test_a_key_says_who_comes(office: Office, tmp_path: Path) -> None:
    admin = await holder(office, "acme", Role.ADMIN)
    async with served(office, tmp_path) as url, httpx.AsyncClient() as client:
        me = await client.get(f"{url}/me", headers=admin)
        made = await client.post(f"{url}/keys", headers=admin, json={"name": "ci"})
        theirs = {"authorization": f"Bearer {made.json()['secret']}"}
        async with asyncio.timeout(20):
            while (  # noqa: ASYNC110 - nobody says when it is known
                (them := await client.get(f"{url}/me", headers=theirs)).status_code == 401
            ):
                await asyncio.sleep(0.05)
        nobody = await client.get(f"{url}/me")

    assert (me.json()["org"], me.json()["role"]) == ("acme", "admin")
    assert them.json()["subject"] == f"key:{made.json()['key']['id']}"
    assert nobody.status_code == 401
    assert nobody.headers["content-type"] == "application/problem+json"
    assert nobody.json()["code"] == "identity_required"
    assert nobody.headers["www-authenticate"].startswith("Bearer")


async def test_names_are_read_as_they_were_written(office: Office, tmp_path: Path) -> None:
    await office.pin("acme", "mail", "a/b")
    operator = await holder(office, "acme", Role.OPERATOR)
    async with served(office, tmp_path) as url, httpx.AsyncClient(headers=operator) as client:
        pin = await client.get(f"{url}/pins/mail/a%2Fb")

    assert pin.json()["tool"] == "a/b"


async def test_those_who_ask_first_at_once_are_all_answered(office: Office, tmp_path: Path) -> None:
    user = await holder(office, "acme", Role.USER)
    async with served(office, tmp_path) as url, httpx.AsyncClient(headers=user) as client:
        answers = await asyncio.gather(*(client.get(f"{url}/me") for _ in range(5)))

    assert [answer.status_code for answer in answers] == [200] * 5


def test_who_does_not_ask_for_it_does_not_wait_for_its_libraries() -> None:
    code = "import trunkline.cli.serve, trunkline.api.mount, sys; print('fastapi' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)

    assert done.stdout.strip() == b"False"

"""`trunkline login` and `logout`: from a terminal to a server that wants that."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from tests.cli.conftest import Workplace
from tests.security.oauth_world import Browser
from tests.servers.authorization_server import Site, authorization_server

pytestmark = pytest.mark.anyio


@pytest.fixture
async def site() -> AsyncGenerator[Site]:
    async with authorization_server() as made:
        yield made


@asynccontextmanager
async def running(
    workplace: Workplace, *arguments: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *workplace.command(*arguments),
        cwd=workplace.folder,
        env=workplace.environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        with anyio.fail_after(90):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(workplace: Workplace, *arguments: str) -> tuple[int | None, str, str]:
    async with running(workplace, *arguments) as process:
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_a_person_logs_in_and_out_again(workplace: Workplace, site: Site) -> None:
    workplace.configure({"mail": {"url": site.mcp, "auth": "oauth"}})
    browser = Browser()

    async with running(workplace, "login", "mail", "--no-browser") as process:
        assert process.stdout is not None
        link = (await process.stdout.readline()).decode().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/oauth/start/\S+", link)
        page = await browser.log_in(link)
        out, err = await process.communicate()
    await browser.client.aclose()

    assert page.status_code == 200, page.text
    assert process.returncode == 0, err.decode()
    assert "You are logged in at mail." in out.decode()
    shown = out + err
    assert not [token for token in (*site.access, *site.refresh) if token.encode() in shown]
    code, out_again, _ = await run(workplace, "login", "mail", "--no-browser")
    assert (code, "before" in out_again) == (0, True)
    assert "logged out" in (await run(workplace, "logout", "mail"))[1]
    assert "were not" in (await run(workplace, "logout", "mail"))[1]


async def test_a_login_that_is_declined_is_a_sentence(workplace: Workplace, site: Site) -> None:
    site.faults.deny = True
    workplace.configure({"mail": {"url": site.mcp, "auth": {"type": "oauth"}}})
    browser = Browser()

    async with running(workplace, "login", "mail", "--no-browser") as process:
        assert process.stdout is not None
        await browser.log_in((await process.stdout.readline()).decode().strip())
        _, err = await process.communicate()
    await browser.client.aclose()

    assert process.returncode == 1
    assert "declined" in err.decode()
    assert "[login_failed]" in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize(
    ("name", "code"),
    [("mial", "server_not_found"), ("time", "usage"), ("away", "oauth_unavailable")],
)
async def test_where_nobody_can_log_in_is_a_sentence(
    workplace: Workplace, name: str, code: str
) -> None:
    workplace.configure(
        {
            "mail": {"url": "https://mail.example/mcp", "auth": "oauth"},
            "time": {"url": "https://time.example/mcp"},
            "away": {"url": "http://127.0.0.1:1/mcp", "auth": "oauth"},
        }
    )

    status, _, err = await run(workplace, "login", name, "--no-browser")

    assert status
    assert f"[{code}]" in err
    assert "Traceback" not in err

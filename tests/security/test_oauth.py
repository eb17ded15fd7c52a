"""People log in at servers behind us: the whole way, and who may not go it."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from tests.gateway_under_test import until
from tests.security.oauth_world import MUTE, Asker, World, world
from trunkline.downstream.oauth_entry import OAuthConfig
from trunkline.security.oauth.failures import LoginFailed, LoginRequired, PersonRequired
from trunkline.security.oauth.oauth import LoginState

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_a_person_who_follows_the_link_has_a_token_that_the_server_takes(
    here: World,
) -> None:
    mail, browser = here.server(), here.browser()

    link = await here.oauth.begin(None, "ada", mail)
    page = await browser.log_in(link)

    assert page.status_code == 200, page.text
    assert "You are logged in" in page.text
    token = await here.oauth.token(None, "ada", mail, None)
    assert token in here.site.access
    assert here.oauth.kept(None, "ada", mail) == token
    status = await here.oauth.status(None, "ada", mail)
    assert status.state is LoginState.VALID


async def test_a_call_waits_for_its_person_and_goes_on(here: World) -> None:
    mail, browser, asker = here.server(), here.browser(), Asker()
    tokens: list[str] = []

    async def call() -> None:
        tokens.append(await here.oauth.token("acme", "ada", mail, asker))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            link = await asker.link()
            assert (await here.oauth.status("acme", "ada", mail)).state is LoginState.WAITING
            await browser.log_in(link)

    assert tokens[0] in here.site.access
    question = asker.asked[0]
    assert question["mode"] == "url"
    assert asker.told == [
        ("notifications/elicitation/complete", {"elicitationId": question["elicitationId"]})
    ]


async def test_who_cannot_be_shown_a_link_gets_it_in_the_error(here: World) -> None:
    mail = here.server()

    with pytest.raises(LoginRequired) as raised:
        await here.oauth.token(None, "ada", mail, MUTE)

    assert raised.value.code == "login_required"
    assert raised.value.url is not None
    assert raised.value.url in str(raised.value)
    await here.browser().log_in(raised.value.url)
    assert await here.oauth.token(None, "ada", mail, None) in here.site.access


async def test_a_decline_ends_the_call_and_the_next_call_asks_again(here: World) -> None:
    mail, asker = here.server(), Asker(action="decline")

    for _ in range(2):
        with pytest.raises(LoginFailed, match="declined"), anyio.fail_after(20):
            await here.oauth.token(None, "ada", mail, asker)

    assert len(asker.asked) == 2


async def test_who_closes_the_browser_lets_the_call_end_with_the_link_in_the_error(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, login_patience=0.3) as here:
        mail, asker = here.server(), Asker()

        with pytest.raises(LoginRequired, match="Nobody logged in") as raised, anyio.fail_after(20):
            await here.oauth.token(None, "ada", mail, asker)

        assert raised.value.url == asker.asked[0]["url"]
        await here.browser().log_in(asker.asked[0]["url"])
        assert await here.oauth.token(None, "ada", mail, asker) in here.site.access


async def test_calls_of_one_person_share_one_login_and_one_question(here: World) -> None:
    mail, asker = here.server(), Asker()
    tokens: list[str] = []

    async def call() -> None:
        tokens.append(await here.oauth.token(None, "ada", mail, asker))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call)
            await here.browser().log_in(await asker.link())

    assert len(set(tokens)) == 1
    assert len(tokens) == 20
    assert len(asker.asked) == 1
    assert here.site.counts["authorization_code"] == 1


async def test_a_login_that_is_declined_at_the_site_ends_the_call_that_waits(here: World) -> None:
    mail, asker = here.server(), Asker()
    here.site.faults.deny = True

    async def call() -> None:
        with pytest.raises(LoginFailed, match="declined"):
            await here.oauth.token(None, "ada", mail, asker)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            page = await here.browser().log_in(await asker.link())
            assert page.status_code == 400
            assert "not logged in" in page.text


async def test_a_login_may_come_back_to_another_process_than_the_one_that_waits(
    here: World,
) -> None:
    mail, asker, tokens = here.server(), Asker(), list[str]()

    async def call() -> None:
        tokens.append(await here.oauth.token("acme", "ada", mail, asker))

    with anyio.fail_after(30):
        async with here.process() as other, anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            browser, link = here.browser(), await asker.link()
            back = await browser.allowed(link.replace(here.first.pages, other.pages))
            page = await browser.open(back.replace(here.first.pages, other.pages))
            assert page.status_code == 200, page.text

    assert tokens[0] in here.site.access


async def test_a_login_survives_that_everything_is_started_anew_in_the_middle(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here:
        mail = here.server()
        async with here.process() as before:
            link = await before.oauth.begin(None, "ada", mail)
            browser = here.browser()
            back = await browser.allowed(link)
        async with here.process() as after:
            page = await browser.open(back.replace(before.pages, after.pages))
            assert page.status_code == 200, page.text
            assert await after.oauth.token(None, "ada", mail, None) in here.site.access


async def test_the_registration_is_made_once_and_used_by_every_process(here: World) -> None:
    here.site.faults.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_basic"]}
    mail, notes = here.server("mail"), here.server("notes")

    await here.logged_in(mail)
    async with here.process(public_url=here.first.pages) as other:
        page = await here.browser().log_in(await other.oauth.begin(None, "bob", notes))
        assert page.status_code == 200, page.text

    assert here.site.counts["register"] == 1


async def test_two_processes_that_register_at_once_end_with_one_registration(here: World) -> None:
    here.site.faults.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_basic"]}
    mail = here.server()

    async with here.process(public_url=here.first.pages) as other:
        await asyncio.gather(*(one.oauth.begin(None, "ada", mail) for one in (here.first, other)))
        page = await here.browser().log_in(await other.oauth.begin(None, "ada", mail))
        assert page.status_code == 200, page.text

    rows = await here.first.database.fetchval("SELECT count(*) FROM mcp.oauth_registrations")
    assert rows == 1


async def test_a_client_of_mcp_json_is_used_with_its_secret(here: World) -> None:
    here.site.clients["ours"] = {
        "client_secret": "s3cret: of ours",
        "redirect_uris": [f"{here.first.pages}/oauth/callback"],
    }
    mail = here.server(client_id="ours", client_secret="s3cret: of ours", scopes=("read",))

    await here.logged_in(mail)

    assert here.site.counts["register"] == 0
    dump = await here.first.database.fetchval(
        "SELECT string_agg(l::text, '') FROM mcp.oauth_logins l"
    )
    assert "s3cret" not in dump


async def test_a_document_that_describes_us_takes_the_place_of_a_registration(
    here: World,
) -> None:
    here.site.faults.metadata = {"client_id_metadata_document_supported": True}
    url = "https://gateway.example/oauth/client.json"
    here.site.clients[url] = {"redirect_uris": [f"{here.first.pages}/oauth/callback"]}

    await here.logged_in(here.server(client_metadata_url=url))

    assert here.site.counts["register"] == 0


async def test_a_registration_that_the_site_has_forgotten_is_made_anew(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)
    here.site.clients.clear()
    here.site.expire()

    with pytest.raises(LoginRequired):
        await here.oauth.renew(
            None, "ada", mail, None, refused=await here.oauth.token(None, "ada", mail, None)
        )

    assert await here.logged_in(mail) in here.site.access
    assert here.site.counts["register"] == 2


async def test_who_logs_out_has_no_token_any_more(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)

    assert await here.oauth.log_out(None, "ada", mail)

    assert not await here.oauth.log_out(None, "ada", mail)
    assert here.oauth.kept(None, "ada", mail) is None
    assert (await here.oauth.status(None, "ada", mail)).state is LoginState.NONE
    with pytest.raises(LoginRequired):
        await here.oauth.token(None, "ada", mail, None)


async def test_a_caller_who_is_no_person_is_told_so(here: World) -> None:
    with pytest.raises(PersonRequired) as raised:
        await here.oauth.token("acme", None, here.server(), Asker())

    assert raised.value.code == "person_required"


async def test_without_pages_the_error_names_the_command(here: World) -> None:
    here.oauth.base = None

    with pytest.raises(LoginRequired, match="trunkline login mail"):
        await here.oauth.token(None, "ada", here.server(), Asker())


async def test_a_scope_that_the_server_misses_is_asked_for_beside_those_there_are(
    here: World,
) -> None:
    mail = here.server(scopes=("read",))
    token = await here.logged_in(mail)
    here.change(mail, oauth=OAuthConfig())

    with pytest.raises(LoginRequired) as raised:
        await here.oauth.renew(
            None,
            "ada",
            here.configs[mail.id],
            MUTE,
            refused=token,
            challenge='Bearer error="insufficient_scope", scope="write"',
        )
    assert raised.value.url is not None
    await here.browser().log_in(raised.value.url)

    wider = await here.oauth.token(None, "ada", mail, None)
    assert here.site.access[wider][0].scope == "read write"


async def test_nobody_is_sent_a_link_who_has_not_called(here: World) -> None:
    with pytest.raises(LoginRequired) as raised:
        await here.oauth.token(None, "ada", here.server(), None)

    assert raised.value.url is None
    assert await here.first.database.fetchval("SELECT count(*) FROM mcp.oauth_logins") == 0


async def test_the_link_that_nobody_waits_for_is_shown_again_for_a_while(here: World) -> None:
    mail = here.server()
    links = set[str | None]()

    for _ in range(3):
        with pytest.raises(LoginRequired) as raised:
            await here.oauth.token(None, "ada", mail, MUTE)
        links.add(raised.value.url)

    assert len(links) == 1


async def test_how_a_login_ended_is_told_to_every_process(here: World) -> None:
    here.site.faults.deny = True
    async with here.process() as other:
        heard, started = list[str](), anyio.Event()
        with (
            other.database.listening("mcp_oauth", on_message=heard.append, on_start=started.set),
            anyio.fail_after(20),
        ):
            await started.wait()
            await here.browser().log_in(await here.oauth.begin(None, "ada", here.server()))
            await until(lambda: heard)

    login = await here.first.database.fetchval("SELECT id::text FROM mcp.oauth_logins")
    assert heard == [login]


async def test_a_call_goes_on_when_its_person_has_logged_in_over_another_link(
    here: World,
) -> None:
    mail, asker, tokens = here.server(), Asker(), list[str]()

    async def call() -> None:
        tokens.append(await here.oauth.token(None, "ada", mail, asker))

    with anyio.fail_after(30):
        async with here.process() as other, anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await asker.link()
            await here.browser().log_in(await other.oauth.begin(None, "ada", mail))

    assert tokens[0] in here.site.access

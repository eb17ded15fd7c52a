"""What people try who want somebody else's token, or to have somebody use theirs."""

from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx
import pytest

from tests.security.oauth_world import Asker, World, world
from tests.servers.authorization_server import hosted
from trunkline.downstream.credentials import Reference
from trunkline.gateway.oauth_callback import oauth_routes
from trunkline.models import Principal
from trunkline.security.oauth.failures import LoginRequired
from trunkline.security.oauth.oauth import LoginState
from trunkline.security.oauth.turns import holder_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def here(tmp_path: Path) -> AsyncGenerator[World]:
    async with world(tmp_path) as made:
        yield made


def query(url: str) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}


def with_query(url: str, **changes: str) -> str:
    return str(httpx.URL(url).copy_merge_params(changes))


async def is_logged_in(here: World, user: str) -> bool:
    status = await here.oauth.status(None, user, here.configs[next(iter(here.configs))])
    return status.state is LoginState.VALID


async def test_a_response_is_good_once(here: World) -> None:
    mail, browser = here.server(), here.browser()
    back = await browser.allowed(await here.oauth.begin(None, "ada", mail))
    assert (await browser.open(back)).status_code == 200
    await here.oauth.log_out(None, "ada", mail)

    again = await browser.open(back)

    assert again.status_code == 400
    assert "over" in again.text
    assert not await is_logged_in(here, "ada")
    assert here.site.counts["authorization_code"] == 1


async def test_a_response_in_another_browser_than_the_one_that_set_out_is_refused(
    here: World,
) -> None:
    victim, thief = here.browser(), here.browser()
    back = await thief.allowed(await here.oauth.begin(None, "mallory", here.server()))

    page = await victim.open(back)

    assert page.status_code == 400
    assert "This browser did not set out from here" in page.text
    assert not await is_logged_in(here, "mallory")
    assert (await thief.open(back)).status_code == 400, "it is used up"
    assert here.site.counts["authorization_code"] == 0


async def test_an_address_of_the_site_that_is_passed_on_is_of_no_use_to_who_passed_it(
    here: World,
) -> None:
    thief, victim = here.browser(), here.browser()
    target = await thief.set_out(await here.oauth.begin(None, "mallory", here.server()))

    back = (await victim.open(target)).headers["location"]
    page = await victim.open(back)

    assert page.status_code == 400
    assert not await is_logged_in(here, "mallory")


async def test_a_link_that_somebody_has_set_out_on_is_good_in_no_other_browser(
    here: World,
) -> None:
    first, second = here.browser(), here.browser()
    link = await here.oauth.begin(None, "ada", here.server())
    await first.set_out(link)

    assert (await second.press(link)).status_code == 410
    assert (await first.log_in(link)).status_code == 200


async def test_looking_at_a_link_changes_nothing_and_says_in_whose_name_one_goes_on(
    here: World,
) -> None:
    link = await here.oauth.begin("acme", "ada <script>", here.server())

    pages = [await here.browser().open(link) for _ in range(3)]

    assert all(page.status_code == 200 for page in pages)
    assert "ada &lt;script&gt; of acme" in pages[0].text
    assert "<script" not in pages[0].text
    assert here.site.url in pages[0].text
    assert (await here.browser().log_in(link)).status_code == 200


async def test_only_the_last_state_of_a_browser_that_sets_out_twice_is_good(here: World) -> None:
    browser = here.browser()
    link = await here.oauth.begin(None, "ada", here.server())
    early = await browser.allowed(link)
    late = await browser.allowed(link)

    assert (await browser.open(early)).status_code == 400
    assert (await browser.open(late)).status_code == 200


async def test_the_code_of_another_login_is_of_no_use(here: World) -> None:
    mail, thief, victim = here.server(), here.browser(), here.browser()
    stolen = await victim.allowed(await here.oauth.begin(None, "ada", mail))
    back = await thief.allowed(await here.oauth.begin(None, "mallory", mail))

    page = await thief.open(with_query(back, code=query(stolen)["code"]))

    assert page.status_code == 400
    assert not await is_logged_in(here, "mallory")


async def test_the_verifier_needs_both_the_row_and_the_address(here: World) -> None:
    browser = here.browser()
    link = await here.oauth.begin(None, "ada", here.server())
    back = await browser.allowed(link)
    row = str(dict(await here.first.database.fetchrow("SELECT * FROM mcp.oauth_logins") or {}))

    await browser.open(back)

    verifier = here.site.bodies[0]["code_verifier"]
    assert verifier not in row
    assert verifier not in back
    assert query(back)["state"] not in row
    assert link.rpartition("/")[2] not in row


@pytest.mark.parametrize("iss", ["https://evil.example", None])
async def test_a_response_of_another_site_than_was_asked_is_refused(
    here: World, iss: str | None
) -> None:
    here.site.faults.iss = iss
    browser = here.browser()

    page = await browser.log_in(await here.oauth.begin(None, "ada", here.server()))

    assert page.status_code == 400
    assert "does not come from" in page.text
    assert here.site.counts["authorization_code"] == 0


async def test_a_site_that_never_names_itself_need_not(here: World) -> None:
    here.site.faults.metadata = {"authorization_response_iss_parameter_supported": None}
    here.site.faults.iss = None

    await here.logged_in(here.server())


@pytest.mark.parametrize(
    "change",
    [
        {"state": ""},
        {"state": "x" * 4000},
        {"state": "\x00\ud7ff"},
        {"code": ""},
        {"error": "<script>alert(1)</script>", "error_description": "<b>\r\nSet-Cookie: a=b"},
        {"redirect_uri": "https://evil.example", "next": "https://evil.example"},
    ],
)
async def test_whatever_comes_back_leads_nowhere_and_is_shown_harmlessly(
    here: World, change: dict[str, str]
) -> None:
    browser = here.browser()
    back = await browser.allowed(await here.oauth.begin(None, "ada", here.server()))

    page = await browser.open(with_query(back, **change))

    assert "location" not in page.headers
    assert "set-cookie" not in page.headers
    assert "<script" not in page.text
    assert "<b>" not in page.text
    assert page.status_code == (200 if "next" in change else 400)


async def test_a_parameter_that_comes_twice_is_refused_and_uses_nothing_up(here: World) -> None:
    browser = here.browser()
    back = await browser.allowed(await here.oauth.begin(None, "ada", here.server()))

    assert (await browser.open(f"{back}&code=other")).status_code == 400
    assert (await browser.open(back)).status_code == 200


async def test_programs_that_look_at_links_do_not_use_a_response_up(here: World) -> None:
    browser = here.browser()
    back = await browser.allowed(await here.oauth.begin(None, "ada", here.server()))

    assert (await browser.client.head(back)).status_code == 405
    assert (await browser.open(back)).status_code == 200


async def test_pages_run_nothing_and_stand_in_no_frame(here: World) -> None:
    link = await here.oauth.begin(None, "ada", here.server())

    for page in (await here.browser().open(link), await here.browser().open(f"{link}x")):
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert page.headers["cache-control"] == "no-store"
    assert page.status_code == 410


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(here: World) -> None:
    link = await here.oauth.begin(None, "ada", here.server())

    response = await here.browser().press(link)

    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


async def test_where_a_browser_is_somebodys_it_follows_that_ones_links_only(here: World) -> None:
    from starlette.applications import Starlette

    bob = Principal(subject="key:1", org=None, user="bob")
    async with hosted(Starlette(routes=oauth_routes(here.oauth, lambda _: bob))) as pages:
        here.oauth.base = pages
        mail, browser = here.server(), here.browser()
        links = [await here.oauth.begin(None, user, mail) for user in ("ada", "bob")]

        assert [(await browser.open(link)).status_code for link in links] == [403, 200]
        assert (await browser.press(links[0])).status_code == 403


async def test_tokens_of_one_person_are_no_other_persons(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail, "acme")

    for org, user in (("globex", "ada"), (None, "ada"), ("acme", "bob")):
        assert here.oauth.kept(org, user, mail) is None
        with pytest.raises(LoginRequired):
            await here.oauth.token(org, user, mail, None)


async def test_a_token_goes_to_no_other_server_that_takes_the_name(here: World) -> None:
    mail = here.server()
    await here.logged_in(mail)

    moved = here.change(mail, url=f"{here.site.url}/evil")

    assert here.oauth.kept(None, "ada", moved) is None
    assert await here.oauth.refreshing.stored(holder_of(None, "ada", moved), moved) is None


async def test_a_server_that_is_changed_in_the_middle_gets_no_token(here: World) -> None:
    mail, browser = here.server(), here.browser()
    back = await browser.allowed(await here.oauth.begin(None, "ada", mail))
    here.change(mail, url=f"{here.site.url}/evil")

    page = await browser.open(back)

    assert page.status_code == 400
    assert "was changed meanwhile" in page.text
    assert here.site.counts["authorization_code"] == 0


async def test_no_reference_in_mcp_json_can_name_a_token_of_a_login(here: World) -> None:
    name = holder_of(None, "ada", here.server()).name

    assert Reference.read(f"user.token:{name}") is None


async def test_nothing_that_is_secret_is_in_the_database_as_it_is(here: World) -> None:
    here.site.faults.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_basic"]}
    token = await here.logged_in(here.server())
    secrets = [token, *here.site.refresh]
    secrets += [client["client_secret"] for client in here.site.clients.values()]
    assert len(secrets) == 3

    for table in ("oauth_logins", "oauth_grants", "oauth_registrations", "vault"):
        rows = str(await here.first.database.fetch(f"SELECT * FROM mcp.{table}"))
        assert not [secret for secret in secrets if secret in rows]


async def test_a_site_that_repeats_our_refresh_token_does_not_have_us_show_it(
    here: World, capsys: pytest.CaptureFixture[str]
) -> None:
    mail = here.server()
    token = await here.logged_in(mail)
    (again,) = here.site.refresh
    here.site.revoke()

    with pytest.raises(LoginRequired) as raised:
        await here.oauth.renew(None, "ada", mail, None, refused=token)

    status = await here.oauth.status(None, "ada", mail)
    shown = f"{raised.value!r} {raised.value} {status} {capsys.readouterr()}"
    assert again not in shown
    assert token not in shown


async def test_a_link_whose_time_is_over_leads_nowhere(tmp_path: Path) -> None:
    async with world(tmp_path, link_lifetime=0.2) as here:
        mail, asker = here.server(), Asker()
        failed: list[str] = []

        async def call() -> None:
            try:
                await here.oauth.token(None, "ada", mail, asker)
            except Exception as error:  # noqa: BLE001 - looked at below
                failed.append(str(error))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                link = await asker.link()
                while (await here.browser().open(link)).status_code != 410:
                    pass

        assert "Nobody followed the link in time" in failed[0]

"""Whose results are kept for whom: dispatch, the rules of sharing and a cache, without a server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from uuid import UUID

import pytest

from tests.catalog.shelf import Shelf, tool
from trunkline.cache.cache import Cache
from trunkline.cache.connection import open_cache
from trunkline.catalog.catalog import Catalog
from trunkline.dispatch import Dispatch
from trunkline.downstream.config import ServerConfig
from trunkline.errors import OrgNotFound
from trunkline.kept_results import KeptResults
from trunkline.models import LOCAL, Caller, Client, Era, Json, Listing
from trunkline.providers.sharing import ResultScope, Sharing
from trunkline.settings import CacheSettings

pytestmark = pytest.mark.anyio

ORGS = {None: None, "acme": UUID(int=1), "globex": UUID(int=2)}
READ = tool("read", annotations={"readOnlyHint": True, "idempotentHint": True})
SOMEBODY = Client(
    id="1", era=Era.MODERN, protocol_version="2026-07-28", principal=replace(LOCAL, user=None)
)


def _user(name: str) -> Client:
    return replace(SOMEBODY, principal=replace(LOCAL, user=name))


CONFIG = ServerConfig(name="s", transport="streamable-http", url="https://example.com/mcp")


def scope_of(org: str | None) -> UUID | None:
    try:
        return ORGS[org]
    except KeyError:
        raise OrgNotFound(str(org)) from None


@dataclass
class Counter(Shelf):
    """Answers with the number of the call, and *further* fields."""

    config: ServerConfig = CONFIG
    further: Json = field(default_factory=dict[str, object])
    calls: int = 0
    gate: asyncio.Event | None = None

    async def request(
        self, method: str, params: Json, caller: Caller, *, repeatable: bool = False
    ) -> Json:
        self.calls += 1
        call = self.calls
        if self.gate is not None:
            await self.gate.wait()
        return {"content": [], "call": call, **self.further}

    def result_scope(self, client: Client) -> ResultScope | None:
        return Sharing(self.config).result_scope(client)


@dataclass
class Asking:
    """A client of the command line's kind."""

    client: Client = SOMEBODY
    log_level: str | None = None
    standing: None = None

    async def ask(self, method: str, params: Json | None) -> Json:
        raise NotImplementedError

    async def tell(self, method: str, params: Json | None) -> None:
        raise NotImplementedError


@dataclass
class Desk:
    """A dispatch in front of one provider."""

    catalog: Catalog
    dispatch: Dispatch
    provider: Counter

    async def ask(self, client: Client = SOMEBODY, **params: object) -> int:
        result = await self.dispatch.request(
            "tools/call", {"name": "read", **params}, Asking(client)
        )
        return result["call"]


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    async with open_cache(None) as cache:
        assert await cache.wait_available(20)
        yield cache


def desk_of(cache: Cache, **config: object) -> Desk:
    catalog = Catalog()
    provider = Counter("s", Listing(tools=(READ,)), config=replace(CONFIG, **config))  # pyright: ignore[reportArgumentType] - fields by name
    catalog.put(provider)
    dispatch = Dispatch(catalog)
    dispatch.results = KeptResults(cache, CacheSettings(results=True), scope_of)
    return Desk(catalog, dispatch, provider)


async def test_no_org_is_given_what_another_was_told(cache: Cache) -> None:
    desk = desk_of(cache)
    clients = [replace(SOMEBODY, principal=replace(SOMEBODY.principal, org=org)) for org in ORGS]

    first = [await desk.ask(client) for client in clients]
    again = [await desk.ask(client) for client in clients]

    assert first == again == [1, 2, 3]


async def test_an_org_that_is_not_known_yet_gets_fresh_results(cache: Cache) -> None:
    desk = desk_of(cache)
    new = replace(SOMEBODY, principal=replace(LOCAL, org="new"))

    assert [await desk.ask(new), await desk.ask(new)] == [1, 2]


async def test_an_era_is_not_given_what_the_other_was_told(cache: Cache) -> None:
    desk = desk_of(cache)
    older = replace(SOMEBODY, era=Era.HANDSHAKE)

    assert [await desk.ask(), await desk.ask(older), await desk.ask()] == [1, 2, 1]


async def test_users_with_sessions_of_their_own_have_results_of_their_own(cache: Cache) -> None:
    desk = desk_of(cache, sharing="user")
    desk.provider.further = {"cacheScope": "private", "ttlMs": 60_000}
    ada, bob = (_user(name) for name in ("ada", "bob"))

    assert [await desk.ask(one) for one in (ada, bob, ada, bob)] == [1, 2, 1, 2]
    assert [await desk.ask(), await desk.ask()] == [3, 4]


@pytest.mark.parametrize("sharing", ["global", "org"])
async def test_what_is_private_is_not_kept_where_many_ask_in_one_name(
    cache: Cache, sharing: str
) -> None:
    desk = desk_of(cache, sharing=sharing)
    desk.provider.further = {"cacheScope": "private", "ttlMs": 60_000}
    ada = _user("ada")

    assert [await desk.ask(ada), await desk.ask(ada)] == [1, 2]


async def test_what_a_process_here_says_is_not_what_one_elsewhere_would(cache: Cache) -> None:
    child = {"transport": "stdio", "url": None, "command": "read-files"}
    here, elsewhere = desk_of(cache), desk_of(cache)
    own, others = desk_of(cache, **child), desk_of(cache, **child)

    assert [await here.ask(), await elsewhere.ask(), elsewhere.provider.calls] == [1, 1, 0]
    assert [await own.ask(), await others.ask(), others.provider.calls] == [1, 1, 1]


@pytest.mark.parametrize("further", ["requestState", "inputResponses", "task"])
async def test_a_call_that_is_about_more_than_its_arguments_is_made(
    cache: Cache, further: str
) -> None:
    desk = desk_of(cache)

    assert [await desk.ask(), await desk.ask(SOMEBODY, **{further: {}}), await desk.ask()] == [
        1,
        2,
        1,
    ]


async def test_a_progress_token_makes_no_difference(cache: Cache) -> None:
    desk = desk_of(cache)

    assert [await desk.ask(), await desk.ask(_meta={"progressToken": 7})] == [1, 1]


async def test_those_who_ask_at_the_same_time_are_each_answered_by_a_call_of_their_own(
    cache: Cache,
) -> None:
    desk = desk_of(cache)
    desk.provider.gate = asyncio.Event()

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(desk.ask()) for _ in range(5)]
        async with asyncio.timeout(5):
            while desk.provider.calls < len(asked):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        desk.provider.gate.set()

    assert sorted(task.result() for task in asked) == [1, 2, 3, 4, 5]


async def test_another_definition_of_a_tool_is_another_tool(cache: Cache) -> None:
    desk = desk_of(cache)
    before = await desk.ask()

    desk.provider.listing = Listing(tools=({**READ, "description": "Otherwise."},))
    desk.catalog.put(desk.provider)

    assert [before, await desk.ask(), await desk.ask()] == [1, 2, 2]


async def test_an_answer_that_is_overtaken_while_it_is_on_its_way_is_not_kept(
    cache: Cache,
) -> None:
    desk = desk_of(cache)
    desk.provider.gate = asyncio.Event()

    async with asyncio.TaskGroup() as tasks:
        asked = tasks.create_task(desk.ask())
        async with asyncio.timeout(5):
            while not desk.provider.calls:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)
        assert await cache.invalidate("result", None)
        desk.provider.gate.set()

    assert [asked.result(), await desk.ask(), await desk.ask()] == [1, 2, 2]

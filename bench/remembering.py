"""
The parts of Trunkline that remember, ready to be timed: a search, and the call of a tool.

For `bench.cache`. The tools are made up, since only their number matters here; the index, the
embedding, the catalog and the dispatch are the real ones. The tool's server is not: it answers at
once, so that what is left is what Trunkline takes.
"""

from collections.abc import Awaitable, Callable, Mapping
from itertools import count, product
from typing import Any, Final

from bench.search import fill
from tests.catalog.shelf import Shelf, tool

from trunkline.cache.cache import Cache
from trunkline.catalog.catalog import Catalog
from trunkline.dispatch import Dispatch
from trunkline.downstream.config import ToolRules
from trunkline.index.index import Query
from trunkline.kept_results import KeptResults
from trunkline.models import LOCAL, Caller, Client, Era, Json, Listing
from trunkline.providers.sharing import ResultScope
from trunkline.search.embedding.static import StaticEmbedding
from trunkline.search.remembered import RememberedSearcher
from trunkline.search.strategies import Searcher
from trunkline.settings import CacheSettings

VERBS: Final = ("create", "read", "update", "delete", "search", "list", "export", "send", "approve")
NOUNS: Final = ("issue", "invoice", "calendar event", "email", "customer", "flight", "song", "file")
QUERY: Final = "find the invoice of a customer and send it by email"

Ask = Callable[[], Awaitable[Any]]

CLIENT: Final = Client(id="bench", principal=LOCAL, era=Era.MODERN, protocol_version="2026-07-28")


class Nobody:
    """A client that is neither told nor asked anything."""

    client, log_level, standing = CLIENT, None, None

    async def ask(self, method: str, params: Json | None) -> Json:
        raise NotImplementedError

    async def tell(self, method: str, params: Json | None) -> None:
        raise NotImplementedError


class Answering(Shelf):
    """A provider that answers at once."""

    async def request(
        self, method: str, params: Json, caller: Caller, *, repeatable: bool = False
    ) -> Json:
        return {"content": [{"type": "text", "text": "ok"}]}

    def result_scope(self, client: Client) -> ResultScope | None:
        return ResultScope("bench", personal=False)


async def searches(size: int) -> Callable[[Cache | None], Mapping[str, Ask]]:
    """Searches of so many tools: with a cache by what becomes of them, without one as they are."""
    embedding, numbers = StaticEmbedding(), count()
    combinations = product(VERBS, NOUNS, range(size // len(VERBS) // len(NOUNS) + 1))
    index = await fill(
        [
            {
                "id": f"{verb}-{noun}-{number}",
                "name": f"{verb}_{noun.replace(' ', '_')}_{number}",
                "server": f"server{number % 50}",
                "description": f"{verb.capitalize()} the {noun} that has the number {number}.",
            }
            for verb, noun, number in combinations
        ][:size],
        embedding,
    )
    plain, filters = Searcher(index, embedding), Query(org=None, limit=20)

    def asks(cache: Cache | None) -> Mapping[str, Ask]:
        if cache is None:
            return {"as it is": lambda: plain.search(QUERY, filters)}
        kept = RememberedSearcher(plain, cache, source="bench", ttl=60)
        return {
            "hit": lambda: kept.search(QUERY, filters),
            "miss": lambda: kept.search(f"{QUERY} {next(numbers)}", filters),
        }

    return asks


def calls(cache: Cache | None) -> Mapping[str, Ask]:
    """Calls of one tool whose results are kept and of one whose are not; without, of any."""
    catalog, caller = Catalog(), Nobody()
    rules = ToolRules(cache={"kept": 60.0})
    catalog.put(Answering("bench", Listing(tools=(tool("kept"), tool("plain"))), rules=rules))
    dispatch, numbers = Dispatch(catalog), count()
    if cache is None:
        return {"as it is": lambda: dispatch.request("tools/call", {"name": "plain"}, caller)}
    dispatch.results = KeptResults(cache, CacheSettings(), lambda _: None)

    def ask(name: str, **arguments: int) -> Awaitable[Json]:
        return dispatch.request("tools/call", {"name": name, "arguments": arguments}, caller)

    return {
        "not kept": lambda: ask("plain"),
        "hit": lambda: ask("kept"),
        "miss": lambda: ask("kept", number=next(numbers)),
    }

"""A provider that lists what a test puts on it, and can be asked nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trunkline.catalog.catalog import Catalog
from trunkline.downstream.config import ToolRules
from trunkline.models import Caller, Client, Json, Listing, ProviderId, State, Status
from trunkline.providers.sharing import ResultScope


@dataclass
class Shelf:
    name: str
    listing: Listing | None = field(default_factory=Listing)
    prefix: str = ""
    position: int = 0
    org: str | None = None
    is_plugin: bool = False
    rules: ToolRules = field(default_factory=ToolRules)
    status: Status = field(default_factory=lambda: Status(State.CONNECTED))
    on_change: Callable[[Any], None] | None = None
    on_updated: Callable[[str, str, Json], None] | None = None

    @property
    def id(self) -> ProviderId:
        return ProviderId(self.org, self.name)

    async def request(
        self, method: str, params: Json, caller: Caller, *, repeatable: bool = False
    ) -> Json:
        raise NotImplementedError

    def may_ask(self, client: Client) -> bool:
        return False

    def result_scope(self, client: Client) -> ResultScope | None:
        return None

    async def subscribe(self, uri: str, caller: Caller) -> str:
        raise NotImplementedError

    async def unsubscribe(self, uri: str, caller: Caller) -> None:
        raise NotImplementedError

    async def set_level(self, caller: Caller, level: str) -> None:
        raise NotImplementedError

    async def notify(self, method: str, params: Json | None, client: Client) -> None:
        raise NotImplementedError

    async def forget(self, client_id: str) -> None:
        raise NotImplementedError


def everybodys(name: str) -> ProviderId:
    """The provider of that name that belongs to no organisation."""
    return ProviderId(None, name)


def tool(name: Any, **more: Any) -> Json:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def tools(*names: str) -> Listing:
    """A listing of tools that have nothing but a name."""
    return Listing(tools=tuple(tool(name) for name in names))


def resources(*uris: str) -> Listing:
    """A listing of resources; what has an expression in it is a template."""
    return Listing(
        resources=tuple({"uri": uri, "name": uri} for uri in uris if "{" not in uri),
        templates=tuple({"uriTemplate": uri, "name": uri} for uri in uris if "{" in uri),
    )


def catalog_of(*shelves: Shelf) -> Catalog:
    catalog = Catalog()
    for shelf in shelves:
        catalog.put(shelf)
    return catalog


def names(items: tuple[Json, ...]) -> list[str]:
    return [item["name"] for item in items]

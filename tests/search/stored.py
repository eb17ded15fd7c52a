"""A database with servers in it, and an index in a stand-in for Qdrant that is to follow it."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from tests.index.qdrant_stand_in import StandIn, stand_in
from tests.search.searchable import Counting
from trunkline.index.index import Point, Query
from trunkline.index.outbox import OutboxWorker
from trunkline.index.qdrant import QdrantIndex
from trunkline.index.qdrant_connection import connect
from trunkline.index.qdrant_schema import Space
from trunkline.index.retry import Backoff
from trunkline.models import Json, Kind
from trunkline.search.cards import CardShelf
from trunkline.search.delivery import IndexDelivery
from trunkline.search.filling import Filling
from trunkline.search.points import PointMaker
from trunkline.search.terms import query_terms
from trunkline.search.vectors import Vectors
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.embeddings import EmbeddingRepository
from trunkline.storage.repositories.items import ItemRepository
from trunkline.storage.repositories.orgs import OrgRepository
from trunkline.storage.repositories.outbox import OutboxRepository
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.rows import Item

KEY: Final[Mapping[Kind, str]] = {
    "tools": "name",
    "prompts": "name",
    "resources": "uri",
    "templates": "uriTemplate",
}
ONCE: Final = Backoff(attempts=1, timeout=5.0)


class Interrupted(QdrantIndex):
    """An index that lets something happen once, between what was read and what is written."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def upsert(self, points: Sequence[Point]) -> None:
        doing, self.meanwhile = self.meanwhile, None
        if doing is not None:
            await doing()
        await super().upsert(points)


@dataclass(frozen=True)
class Stored:
    """The rows of one database, and one model's index of them."""

    database: Database
    qdrant: StandIn
    index: Interrupted
    embedding: Counting
    cards: CardShelf
    maker: PointMaker
    filling: Filling
    delivery: IndexDelivery
    progress: list[int] = field(default_factory=list[int])

    async def fill(self) -> int:
        """Fill the index, keeping what is told on the way."""
        return await self.filling.fill(self.progress.append)

    async def list_items(
        self,
        server: str,
        items: Mapping[str, str],
        *,
        kind: Kind = "tools",
        org: UUID | None = None,
        **about: Any,
    ) -> None:
        """Have a server list these items, with a description each."""
        servers = ServerRepository(self.database)
        row = await servers.put(org, server, origin="api", config={})
        if about:
            await servers.describe(org, row.id, about)
        listed = [
            Item(own, f"{server}__{own}"[:64], {KEY[kind]: own, "name": own, "description": text})
            for own, text in items.items()
        ]
        await ItemRepository(self.database, kind).sync(org, row.id, listed)

    async def make_org(self, name: str) -> UUID:
        return await OrgRepository(self.database).put(name)

    async def deliver_all(self) -> bool:
        """Carry out every errand that is due, or will be; whether none is left."""
        outbox = OutboxRepository(self.database)
        await self.database.execute("UPDATE mcp.outbox SET due_at = now()")
        while await OutboxWorker(outbox, [self.delivery]).work():
            pass
        return await outbox.backlog() == 0

    async def found(self, words: str, org: UUID | None = None) -> list[str]:
        """What a search by terms and vector finds, as `server: name`."""
        vector = await self.embedding.embed([words], query=True)
        query = Query(org=org, vector=vector[0], terms=query_terms(words), limit=100)
        matches = await self.index.search(query)
        return [f"{match.ref.server}: {match.ref.own_name}" for match in matches]

    async def contents(self) -> set[str]:
        """Everything in the index, as `server: name`."""
        return {f"{ref.server}: {ref.own_name}" async for ref, _ in self.index.contents()}


@asynccontextmanager
async def stored(dsn: str) -> AsyncGenerator[Stored]:
    """An empty Qdrant for the database at *dsn*."""
    async with open_pool(dsn, DatabaseSettings()) as database, stand_in() as qdrant:
        async with beside(database, qdrant, Counting()) as first:
            yield first


@asynccontextmanager
async def beside(
    database: Database, qdrant: StandIn, embedding: Counting
) -> AsyncGenerator[Stored]:
    """What a process with *embedding* has on the same database and the same Qdrant."""
    async with connect(qdrant.url) as client:
        cards = CardShelf(database, embedding, lambda: True)
        vectors = Vectors(embedding, EmbeddingRepository(database), lambda: True)
        maker = PointMaker(vectors, cards)
        space = Space(embedding.model, embedding.dimensions)
        index = Interrupted(client, space, backoff=ONCE)
        filling = Filling(database, index, maker)
        delivery = IndexDelivery(database, index, maker)
        yield Stored(database, qdrant, index, embedding, cards, maker, filling, delivery)


def definition(name: str, description: str = "") -> Json:
    """The definition of a tool."""
    return {"name": name, "description": description, "inputSchema": {"type": "object"}}

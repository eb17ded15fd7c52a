"""What search is made of, around a catalog of shelves: no server, no gateway, no database."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from tests.gateway_under_test import until
from tests.search.bag import BagOfTerms
from trunkline.catalog.catalog import Catalog
from trunkline.errors import EmbeddingUnavailable, OrgNotFound
from trunkline.index.in_process import InProcessIndex
from trunkline.models import LOCAL
from trunkline.search.cards import CardShelf
from trunkline.search.embedding.embedding import Embedding
from trunkline.search.indexer import Indexer
from trunkline.search.points import PointMaker
from trunkline.search.search import Found, Request, Search
from trunkline.search.strategies import Searcher
from trunkline.search.vectors import Vectors
from trunkline.settings import DatabaseSettings
from trunkline.storage.pool import open_pool
from trunkline.storage.repositories.embeddings import EmbeddingRepository

NOWHERE: Final = "postgresql:///nothing?host=/nowhere"
"""The address of a database that is away."""

ORGS: Final = {None: None, "acme": UUID(int=1), "globex": UUID(int=2)}


class Counting:
    """An embedding that remembers which texts it has embedded, and can be away."""

    def __init__(self, embedding: Embedding | None = None, *, model: str = "") -> None:
        self._embedding = embedding or BagOfTerms({"letter": "mail"})
        self.model = model or self._embedding.model
        self.dimensions = self._embedding.dimensions
        self.texts: list[str] = []
        """Those of tools; queries are not counted."""

        self.is_away = False
        self.refusals = 0
        """How often it was asked while it was away."""

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        if self.is_away:
            self.refusals += 1
            raise EmbeddingUnavailable("it is away.")
        if not query:
            self.texts += texts
        return await self._embedding.embed(texts, query=query)


def scope_of(org: str | None) -> UUID | None:
    """The id of an organisation. Raises `OrgNotFound`."""
    try:
        return ORGS[org]
    except KeyError:
        raise OrgNotFound(str(org)) from None


@dataclass(frozen=True)
class Searchable:
    """A catalog with an index that follows it."""

    catalog: Catalog
    index: InProcessIndex
    indexer: Indexer
    search: Search
    embedding: Counting

    async def current(self) -> None:
        """Until the index has everything that is served."""
        await until(lambda: self.indexer.is_current)

    async def find(self, words: str, org: str | None = None, **more: object) -> Found:
        """Search, as soon as everything can be found."""
        await self.current()
        asker = replace(LOCAL, org=org)
        return await self.search.find(Request(words=words, **more), asker)  # pyright: ignore[reportArgumentType] - bad values are the point of some tests

    async def names(self, words: str, org: str | None = None, **more: object) -> list[str]:
        """The names of what is found."""
        return [hit.entry.name for hit in (await self.find(words, org, **more)).hits]


@asynccontextmanager
async def searchable(
    catalog: Catalog,
    embedding: Counting | None = None,
    *,
    again: float = 0.2,
    patience: float = 5.0,
) -> AsyncGenerator[Searchable]:
    """
    Follow *catalog*.

    An embedding that is away is asked *again* after so many seconds; what is new has *patience*
    with one that is slow.
    """
    embedding = embedding or Counting()
    async with open_pool(NOWHERE, DatabaseSettings()) as database, asyncio.TaskGroup() as tasks:
        cards = CardShelf(database, embedding, lambda: False)
        vectors = Vectors(embedding, EmbeddingRepository(database), lambda: False)
        index = InProcessIndex(embedding.dimensions)
        indexer = Indexer(
            catalog, index, PointMaker(vectors, cards), scope_of, again=again, patience=patience
        )
        running = tasks.create_task(indexer.run())
        search = Search(catalog, Searcher(index, embedding, pause=0), cards, scope_of)
        yield Searchable(catalog, index, indexer, search, embedding)
        running.cancel()

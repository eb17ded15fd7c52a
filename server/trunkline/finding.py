"""
Everything that finds, made and run beside everything that serves.

The libraries that search needs take longer to import than Trunkline takes to answer its first
client, so they are loaded in a thread, after the start. Whoever searches meanwhile waits for it.

    catalog ── Indexer ──> in-process index ──┐
                                              ├── Searcher ── cache ── Search
    outbox ── IndexDelivery ──> Qdrant ───────┘
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog

from trunkline.cache.cache import Cache
from trunkline.catalog.catalog import Catalog
from trunkline.catalog.registry import Registry
from trunkline.errors import EmbeddingError, IndexFailure, StorageError
from trunkline.index.outbox import Delivery, OutboxWorker
from trunkline.models import KINDS
from trunkline.settings import Settings
from trunkline.storage.pool import Database
from trunkline.storage.repositories.embeddings import EmbeddingRepository
from trunkline.storage.repositories.everything import Everything
from trunkline.storage.repositories.outbox import OutboxRepository

if TYPE_CHECKING:
    from trunkline.index.index import Index
    from trunkline.index.qdrant import QdrantIndex
    from trunkline.search.cards import CardShelf, MakeClassifier
    from trunkline.search.embedding.embedding import Embedding
    from trunkline.search.filling import Drift, Filling
    from trunkline.search.indexer import Indexer
    from trunkline.search.points import PointMaker
    from trunkline.search.search import Search

log = structlog.get_logger(__name__)

POINTS: Final = "1"
"""Raised when texts are read or terms are counted otherwise: Qdrant's points are made anew then."""

CAPACITY_LOOK: Final = 60.0
"""Seconds between two looks at how many ids are used."""

FIRST: Final = 2.0
"""Seconds that loading leaves to everything else at the start, unless somebody searches."""

AGAIN: Final = 10.0
"""Seconds after which an index that could not be filled is tried again."""


class Finding:
    """The search of one process. `run` is to be running for the rest to work."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        database: Database,
        registry: Registry,
        cache: Cache,
    ) -> None:
        self._settings, self._catalog, self._cache = settings, catalog, cache
        self._database, self._registry = database, registry
        self._ready, self._is_wanted = asyncio.Event(), asyncio.Event()
        self._search: Search
        self._indexer: Indexer
        self._maker: PointMaker
        self._local: Index
        self._cards: CardShelf
        self._filling: Filling | None = None
        self._outbox = OutboxRepository(database)
        self._looked_after = asyncio.Event()
        """Set once Qdrant has been filled, was full, or could not be."""

        self._is_full = False
        """Whether it has all that was stored before the outbox began."""

    async def _made(self) -> None:
        self._is_wanted.set()
        await self._ready.wait()

    async def search(self) -> "Search":
        """The search, as soon as there is one."""
        await self._made()
        return self._search

    async def current(self, seconds: float) -> bool:
        """Wait until everything that is served can be found; False after so many *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                await self._made()
                await self._wait_for_cards()
                while not self._indexer.is_current:  # noqa: ASYNC110 - people may wait inexactly
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    @property
    def is_remote(self) -> bool:
        """Whether Qdrant is used."""
        return self._settings.qdrant_url is not None

    async def count(self) -> int:
        """How many points this process holds."""
        await self._made()
        return await self._local.count()

    async def fill(self, on_progress: Callable[[int], None]) -> int:
        """Fill Qdrant from the database anew. Raises `IndexFailure`, `StorageError`, ..."""
        await self._made()
        assert self._filling is not None
        await self._require_cards()
        filled = await self._filling.fill(on_progress)
        await self._cache.invalidate("search", None)
        return filled

    async def total(self) -> int:
        """How many items there are to fill in. Raises `StorageError`."""
        await self._made()
        assert self._filling is not None
        return await self._filling.total()

    async def drift(self, patience: float = 0.0) -> "Drift | None":
        """
        How Qdrant differs from the database; None without Qdrant. Raises like `fill`.

        What is on its way there is given so many seconds (*patience*) to arrive.
        """
        await self._made()
        if self._filling is None:
            return None
        try:
            async with asyncio.timeout(patience):
                await self._looked_after.wait()
                while self._is_full and await self._outbox.backlog():  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pass
        return await self._filling.drift()

    async def run(self) -> None:
        """Make everything, and keep it going until cancelled."""
        # Importing holds the interpreter; what clients wait for at the start comes first.
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST):
                await self._is_wanted.wait()
        await asyncio.to_thread(_load, remote=self.is_remote)
        from trunkline.index.fallback import FallbackIndex
        from trunkline.index.in_process import InProcessIndex
        from trunkline.search.assigning import SkillDelivery
        from trunkline.search.cards import CardShelf
        from trunkline.search.delivery import IndexDelivery
        from trunkline.search.filling import Filling
        from trunkline.search.indexer import Indexer
        from trunkline.search.points import PointMaker
        from trunkline.search.remembered import ForgettingIndex, RememberedSearcher
        from trunkline.search.search import Search
        from trunkline.search.strategies import Searcher
        from trunkline.search.vectors import Vectors

        settings, database, is_usable = self._settings, self._database, self._registry.is_usable
        scope = self._registry.scope_of
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            embedding = await self._embedding(stack)
            model = await self._model(stack)
            cards = self._cards = CardShelf(database, embedding, is_usable, model)
            vectors = Vectors(embedding, EmbeddingRepository(database), is_usable)
            self._maker = PointMaker(vectors, cards)
            local = self._local = InProcessIndex(embedding.dimensions)
            index: Index = local
            source = f"{uuid4().hex} {embedding.model}"  # this process's own
            deliveries: list[Delivery] = [SkillDelivery(database, vectors, cards)]
            if self.is_remote:
                remote = await self._remote(stack, embedding)
                fallback = index = FallbackIndex(remote, local)
                forgetting = ForgettingIndex(remote, self._cache)
                deliveries.append(IndexDelivery(database, forgetting, self._maker))
                self._filling = Filling(database, remote, self._maker)
                tasks.create_task(fallback.run())
                tasks.create_task(self._keep_filled(remote, self._filling))
                source = f"{settings.qdrant_url} {settings.search.collection} {embedding.model}"
            followed = local if self.is_remote else ForgettingIndex(local, self._cache)
            self._indexer = Indexer(self._catalog, followed, self._maker, scope)
            searcher = RememberedSearcher(
                Searcher(index, embedding),
                self._cache,
                source=f"{POINTS} {source}",
                ttl=settings.cache.search_ttl,
            )
            self._search = Search(self._catalog, searcher, cards, scope)

            def cards_changed(must_classify: bool) -> None:
                self._indexer.renew()
                if must_classify:
                    tasks.create_task(self._requeue())

            cards.on_change = cards_changed
            tasks.create_task(OutboxWorker(self._outbox, deliveries).run(self._may_deliver(cards)))
            tasks.create_task(cards.run())
            tasks.create_task(self._watch_capacity())
            tasks.create_task(self._indexer.run())
            self._ready.set()

    async def _embedding(self, stack: AsyncExitStack) -> "Embedding":
        """The embedding that the settings name. Nothing is asked of it yet."""
        settings = self._settings
        if settings.embedding_url is not None:
            from trunkline.search.embedding.endpoint import Endpoint, open_endpoint

            endpoint = Endpoint(
                url=settings.embedding_url,
                model=settings.embedding_model,
                dimensions=settings.embedding_dimensions,
                key=settings.embedding_key,
            )
            return await stack.enter_async_context(open_endpoint(endpoint))
        if settings.search.model == "minilm":
            from trunkline.search.embedding.minilm import MiniLMEmbedding

            return MiniLMEmbedding()
        from trunkline.search.embedding.static import StaticEmbedding

        return StaticEmbedding()

    async def _model(self, stack: AsyncExitStack) -> "MakeClassifier | None":
        """How to make classifiers that ask a language model; None without one."""
        search = self._settings.search
        if search.skills_url is None:
            return None
        from trunkline.search.skill_endpoint import SkillEndpoint, open_endpoint_classifiers

        endpoint = SkillEndpoint(
            url=search.skills_url, model=search.skills_model, key=search.skills_key
        )
        return await stack.enter_async_context(open_endpoint_classifiers(endpoint))

    def _may_deliver(self, cards: "CardShelf") -> Callable[[], bool]:
        """Errands wait for the cards: without them no tool could be classified."""
        return lambda: self._registry.is_usable() and cards.of(None) is not None

    async def _requeue(self) -> None:
        try:
            await self._outbox.requeue()
        except StorageError as error:
            log.info("skills.not_requeued", code=error.code)

    async def _remote(self, stack: AsyncExitStack, embedding: "Embedding") -> "QdrantIndex":
        from trunkline.index.qdrant import QdrantIndex
        from trunkline.index.qdrant_connection import connect
        from trunkline.index.qdrant_schema import Space
        from trunkline.index.retry import Backoff

        settings, key = self._settings, self._settings.qdrant_api_key
        assert settings.qdrant_url is not None
        client = await stack.enter_async_context(
            connect(
                settings.qdrant_url,
                api_key=key.get_secret_value() if key is not None else None,
                timeout=settings.search.qdrant_timeout,
            )
        )
        space = Space(f"{embedding.model}/{POINTS}", embedding.dimensions)
        backoff = Backoff(
            attempts=settings.search.qdrant_attempts,
            base_delay=settings.search.qdrant_base_delay,
            timeout=settings.search.qdrant_timeout,
        )
        return QdrantIndex(client, space, prefix=settings.search.collection, backoff=backoff)

    async def _watch_capacity(self) -> None:
        """Tell how far the ids of each kind have come: there are a million, with Qdrant or not."""
        from trunkline.index.point_ids import USAGE

        everything = Everything(self._database)
        while True:
            if self._registry.is_usable():
                with suppress(StorageError):
                    for kind in KINDS:
                        if highest := await everything.highest(kind):
                            USAGE.note(kind, highest)
            await asyncio.sleep(CAPACITY_LOOK)

    async def _keep_filled(self, remote: "QdrantIndex", filling: "Filling") -> None:
        """Fill a Qdrant that is new, or holds another model's vectors; then leave it alone."""
        while True:
            try:
                await self._registry.wait_usable(AGAIN)
                await self._require_cards()
                if not await remote.prepare():
                    await filling.fill()
                    await self._cache.invalidate("search", None)
                self._is_full = True
                return
            except (IndexFailure, StorageError, EmbeddingError) as error:
                log.info("index.not_filled", code=error.code)
            finally:
                self._looked_after.set()
            await asyncio.sleep(AGAIN)

    async def _wait_for_cards(self) -> None:
        """Wait until the skill cards have been read, or cannot be."""
        try:
            async with asyncio.timeout(AGAIN):
                if self._registry.is_usable():
                    await self._cards.looked.wait()
        except TimeoutError:
            pass  # the embedding hangs

    async def _require_cards(self) -> None:
        """Raise `IndexFailure` without the skill cards: what is filled in then has no skills."""
        await self._wait_for_cards()
        if self._cards.of(None) is None:
            raise IndexFailure(
                "The index was not filled: the embedding does not answer, and without it no tool "
                "has skills. Try again when it does."
            )


def _load(*, remote: bool) -> None:
    """Import what takes its time."""
    modules = ["trunkline.index.in_process", "trunkline.search.search"]
    if remote:
        modules += ["trunkline.index.qdrant", "trunkline.index.qdrant_connection"]
    for module in modules:
        import_module(module)

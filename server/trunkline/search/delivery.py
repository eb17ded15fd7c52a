"""
What the outbox worker brings to an index outside of this process: items as their rows are now.

An errand says only that an item has changed. What it is by now is read here, so errands may come in
any order, twice, or late.
"""

from collections.abc import Sequence

import structlog

from trunkline.errors import EmbeddingError, IndexFailure, PointIdMissing, PointIdOverflow
from trunkline.index.index import Index, Ref
from trunkline.models import KINDS
from trunkline.search.findables import findables
from trunkline.search.points import PointMaker
from trunkline.storage.pool import Database
from trunkline.storage.repositories.everything import Everything
from trunkline.storage.rows import Errand

log = structlog.get_logger(__name__)


class IndexDelivery:
    """Carries errands to one index."""

    def __init__(self, database: Database, index: Index, maker: PointMaker) -> None:
        self._everything = Everything(database)
        self._index, self._maker = index, maker

    async def deliver(self, errands: Sequence[Errand]) -> None:
        """Make the index what the items are now. Raises `IndexFailure` and `StorageError`."""
        for kind in KINDS:
            ids = [errand.item_id for errand in errands if errand.kind == kind]
            rows = await self._everything.items(kind, ids) if ids else []
            servers = (
                await self._everything.servers({row.server_id for row in rows}) if rows else []
            )
            there = {row.id for row in rows}
            gone = [Ref(None, kind, "", "", one) for one in ids if one not in there]
            await self._index.delete(gone)
            try:
                points = await self._maker.make(findables(kind, rows, servers))
            except EmbeddingError as error:
                raise IndexFailure(str(error)) from error
            try:
                await self._index.upsert(points)
            except (PointIdOverflow, PointIdMissing) as error:
                # All the others are there, and this one never can be.
                log.warning("index.left_out", code=error.code, reason=str(error))

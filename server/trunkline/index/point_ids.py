"""
The number of a point in Qdrant, from the kind of an item and the id of its row.

Qdrant numbers points in one range; PostgreSQL numbers the rows of each table in a range of its own.
So every type gets a million numbers. Resources and resource templates share one sequence of ids,
and therefore one range.

    0 ........... tools ........... 1,000,000 ... prompts ... 2,000,000 ... resources, templates
"""

from collections.abc import Mapping
from typing import Final, Literal

import structlog

from trunkline.errors import PointIdOverflow
from trunkline.index.metrics import POINT_ID_USAGE
from trunkline.models import Kind

log = structlog.get_logger(__name__)

PointType = Literal["tool", "prompt", "resource"]

CAPACITY: Final = 1_000_000
"""How many ids a type has. The first one that does not fit is this one."""

WARNING_FROM: Final = 900_000

TYPE_OFFSETS: Final[Mapping[Kind, int]] = {
    "tools": 0,
    "prompts": CAPACITY,
    "resources": 2 * CAPACITY,
    "templates": 2 * CAPACITY,
}

_TYPES: Final[Mapping[Kind, PointType]] = {
    "tools": "tool",
    "prompts": "prompt",
    "resources": "resource",
    "templates": "resource",
}
_BY_RANGE: Final[tuple[PointType, ...]] = ("tool", "prompt", "resource")


class Usage:
    """The highest ids so far, for the metric and for the warning that they run out."""

    def __init__(self) -> None:
        self._highest: dict[PointType, int] = {}

    def note(self, kind: Kind, db_id: int) -> None:
        """
        Keep the metric of a type, and warn from `WARNING_FROM` on.

        One warning for the first such id, and another at each further percent: ten lines on the
        way to the end, however many points are written. May be called with the highest id there
        is, so that the metric is right from the start.
        """
        type_ = _TYPES[kind]
        before = self._highest.get(type_, -1)
        if db_id <= before:
            return
        self._highest[type_] = db_id
        POINT_ID_USAGE.labels(type=type_).set(db_id / CAPACITY)
        if _percent(db_id) > max(_percent(before), _percent(WARNING_FROM - 1)):
            log.warning(
                f"Point ID approaching limit: {type_} db_id={db_id} "
                f"({db_id / CAPACITY:.0%} of capacity)",
                type=type_,
                db_id=db_id,
            )


USAGE: Final = Usage()
"""This process's."""


def point_id(kind: Kind, db_id: int, *, item: str = "", usage: Usage = USAGE) -> int:
    """
    The point id of the row *db_id* of a kind. *item* names it, should it not fit.

    Raises `PointIdOverflow` from `CAPACITY` on, and `ValueError` for an id no row can have.
    """
    if db_id < 0:
        raise ValueError(f"{db_id} is no id of a row: they begin at 1.")
    if db_id >= CAPACITY:
        raise PointIdOverflow(_TYPES[kind], db_id, limit=CAPACITY, item=item)
    usage.note(kind, db_id)
    return TYPE_OFFSETS[kind] + db_id


def row_of(point: int) -> tuple[PointType, int]:
    """The type and the row's id of a point id. Raises `ValueError` for one that is not ours."""
    place, db_id = divmod(point, CAPACITY)
    if not 0 <= place < len(_BY_RANGE):
        raise ValueError(f"{point} is no point id of a tool, prompt or resource.")
    return _BY_RANGE[place], db_id


def _percent(db_id: int) -> int:
    return db_id * 100 // CAPACITY

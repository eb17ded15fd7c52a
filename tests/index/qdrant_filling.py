"""Points and queries, short enough to be written into a test."""

from collections import Counter
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import numpy as np

from trunkline.index.index import Point, Query, Ref, Vector
from trunkline.index.qdrant_schema import Space
from trunkline.index.retry import Backoff
from trunkline.models import Kind

SPACE: Final = Space("letters", 8)
"""Of vectors that count the letters of a text, eight of them at a time."""

OTHER: Final = Space("other letters", 8)
WIDER: Final = Space("letters", 16)

QUICK: Final = Backoff(base_delay=0.001, timeout=5.0)
"""As in earnest, without the waiting."""

ACME, GLOBEX = UUID(int=1), UUID(int=2)


def vector(text: str, dimensions: int = SPACE.dimensions) -> Vector:
    counts = np.full(dimensions, 0.01, dtype=np.float32)
    for letter in text:
        counts[ord(letter) % dimensions] += 1
    return (counts / np.linalg.norm(counts)).astype(np.float32)


def ref(
    db_id: int, name: str, *, org: UUID | None = None, kind: Kind = "tools", server: str = "mail"
) -> Ref:
    return Ref(org=org, kind=kind, server=server, own_name=name, db_id=db_id)


def point(db_id: int, text: str, *, skills: tuple[str, ...] = (), **which: Any) -> Point:
    """An item that is named by the first word of its text."""
    return Point(
        ref=ref(db_id, text.split()[0], **which),
        vector=vector(text),
        terms={term: float(count) for term, count in Counter(text.split()).items()},
        skills=skills,
        content_hash=sha256(text.encode()).digest(),
    )


def query(text: str, **more: Any) -> Query:
    """Asks by vector and terms of a text, and for no organisation unless *more* says otherwise."""
    terms = dict.fromkeys(text.split(), 1.0)
    asked: dict[str, Any] = {"org": None, "vector": vector(text), "terms": terms}
    return Query(**asked | more)

"""The audit, the newest first and a page at a time, for whoever looks through it."""

from trunkline.storage.pool import Source
from trunkline.storage.queries import load
from trunkline.storage.repositories.audit import AuditFilter, AuditRow
from trunkline.storage.rows import to_text

_STATEMENTS = load("audit_pages.sql")


class AuditPages:
    """What is in the audit. Every method raises `StorageError`."""

    def __init__(self, pool: Source) -> None:
        self._pool = pool

    async def before(self, id_: int | None, wanted: AuditFilter, limit: int) -> list[AuditRow]:
        """The newest *limit* entries that fit and are older than one, or than none."""
        rows = await self._pool.fetch(
            _STATEMENTS["before"],
            to_text(wanted.org) if wanted.org is not None else None,
            _like(wanted.who),
            _like(wanted.what),
            wanted.outcome,
            wanted.since,
            id_,
            limit,
        )
        return [AuditRow.of(row) for row in rows]


def _like(pattern: str | None) -> str | None:
    """A pattern of ours as one of SQL's."""
    if pattern is None:
        return None
    pattern = to_text(pattern)
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, f"\\{special}")
    return pattern.replace("*", "%")

"""Rows as what an index is made of."""

from collections.abc import Iterable, Sequence

from trunkline.index.index import Ref
from trunkline.models import Kind
from trunkline.search.points import Findable
from trunkline.storage.rows import ItemRow, ServerRow


def findables(kind: Kind, rows: Sequence[ItemRow], servers: Iterable[ServerRow]) -> list[Findable]:
    """These rows of one kind, with what their servers are called."""
    named = {server.id: server for server in servers}
    return [
        Findable.of(
            Ref(row.org, kind, named[row.server_id].name, row.own_name, row.id),
            row.definition,
            title_of(named[row.server_id]),
        )
        for row in rows
        if row.server_id in named
    ]


def title_of(server: ServerRow) -> str:
    """What a server calls itself."""
    title = (server.about.get("server_info") or {}).get("title")
    return title if isinstance(title, str) else ""

"""Asking a server for everything it lists, page by page."""

from collections.abc import Collection
from typing import Any, Final

from trunkline.downstream.session import Session
from trunkline.errors import RpcError
from trunkline.models import KINDS, Era, Json, Kind, Listing
from trunkline.wire import METHOD_NOT_FOUND

MAX_PAGES: Final = 1_000
"""Pages after which a list is taken as it is: a cursor that never ends must not hang us."""

METHOD_OF: Final[dict[Kind, tuple[str, str, str]]] = {
    "tools": ("tools/list", "tools", "tools"),
    "prompts": ("prompts/list", "prompts", "prompts"),
    "resources": ("resources/list", "resources", "resources"),
    "templates": ("resources/templates/list", "resourceTemplates", "resources"),
}
"""Kind -> the method, the member of its result, and the capability it needs."""


async def fetch(
    session: Session, kinds: Collection[Kind], known: Listing | None, *, timeout: float
) -> Listing:
    """
    List the given kinds anew and keep the others as they were known.

    *timeout* is in seconds per page. Raises what `Session.own_request` raises.
    """
    greeting = session.greeting
    known = known or Listing()
    lists: dict[Kind, tuple[Json, ...]] = {kind: known.of(kind) for kind in KINDS}
    ttl, scope = known.ttl_ms, known.cache_scope
    for kind in KINDS:
        method, member, capability = METHOD_OF[kind]
        if kind not in kinds:
            continue
        if capability not in greeting.capabilities:
            lists[kind] = ()
            continue
        lists[kind], last = await _all_pages(session, method, member, timeout=timeout)
        if session.era is Era.MODERN:
            ttl = _ttl(last)
            scope = "public" if last.get("cacheScope") == "public" else "private"
    return Listing(
        tools=lists["tools"],
        prompts=lists["prompts"],
        resources=lists["resources"],
        templates=lists["templates"],
        instructions=greeting.instructions,
        capabilities=greeting.capabilities,
        server_info=greeting.server_info,
        ttl_ms=ttl,
        cache_scope=scope,
    )


async def _all_pages(
    session: Session, method: str, member: str, *, timeout: float
) -> tuple[tuple[Json, ...], Json]:
    items: list[Json] = []
    seen: set[str] = set()
    cursor: str | None = None
    page: Json = {}
    for _ in range(MAX_PAGES):
        try:
            params = None if cursor is None else {"cursor": cursor}
            page = await session.own_request(method, params, timeout=timeout)
        except RpcError as error:
            if error.rpc_code == METHOD_NOT_FOUND:
                break  # declared the capability, but has nothing of this kind
            raise
        found = page.get(member)
        if isinstance(found, list):
            items.extend(found)
        cursor = page.get("nextCursor")
        if not isinstance(cursor, str) or cursor in seen:
            break
        seen.add(cursor)
    return tuple(items), page


def _ttl(page: Any) -> int:
    ttl = page.get("ttlMs")
    return ttl if isinstance(ttl, int) and ttl > 0 else 0

"""Asking a server for everything it lists, page by page."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from trunkline.downstream.session import Session
from trunkline.errors import DownstreamTimeout, RpcError
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


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a server lists now, and which lists it did not give."""

    listing: Listing
    failures: Mapping[Kind, str]
    """Kind -> why its list is as it was known before."""


async def fetch(
    session: Session, kinds: Collection[Kind], known: Listing | None, *, timeout: float
) -> Fetched:
    """
    List the given kinds anew, all at once, and keep the others as they were known.

    *timeout* is in seconds per page. Raises `ChannelLost`; what goes wrong with one list is among
    the failures, and costs no other.
    """
    greeting = session.greeting
    known = known or Listing()
    lists: dict[Kind, tuple[Json, ...]] = {kind: known.of(kind) for kind in KINDS}
    pages: list[Json] = []
    failures: dict[Kind, str] = {}

    async def fetch_one(kind: Kind) -> None:
        method, member, capability = METHOD_OF[kind]
        if capability not in greeting.capabilities:
            lists[kind] = ()
            return
        try:
            lists[kind], page = await _all_pages(session, method, member, timeout=timeout)
        except (RpcError, DownstreamTimeout) as error:
            failures[kind] = f"{method} failed: {error}"
        else:
            pages.append(page)

    try:
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                group.create_task(fetch_one(kind))
    except ExceptionGroup as lost:  # one list after the other lost the same connection
        raise lost.exceptions[0] from None
    modern = session.era is Era.MODERN
    listing = Listing(
        tools=lists["tools"],
        prompts=lists["prompts"],
        resources=lists["resources"],
        templates=lists["templates"],
        instructions=greeting.instructions,
        capabilities=greeting.capabilities,
        server_info=greeting.server_info,
        ttl_ms=min(map(_ttl, pages), default=known.ttl_ms) if modern else 0,
        cache_scope=_scope(pages) if modern and pages else "private",
    )
    return Fetched(listing, failures)


def _scope(pages: Collection[Json]) -> Literal["public", "private"]:
    public = all(page.get("cacheScope") == "public" for page in pages)
    return "public" if public else "private"


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

"""
Results that are too large to be sent: what fits, a sentence, and a link to the rest.

    result ── fits ──────────────────────────────────────> as it is, the very same object
      └── too large ── text, cut at a character ─────────> with a link to the rest
            └── structured content, which has no half ───> an error with a link to all of it

The rest is readable for ten minutes by whoever made the call, and by nobody else. It is kept in
this process, in a bounded space out of which the one unread for longest goes first.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from trunkline.errors import ResourceNotFound, TrunklineError
from trunkline.models import Json, Principal
from trunkline.security.limits.oversize import (
    as_contents,
    as_json,
    is_text,
    item_size,
    json_size,
    size_of,
    split,
)

SCHEME: Final = "trunkline://results/"

KEPT: Final = 600.0
"""Seconds that a rest can be read."""

COUNT: Final = 1_000
"""Rests that are kept at a time."""


class ResultTooLarge(TrunklineError):
    """What a server answered has more bytes than may be sent, and cannot be cut."""

    code = "result_too_large"
    audit_outcome: ClassVar = "failed"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"The answer has {size:,} bytes, and may have {limit:,}. Ask for less of it."
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    owner: tuple[str, str | None]
    until: float
    size: int
    contents: list[Json]
    """As `resources/read` answers with them."""


class LargeResults:
    """The rests of large results, and how they come about."""

    def __init__(
        self, most_bytes: int, *, most: int = COUNT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """*most_bytes* and *most* bound what is kept; *clock* tells seconds and never goes back."""
        self._most_bytes, self._most, self._clock = most_bytes, most, clock
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def fit(self, method: str, result: Json, principal: Principal, limit: int | None) -> Json:
        """
        The result of a request, of *limit* bytes at most, beside what a link to the rest needs.

        Raises `ResultTooLarge` for what is not the result of a tool: a resource that is cut would
        be another resource.
        """
        if limit is None:
            return result
        size = size_of(result)
        if size <= limit:
            return result
        if method != "tools/call":
            raise ResultTooLarge(size, limit)
        if "structuredContent" in result:
            return self._refused(result, principal, size, limit)
        return self._cut(result, principal, size, limit)

    def owns(self, uri: object) -> bool:
        """Whether a URI is of a rest, kept or not."""
        return isinstance(uri, str) and uri.startswith(SCHEME)

    def read(self, uri: str, principal: Principal) -> Json:
        """The result of `resources/read`. Raises `ResourceNotFound`, whatever the reason."""
        self._expire()
        kept = self._kept.get(uri)
        if kept is None or kept.owner != _owner(principal):
            raise ResourceNotFound(
                uri, hint=" It was kept for ten minutes at most. Make the call again."
            )
        self._kept.move_to_end(uri)
        return {"contents": [{"uri": uri, **one} for one in kept.contents]}

    def _cut(self, result: Json, principal: Principal, size: int, limit: int) -> Json:
        content = result.get("content")
        shown, rest = split(content if isinstance(content, list) else [content], limit)
        link = self._keep(principal, rest)
        text = f"The result has {size:,} bytes, and {limit:,} may be sent: it is cut here. "
        shown.append(_note(text + _where(link)))
        if link is not None:
            shown.append(link)
        return {**_without_large(result, limit), "content": shown}

    def _refused(self, result: Json, principal: Principal, size: int, limit: int) -> Json:
        whole = [as_json(result["structuredContent"])]
        # Its text says the same once more (2025-06-18, server/tools: "Structured Content").
        whole += [as_contents(one) for one in result.get("content") or () if not is_text(one)]
        link = self._keep(principal, whole)
        text = f"The result has {size:,} bytes, and {limit:,} may be sent. "
        content = [_note(text + _where(link)), *([link] if link is not None else [])]
        told = {"trunkline/error": {"code": ResultTooLarge.code}}
        given = _without_large(result, limit).get("_meta")
        meta = given if isinstance(given, dict) else {}
        return {"content": content, "isError": True, "_meta": {**meta, **told}}

    def _keep(self, principal: Principal, contents: list[Json]) -> Json | None:
        """Keep contents for their owner: the link to them, or None if there is no room for that."""
        size = sum(item_size(one) for one in contents)
        if size > self._most_bytes:
            return None
        self._expire()
        uri = f"{SCHEME}{secrets.token_urlsafe(16)}"
        self._kept[uri] = _Kept(_owner(principal), self._clock() + KEPT, size, contents)
        self._bytes += size
        while self._bytes > self._most_bytes or len(self._kept) > self._most:
            self._drop(next(iter(self._kept)))
        return {
            "type": "resource_link",
            "uri": uri,
            "name": "rest of the result",
            "mimeType": str(contents[0].get("mimeType", "text/plain"))
            if contents
            else "text/plain",
            "size": size,
        }

    def _expire(self) -> None:
        now = self._clock()
        for uri in [uri for uri, kept in self._kept.items() if kept.until <= now]:
            self._drop(uri)

    def _drop(self, uri: str) -> None:
        self._bytes -= self._kept.pop(uri).size


def _note(text: str) -> Json:
    return {"type": "text", "text": text}


def _where(link: Json | None) -> str:
    if link is None:
        return "The rest is too large to be kept. Ask for less."
    return f"Read the rest within ten minutes at {link['uri']}, or ask for less."


def _owner(principal: Principal) -> tuple[str, str | None]:
    return principal.subject, principal.org


def _without_large(result: Json, limit: int) -> Json:
    """What a result says beside its content, but for what is too large even alone."""
    others = {key: value for key, value in result.items() if key != "content"}
    return {key: value for key, value in others.items() if json_size(value) <= limit}

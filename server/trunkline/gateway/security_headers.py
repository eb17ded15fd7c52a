"""
The headers that every answer carries, so that a browser does nothing with it that was not meant.

Everything here is an API: no answer is a page, belongs into a frame, or is to be kept. A route
that serves pages says so itself: what it sets for `OVERRIDABLE` stands.

The names and values follow the OWASP REST Security Cheat Sheet.
"""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

RawHeader = tuple[bytes, bytes]

FIXED: Final[list[RawHeader]] = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]

OVERRIDABLE: Final[list[RawHeader]] = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]

ALL: Final = FIXED + OVERRIDABLE

_OVERRIDABLE_NAMES: Final = frozenset(name for name, _ in OVERRIDABLE)


class SecurityHeaders:
    """Adds the headers to every answer. *hsts* is in seconds; 0 says nothing about HTTPS."""

    def __init__(self, app: ASGIApp, *, hsts: int = 0) -> None:
        self._app = app
        told = [(b"strict-transport-security", b"max-age=%d" % hsts)] if hsts else []
        self._fixed = FIXED + told
        self._all = self._fixed + OVERRIDABLE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message["headers"]
                message = {**message, "headers": [*given, *self._missing_from(given)]}
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _missing_from(self, given: list[RawHeader]) -> list[RawHeader]:
        names = {name for name, _ in given}
        if names.isdisjoint(_OVERRIDABLE_NAMES):
            return self._all
        return self._fixed + [one for one in OVERRIDABLE if one[0] not in names]

"""
The door of the API: nobody passes who is not known, and no fault gets out as a traceback.

Addresses are routed as they were written, and names in them are read afterwards: a tool may be
called `a/b`, and is found at `a%2Fb`.
"""

from typing import Any, Final
from urllib.parse import quote

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.api.problems import Unexpected, problem
from trunkline.models import PRINCIPAL, Principal
from trunkline.security.identity.credentials import CredentialMissing

log: Any = structlog.get_logger(__name__)

SAFE: Final = "/%:@!$&'()*+,;=~-._"
"""What stands in a path as it is (RFC 3986, 3.3)."""


class Door:
    """The layer around all routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not isinstance(scope.get(PRINCIPAL), Principal):
            await problem(CredentialMissing())(scope, receive, send)
        else:
            await self._pass({**scope, "path": _as_written(scope)}, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # a fault in one answer is that answer's alone
            log.exception("api.crashed", path=scope["path"], error=type(error).__name__)
            if has_begun:
                raise
            await problem(Unexpected())(scope, receive, send)


def _as_written(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"], safe=SAFE) if raw is None else raw.decode("latin-1")

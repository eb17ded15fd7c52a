"""
Where the API is found, for whoever serves over HTTP.

It is made when it is first asked for, in a thread: what it is made with takes longer to import than
everything else over HTTP, and most gateways are never asked.
"""

import asyncio
import re
from importlib import import_module
from typing import Final

from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.api.backing import Backing

PREFIX: Final = "/api/v1"


def api_routes(backing: Backing) -> list[BaseRoute]:
    """The API's routes. Whoever serves them establishes first who asks."""
    mount = Mount(PREFIX, app=_MadeLate(backing))
    # A tool may have a line break in its name, and so may the address that it is found at.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL)
    return [mount]


class _MadeLate:
    """The application, once it is needed."""

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._app: ASGIApp | None = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app or await self._made()
        await app(scope, receive, send)

    async def _made(self) -> ASGIApp:
        async with self._making:
            if self._app is None:
                self._app = await asyncio.to_thread(self._make)
            return self._app

    def _make(self) -> ASGIApp:
        return import_module("trunkline.api.application").build_api(self._backing)

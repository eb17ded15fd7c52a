"""
What an administrator does to the servers of a running gateway, whichever face it comes through.

A server that was added is a row first and a connection after that, in this process and in every
other one. A server of mcp.json or a plugin can be disconnected, until this process ends; adding
and removing it is done where it comes from.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from trunkline.catalog.added import AddedServers
from trunkline.catalog.registry import Registry
from trunkline.catalog.reports import Reports, ServerReport
from trunkline.errors import ServerInvalid, ServerNotAdded, ServerNotFound
from trunkline.models import Client, Json
from trunkline.providers.servers import Servers

STEP: Final = 0.02
"""Seconds between two looks whether a server has connected."""

STORE_PATIENCE: Final = 10.0
"""Seconds an administrator waits for a database that is away, or just starting."""

UNKNOWN_CALLER: Final = (
    "A command, a health page and ${...} references reach into this machine, and over HTTP it is "
    "not known who asks. Add such a server over stdio, with `trunkline server add`, or in mcp.json."
)


class Administration:
    """Adds, removes, connects and disconnects servers, and tells how they are."""

    def __init__(
        self,
        added: AddedServers,
        registry: Registry,
        servers: Servers,
        reports: Reports,
        *,
        patience: float,
        is_local: bool,
    ) -> None:
        """
        *patience* is how many seconds a server is waited for that was told to connect. *is_local*
        says that whoever asks is the user of this machine, who may run commands on it anyway.
        """
        self._added, self._registry, self._servers = added, registry, servers
        self._reports, self._patience, self._is_local = reports, patience, is_local

    async def add(self, client: Client, name: str, entry: Json) -> ServerReport:
        """
        Add a server, or change the one that was added under its name, and connect to it.

        Raises `ServerInvalid`, `ServerNotAdded` for a name of mcp.json, and `StorageError`.
        """
        if not self._is_local and _reaches_in(entry):
            raise ServerInvalid(UNKNOWN_CALLER)
        if (origin := self._servers.origin(name)) in ("file", "plugin"):
            raise ServerNotAdded(name, origin)
        await self._registry.wait_usable(STORE_PATIENCE)
        await self._added.add(self._registry.scope_of(client.org), name, entry)
        return await self._followed(name)

    async def remove(self, client: Client, name: str) -> None:
        """Remove a server that was added. Raises `ServerNotFound`, `ServerNotAdded`, ..."""
        self._known(client, name)
        if (origin := self._servers.origin(name)) in ("file", "plugin"):
            raise ServerNotAdded(name, origin)
        await self._registry.wait_usable(STORE_PATIENCE)
        await self._added.remove(self._registry.scope_of(client.org), name)
        await self._registry.refresh()
        await self._wait_for(lambda: not self._registry.is_behind)

    async def switch(self, client: Client, name: str, *, on: bool) -> ServerReport:
        """Connect a server, or disconnect it. Raises `ServerNotFound` and `StorageError`."""
        self._known(client, name)
        if self._servers.origin(name) == "api":
            await self._registry.wait_usable(STORE_PATIENCE)
            await self._added.switch(self._registry.scope_of(client.org), name, on=on)
            return await self._followed(name)
        self._servers.switch(name, on=on)
        return await self._settled(name)

    def list_all(self, client: Client) -> list[ServerReport]:
        """Every server and plugin that this client may see."""
        return [one for one in self._reports.all() if one.org in (None, client.org)]

    def status(self, client: Client, name: str) -> ServerReport:
        """How one of them is. Raises `ServerNotFound`."""
        return self._known(client, name)

    def _known(self, client: Client, name: str) -> ServerReport:
        reports = {report.name: report for report in self.list_all(client)}
        if name not in reports:
            raise ServerNotFound(name, similar=sorted(reports)[:5])
        return reports[name]

    async def _followed(self, name: str) -> ServerReport:
        await self._registry.refresh()
        return await self._settled(name)

    async def _settled(self, name: str) -> ServerReport:
        """How a server is, once it has connected and listed, or failed to."""
        await self._wait_for(lambda: self._is_settled(name))
        report = self._reports.of(name)
        if report is None:
            raise ServerNotFound(name)
        return report

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so, or patience ends: a report says how far things have come."""
        try:
            async with asyncio.timeout(self._patience):
                while not condition():  # noqa: ASYNC110 - people may wait inexactly
                    await asyncio.sleep(STEP)
        except TimeoutError:
            pass

    def _is_settled(self, name: str) -> bool:
        provider = self._servers.provider(name)
        return provider is None or (provider.settled and not self._registry.is_behind)


def _reaches_in(entry: Json) -> bool:
    """Whether an entry can do more than connect to a URL."""
    return "command" in entry or "health_url" in entry or "${" in repr(entry)

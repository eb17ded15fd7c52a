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
from trunkline.errors import Forbidden, ServerInvalid, ServerNotAdded, ServerNotFound
from trunkline.models import Json, Principal, ProviderId, Role
from trunkline.providers.servers import Servers
from trunkline.security.outbound.guard import OutboundGuard

STEP: Final = 0.02
"""Seconds between two looks whether a server has connected."""

STORE_PATIENCE: Final = 10.0
"""Seconds an administrator waits for a database that is away, or just starting."""

REACHES_IN: Final = (
    "A command, a health page and ${...} references reach into the machine that Trunkline runs on. "
    "Only its own administrator may add such a server: with `trunkline server add`, in mcp.json, "
    "over stdio, or with a key of the role admin that belongs to no organisation."
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
        guard: OutboundGuard,
        patience: float,
    ) -> None:
        """
        *guard* says where URLs may lead of people who may not run commands here anyway.

        *patience* is how many seconds a server is waited for that was told to connect.
        """
        self._guard = guard
        self._added, self._registry, self._servers = added, registry, servers
        self._reports, self._patience = reports, patience

    async def add(self, principal: Principal, name: str, entry: Json) -> ServerReport:
        """
        Add a server, or change the one that was added under its name, and connect to it.

        Raises `Forbidden`, `ServerInvalid`, `OutboundRefused`, `ServerNotAdded` for a name of
        mcp.json, and `StorageError`.
        """
        require(principal, Role.ADMIN)
        if not principal.may_run_commands and _reaches_in(entry):
            raise ServerInvalid(REACHES_IN)
        if not (principal.may_run_commands or principal.is_local):
            entry = await self._guarded(entry)
        which = self._changeable(principal, name)
        await self._registry.wait_usable(STORE_PATIENCE)
        await self._added.add(await self._registry.scope_made(which.org), name, entry)
        return await self._followed(which)

    async def remove(self, principal: Principal, name: str) -> None:
        """Remove a server that was added. Raises like `add`, and `ServerNotFound`."""
        require(principal, Role.ADMIN)
        self._known(principal, name)
        which = self._changeable(principal, name)
        await self._registry.wait_usable(STORE_PATIENCE)
        await self._added.remove(self._registry.scope_of(which.org), name)
        await self._registry.refresh()
        await self._wait_for(lambda: not self._registry.is_behind)

    async def switch(self, principal: Principal, name: str, *, on: bool) -> ServerReport:
        """Connect a server, or disconnect it. Raises `Forbidden`, `ServerNotFound`, ..."""
        require(principal, Role.OPERATOR)
        self._known(principal, name)
        which = self._servers.called(name, principal.org)
        _require_own(principal, which)
        if self._servers.origin(which) == "api":
            await self._registry.wait_usable(STORE_PATIENCE)
            await self._added.switch(self._registry.scope_of(which.org), name, on=on)
            return await self._followed(which)
        self._servers.switch(which, on=on)
        return await self._settled(which)

    def list_all(self, principal: Principal) -> list[ServerReport]:
        """Every server and plugin of the organisation and of everybody. Raises `Forbidden`."""
        require(principal, Role.OPERATOR)
        return [one for one in self._reports.all() if one.org in (None, principal.org)]

    def status(self, principal: Principal, name: str) -> ServerReport:
        """How one of them is. Raises `Forbidden` and `ServerNotFound`."""
        return self._known(principal, name)

    async def _guarded(self, entry: Json) -> Json:
        """An entry of somebody who is not to reach what this machine reaches."""
        for key in ("url", "serverUrl", "httpUrl"):
            if isinstance(url := entry.get(key), str):
                await self._guard.allow_url(url)
        return {**entry, "guarded": True}

    def _known(self, principal: Principal, name: str) -> ServerReport:
        reports = {report.name: report for report in reversed(self.list_all(principal))}
        if name not in reports:
            raise ServerNotFound(name, similar=sorted(reports)[:5])
        return reports[name]

    def _changeable(self, principal: Principal, name: str) -> ProviderId:
        """Which server an organisation may add, change or remove under a name."""
        which = self._servers.called(name, principal.org)
        if (origin := self._servers.origin(which)) in ("file", "plugin"):
            raise ServerNotAdded(name, origin)
        _require_own(principal, which)
        return which

    async def _followed(self, which: ProviderId) -> ServerReport:
        await self._registry.refresh()
        return await self._settled(which)

    async def _settled(self, which: ProviderId) -> ServerReport:
        """How a server is, once it has connected and listed, or failed to."""
        await self._wait_for(lambda: self._is_settled(which))
        report = self._reports.of(which)
        if report is None:
            raise ServerNotFound(which.name)
        return report

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until it is so, or patience ends: a report says how far things have come."""
        try:
            async with asyncio.timeout(self._patience):
                while not condition():  # noqa: ASYNC110 - people may wait inexactly
                    await asyncio.sleep(STEP)
        except TimeoutError:
            pass

    def _is_settled(self, which: ProviderId) -> bool:
        provider = self._servers.provider(which)
        return provider is None or (provider.settled and not self._registry.is_behind)


def require(principal: Principal, role: Role) -> None:
    """Raise `Forbidden` for somebody who is less than *role*."""
    if not principal.role.includes(role):
        raise Forbidden(f"This needs the role {role.value!r}; yours is {principal.role.value!r}.")


def _require_own(principal: Principal, which: ProviderId) -> None:
    """What belongs to everybody is changed by somebody who belongs to no organisation."""
    if which.org is None and principal.org is not None:
        raise Forbidden(
            f"The server {which.name!r} belongs to everybody. Only somebody who belongs to no "
            "organisation can change it."
        )


def _reaches_in(entry: Json) -> bool:
    """Whether an entry can do more than connect to a URL."""
    return "command" in entry or "health_url" in entry or "${" in repr(entry)

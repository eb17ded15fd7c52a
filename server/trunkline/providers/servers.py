"""
Which servers and plugins there are, and the roster kept as they say.

Three sources, by rank: mcp.json, the servers that administrators added, and plugins. The first one
to use a name keeps it.

    mcp.json ── watched ──┐
    added (rows) ─────────┼── merge ── difference ──> Roster
    plugins ──────────────┘
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from trunkline.downstream.config import (
    Config,
    ConfigProblem,
    ServerConfig,
    difference,
    read_config,
    read_entry,
)
from trunkline.downstream.session import Connect
from trunkline.downstream.watch import watch_config
from trunkline.models import ProviderId
from trunkline.plugin.host import PluginHost
from trunkline.providers.downstream import DownstreamProvider
from trunkline.providers.roster import Roster
from trunkline.providers.transports import plugin_channel
from trunkline.storage.rows import Origin, ServerRow

log = structlog.get_logger(__name__)

ADDED_RANK: Final = 500_000
PLUGIN_RANK: Final = 1_000_000
"""Added servers rank behind those of mcp.json where two want one name, and plugins behind both."""

Reach = Callable[[ServerConfig], tuple[Connect, Callable[[], Awaitable[str | None]] | None]]
"""How to connect to a server, and how to ask its health page."""


@dataclass(frozen=True, slots=True)
class Added:
    """A server that an administrator added."""

    row: ServerRow
    config: ServerConfig | None
    """None if it cannot be used as it is; `problems` say why."""

    problems: tuple[ConfigProblem, ...]


class Servers:
    """Everything there is, from wherever it comes."""

    def __init__(self, roster: Roster, plugins: PluginHost, path: Path, reach: Reach) -> None:
        """*path* is the mcp.json to follow."""
        self.roster, self.plugins, self.path = roster, plugins, path
        self.file = Config()
        """What mcp.json says."""

        self.added: Mapping[ProviderId, Added] = {}
        self._reach = reach
        self._served = Config()
        """What was merged, and the roster is like now."""

        self._switched_off: set[ProviderId] = set()
        # Before the first reading, so that no change between the two is missed.
        self._changes = watch_config(path)

    # -- what there is ------------------------------------------------------------------------

    def origin(self, which: ProviderId) -> Origin | None:
        """Where one comes from; None if there is no such one."""
        if any(config.id == which for config in self.file.servers):
            return "file"
        if which in self.added:
            return "api"
        provider = self.roster.provider(which)
        return "plugin" if provider is not None and provider.is_plugin else None

    def provider(self, which: ProviderId) -> DownstreamProvider | None:
        """The one that is meant; None if it is not here."""
        return self.roster.provider(which)

    def called(self, name: str, org: str | None) -> ProviderId:
        """Which one an organisation means by a name: what is for everybody comes first."""
        everybodys, its_own = ProviderId(None, name), ProviderId(org, name)
        return its_own if self.origin(everybodys) is None else everybodys

    def problems(self) -> list[ConfigProblem]:
        """What is wrong with mcp.json and with the servers that were added."""
        theirs = (problem for one in self.added.values() for problem in one.problems)
        return [*self.file.problems, *theirs]

    # -- what changes it ----------------------------------------------------------------------

    def read_file(self) -> None:
        """Read mcp.json and start, stop and rename what is different from before."""
        self.file = read_config(self.path, os.environ).keeping(self.file)
        self._apply()

    async def follow_file(self) -> None:
        """Apply every change of mcp.json, until cancelled."""
        async for _ in self._changes:
            before = self.problems()
            log.info("config.changed", path=str(self.path))
            self.read_file()
            for problem in self.problems():
                if problem not in before:
                    log.warning("config.problem", code=problem.code, problem=str(problem))

    def take_added(self, rows: Sequence[tuple[ServerRow, str | None]]) -> None:
        """Take *rows* for all the servers that administrators added, each with its organisation."""
        before = self.added
        named = [(ProviderId(org, row.name), row) for row, org in rows]
        self.added = {which: self._read(row, which.org, before.get(which)) for which, row in named}
        for which in self.added.keys() - before.keys():
            if self._is_shadowed(which):
                log.warning(
                    "server.shadowed",
                    server=which.name,
                    org=which.org,
                    reason="mcp.json has a server of that name",
                )
        self._apply()

    def switch(self, which: ProviderId, *, on: bool) -> None:
        """Connect a server, or keep it disconnected, until this process ends."""
        if on:
            self._switched_off.discard(which)
        else:
            self._switched_off.add(which)
        self._apply()

    def seat_plugins(self) -> None:
        """Give every loaded plugin a provider, unless a server has its name."""
        taken = {
            which.name
            for which in self.roster.servers()
            if which.org is None or self.origin(which) == "file"
        }
        loaded = {one.name: one for one in self.plugins.plugins if one.name not in taken}
        for name in self.roster.plugins() - loaded.keys():
            self.roster.remove(ProviderId(None, name))
        for rank, plugin in enumerate(loaded.values(), PLUGIN_RANK):
            config = ServerConfig(
                name=plugin.name,
                transport="memory",
                namespace=plugin.namespace,
                position=rank,
                disabled=ProviderId(None, plugin.name) in self._switched_off,
            )
            channel = plugin_channel(plugin.server, plugin.name)
            self.roster.put(config, channel, origin=plugin.server)

    def _read(self, row: ServerRow, org: str | None, before: Added | None) -> Added:
        if before is not None and before.row == row:
            return before
        read = read_entry(row.name, row.config, os.environ, self.path.absolute().parent)
        config = next(
            (replace(one, position=ADDED_RANK + row.id, org=org) for one in read.servers), None
        )
        return Added(row, config, read.problems)

    def _is_shadowed(self, which: ProviderId) -> bool:
        """Whether mcp.json has a server of that name, for everybody or for that organisation."""
        return any(
            config.name == which.name and (config.org is None or config.org == which.org)
            for config in self.file.servers
        )

    def _apply(self) -> None:
        added = [
            one.config
            for one in self.added.values()
            if one.config is not None and not self._is_shadowed(one.config.id)
        ]
        merged = Config(
            servers=tuple(
                replace(config, disabled=True) if config.id in self._switched_off else config
                for config in (*self.file.servers, *added)
            )
        )
        changes = difference(self._served, merged)
        self._served = merged
        for which in changes.removed:
            self.roster.remove(which)
        for config in changes.added + changes.changed:
            connect, look = self._reach(config)
            self.roster.put(config, connect, look=look)
        for config in changes.renamed:
            self.roster.reconfigure(config)
        self.seat_plugins()  # a plugin's name may be free, or taken, now

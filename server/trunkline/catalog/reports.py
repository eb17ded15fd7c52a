"""How every server and plugin stands, for whoever shows it: `check`, the admin tools, the API."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from trunkline.catalog.catalog import Catalog
from trunkline.models import ProviderId, State
from trunkline.providers.downstream import DownstreamProvider
from trunkline.providers.servers import Servers
from trunkline.security.masking.masking import SECRETS
from trunkline.storage.rows import Origin

TAKEN: Final = "A server has this name. Give the plugin or the server another one."


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """One server or plugin, as `trunkline check` shows it."""

    name: str
    kind: str
    """`stdio`, `sse`, `streamable-http` or `plugin`; "" for one that cannot be used at all."""

    state: State
    origin: Origin | None = None
    """Where it was named; None for one that cannot be used at all."""

    org: str | None = None
    """The organisation it belongs to; None is global."""

    reason: str = ""
    last_error: str | None = None
    next_try: datetime | None = None
    tools: int = 0
    prompts: int = 0
    resources: int = 0
    problems: tuple[str, ...] = ()
    """Sentences about what it offers: left out, renamed, mended."""


class Reports:
    """Reports as things are at the moment of asking."""

    def __init__(self, catalog: Catalog, servers: Servers) -> None:
        self._catalog, self._servers = catalog, servers

    def all(self) -> list[ServerReport]:
        """Every server and plugin; those that cannot even be started come last."""
        roster, plugins = self._servers.roster, self._servers.plugins
        known = [self._of(provider) for provider in roster.providers]
        names = {report.name for report in known}
        wrong = {
            problem.server: problem.message
            for problem in reversed(self._servers.problems())
            if problem.server is not None and problem.server not in names
        }
        unstarted = [
            ServerReport(name=name, kind="", state=State.ERROR, reason=first, last_error=first)
            for name, first in reversed(wrong.items())
        ]
        failed = [
            ServerReport(
                name=failure.name,
                kind="plugin",
                state=State.ERROR,
                origin="plugin",
                reason=failure.sentence,
                last_error=failure.sentence,
            )
            for failure in plugins.failures
            if failure.name not in names
        ]
        failed += [
            ServerReport(
                name=plugin.name, kind="plugin", state=State.ERROR, origin="plugin", reason=TAKEN
            )
            for plugin in plugins.plugins
            if plugin.name not in roster.plugins()
        ]
        return [*known, *unstarted, *failed]

    def of(self, which: ProviderId) -> ServerReport | None:
        """One server or plugin; None if there is no such one."""
        reports = self.all()
        return next((one for one in reports if (one.org, one.name) == which), None)

    def findings(self) -> list[tuple[str, str]]:
        """
        Who has what somebody should look at: changed, withheld, suspicious, a sentence each.

        Half a millisecond a tool the first time: for a thread, and never for a probe.
        """
        snapshot = self._catalog.snapshot
        return [
            (provider.name, sentence)
            for provider in self._servers.roster.providers
            for sentence in snapshot.findings(provider.id)
        ]

    def _of(self, provider: DownstreamProvider) -> ServerReport:
        status, snapshot = provider.status, self._catalog.snapshot
        return ServerReport(
            name=provider.name,
            kind="plugin" if provider.is_plugin else provider.config.transport,
            state=status.state,
            origin=self._servers.origin(provider.id),
            org=provider.org,
            reason=SECRETS.mask(status.reason),
            last_error=status.last_error and SECRETS.mask(status.last_error),
            next_try=status.next_try,
            tools=snapshot.count(provider.id, "tools"),
            prompts=snapshot.count(provider.id, "prompts"),
            resources=snapshot.count(provider.id, "resources")
            + snapshot.count(provider.id, "templates"),
            problems=snapshot.problems(provider.id),
        )

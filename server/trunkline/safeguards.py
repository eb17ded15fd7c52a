"""
What keeps people, organisations and their credentials apart, made and wired together.

    policy.toml ─> policies ─┬─> gate ─> dispatch        limits <── shares (Redis)
                             ├─> approvals <── rows
                             └─> pins <── rows
    calls ─> audit ─> rows, file
    people ─> vault ─> oauth ─> sessions of their own
    URLs that people enter ─> outbound guard

Nothing here waits for the database: what is stored is loaded behind, and followed.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from trunkline.cache.cache import Cache
from trunkline.cache.shares import SharedCounters
from trunkline.catalog.catalog import Catalog
from trunkline.catalog.registry import Registry
from trunkline.downstream.config import ServerConfig
from trunkline.models import Json, ProviderId
from trunkline.security.approvals.approvals import Approvals
from trunkline.security.approvals.events import ApprovalEvent
from trunkline.security.audit.audit import Audit
from trunkline.security.audit.entries import Event
from trunkline.security.audit.lines import AuditFile
from trunkline.security.audit.outlets import AuditTable, Place
from trunkline.security.gate import Gate
from trunkline.security.limits.limits import Limits
from trunkline.security.limits.results import LargeResults
from trunkline.security.limits.rules import Rules
from trunkline.security.limits.shares import Shares
from trunkline.security.masking.masking import SECRETS
from trunkline.security.oauth.oauth import OAuth, open_oauth
from trunkline.security.outbound.guard import OutboundGuard
from trunkline.security.pins.pins import Pins
from trunkline.security.policy.policies import Policies
from trunkline.security.vault.keys import KeyRing
from trunkline.security.vault.tokens import PeoplesTokens
from trunkline.security.vault.vault import Vault
from trunkline.settings import PinSettings, Settings
from trunkline.storage.repositories.audit import AuditRepository
from trunkline.storage.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Safeguards:
    """All of it, for whoever calls, shows or decides."""

    gate: Gate
    pins: Pins
    vault: Vault
    oauth: OAuth
    tokens: PeoplesTokens
    shares: Shares

    async def run(self, registry: Registry, repository: AuditRepository) -> None:
        """Load, follow and tidy up until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.gate.policies.run())
            tasks.create_task(self.pins.run(registry.wait_usable))
            tasks.create_task(self.vault.run())
            tasks.create_task(self.shares.run())
            tasks.create_task(self.gate.audit.keep_young(repository, registry.is_usable))


def policies_of(settings: Settings, config_path: Path) -> Policies:
    """The policies in force beside a mcp.json."""
    return Policies(settings.policy, (config_path.absolute().parent, settings.home))


@asynccontextmanager
async def open_safeguards(
    settings: Settings,
    config_path: Path,
    standing: Standing,
    catalog: Catalog,
    cache: Cache,
    guard: OutboundGuard,
    *,
    face: str,
    registry: Callable[[], Registry],
    find: Callable[[ProviderId], ServerConfig | None],
) -> AsyncGenerator[Safeguards]:
    """
    Make everything, and keep the audit open for the block.

    *registry* and *find* (how a server is configured now) are made later, and asked later. To be
    left after everything that the audit has to hear of.
    """
    database = standing.database
    policies = policies_of(settings, config_path)
    audit = Audit(
        settings.audit,
        _places(settings, standing, lambda: registry().is_usable()),
        settings.home / "audit",
        face=face,
        keeps_arguments=lambda org: policies.of(org).audit_arguments == "redacted",
    )
    limits = Limits(Rules.of_settings(settings.limits), lambda org: policies.of(org).limits)
    shared = settings.redis_url is not None
    counters = SharedCounters(cache, settings.cache.connect_timeout) if shared else None
    approvals = Approvals(
        database,
        policies,
        lambda org: registry().scope_made(org),
        definition_of=_definitions_in(catalog),
        on_decision=lambda event: audit.record(entry_of(event)),
    )
    pins = Pins(
        database, settings.pins, is_new=standing.is_new, terms=_stricter(policies, settings)
    )
    pins.on_change = policies.on_change = catalog.judge_again
    catalog.pins = pins
    vault = Vault(database, KeyRing(settings.vault, settings.home), masked=SECRETS)
    async with audit.open(), open_oauth(database, vault, settings.oauth, guard, find=find) as oauth:
        yield Safeguards(
            gate=Gate(
                audit, policies, limits, approvals, LargeResults(settings.limits.kept_results)
            ),
            pins=pins,
            vault=vault,
            oauth=oauth,
            tokens=PeoplesTokens(vault, oauth),
            shares=Shares(limits, counters, interval=settings.limits.share_interval),
        )


def entry_of(event: ApprovalEvent) -> Event:
    """An event of an approval as the audit has it."""
    return Event.ended(
        f"approval.{event.kind}",
        event.by,
        server=event.server,
        own_name=event.tool,
        name=event.id,
    )


def _places(settings: Settings, standing: Standing, is_usable: Callable[[], bool]) -> list[Place]:
    """Where entries of the audit go: not into a database that there cannot be."""
    places: list[Place] = []
    if standing.can_be:
        places.append(AuditTable(AuditRepository(standing.database), is_usable))
    if settings.audit.file is not None:
        places.append(AuditFile(settings.audit.file))
    return places


def _definitions_in(catalog: Catalog) -> Callable[[str | None, str, str], Json | None]:
    def definition_of(org: str | None, server: str, tool: str) -> Json | None:
        entry = catalog.snapshot.view(org).of_origin("tools", server, tool)
        return None if entry is None else entry.definition

    return definition_of


def _stricter(policies: Policies, settings: Settings) -> Callable[[str | None], PinSettings]:
    """What becomes of tools that changed: as the settings say, or the policy if it is stricter."""
    everybodys = settings.pins
    withheld = {"changed": "withhold"}, {"findings": "withhold"}

    def terms(org: str | None) -> PinSettings:
        policy = policies.of(org)
        if policy.pins == policy.descriptions == "flag":
            return everybodys
        update = (withheld[0] if policy.pins == "withhold" else {}) | (
            withheld[1] if policy.descriptions == "withhold" else {}
        )
        return everybodys.model_copy(update=update)

    return terms

"""
`trunkline check`: everything connected once, how it went, and what is wrong with it.

Exits 0 when all is well, 1 when something is degraded, 2 when nothing of mcp.json can be used.
"""

import asyncio
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from trunkline.app import App, ServerReport, open_app
from trunkline.cli.options import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    PluginsOption,
    TimeoutOption,
    read_settings,
)
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import count, put, put_json, put_table
from trunkline.cli.start import HEALTHY, describe_problem, until, wait_for_start
from trunkline.downstream.config import ConfigProblem
from trunkline.errors import TrunklineError
from trunkline.security.masking.masking import SECRETS
from trunkline.settings import Settings

Verdict = Literal["ok", "degraded", "unusable"]

EXIT_CODES: Final[dict[Verdict, int]] = {"ok": 0, "degraded": 1, "unusable": 2}


CURRENT: Final = 30.0
"""Seconds the index may take to follow the catalog."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check has found."""

    config: Path
    servers: list[ServerReport]
    problems: list[ConfigProblem]
    findings: list[tuple[str, str]]
    """Servers, and what somebody should look at before they trust them."""

    database: str
    """Where the catalog is kept."""

    database_trouble: str | None
    """Why nothing is stored now; None while everything is."""

    index: str
    """Where tools are found: `in process` or `Qdrant`."""

    found: int
    """How many items can be found."""

    index_trouble: str | None
    """How the index differs from the catalog, or why it does not answer."""

    cache: str
    """Where answers are kept: `in process` or `Redis`."""

    cache_trouble: str | None
    """Why Redis is not used now; None while it is."""

    @property
    def verdict(self) -> Verdict:
        broken = any(problem.server is None for problem in self.problems)
        if broken and all(report.kind == "plugin" for report in self.servers):
            return "unusable"
        if (
            self.problems
            or self.database_trouble
            or self.index_trouble
            or self.cache_trouble
            or any(report.state not in HEALTHY for report in self.servers)
        ):
            return "degraded"
        return "ok"


def check(
    *,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    plugins: PluginsOption = None,
    log_level: LogLevelOption = None,
) -> int:
    """
    Show how every server and plugin is doing.

    Connects to all of them once. Exits 0 when all is well, 1 when something is degraded, 2 when
    nothing of mcp.json can be used.
    """
    settings = read_settings(config=config, plugins=plugins, log_level=log_level)
    log_briefly(settings)
    findings = run_async(_find(settings, timeout))
    if json:
        put_json({"verdict": findings.verdict, **asdict(findings)})
    else:
        _show(findings)
    return EXIT_CODES[findings.verdict]


async def _find(settings: Settings, timeout: float | None) -> Findings:
    async with open_app(settings, single_client=False) as app:
        await wait_for_start(app, limit=timeout or settings.downstream.connect_timeout)
        trouble = app.storage_trouble
        await app.finding.current(CURRENT)
        return Findings(
            app.config_path,
            app.reports(),
            app.problems(),
            await asyncio.to_thread(app.reporter.findings),
            "embedded" if app.standing.is_embedded else "DATABASE_URL",
            _said(trouble) if trouble is not None else None,
            "Qdrant" if app.finding.is_remote else "in process",
            await app.finding.count(),
            await _index_trouble(app),
            "Redis" if settings.redis_url is not None else "in process",
            await _cache_trouble(app),
        )


async def _index_trouble(app: App) -> str | None:
    """How Qdrant differs from the database; None if it does not, or there is none."""
    try:
        drift = await app.finding.drift(CURRENT)
    except TrunklineError as error:
        return _said(error)
    return None if drift is None or drift.is_none else f"It differs from the catalog: {drift}."


async def _cache_trouble(app: App) -> str | None:
    """Why Redis is not used, if it has been asked for."""
    await app.cache.wait_available(app.settings.cache.connect_timeout)
    reason = app.cache.reason if app.settings.redis_url is not None else None
    return _said(reason) if reason is not None else None


def _said(error: TrunklineError) -> str:
    """An error as it may be shown: a store may repeat the key that it was given."""
    return f"{SECRETS.mask(str(error))} [{error.code}]"


def _show(findings: Findings) -> None:
    if findings.servers:
        put_table(
            ("Server", "State", "Tools", "Prompts", "Resources", "Last error", "Next try"),
            [_row(report) for report in findings.servers],
        )
    else:
        put("There are no servers and no plugins.")
    put(f"\nDatabase ({findings.database}): {findings.database_trouble or 'ok'}")
    shown = findings.index_trouble or f"{count(findings.found, 'item')} can be found"
    put(f"Search ({findings.index}): {shown}")
    put(f"Cache ({findings.cache}): {findings.cache_trouble or 'ok'}")
    if findings.problems:
        put("\nThe configuration:")
        for problem in findings.problems:
            put(f"  {describe_problem(findings.config, problem)}")
    if findings.findings:
        put("\nTo be looked at:")
        for name, finding in findings.findings:
            put(f"  {name}: {finding}")
    remarks = [(report.name, problem) for report in findings.servers for problem in report.problems]
    if remarks:
        put("\nLeft out, renamed or mended:")
        for name, remark in remarks:
            put(f"  {name}: {remark}")


def _row(report: ServerReport) -> tuple[str, ...]:
    return (
        report.name,
        report.state,
        str(report.tools),
        str(report.prompts),
        str(report.resources),
        report.last_error or report.reason or "-",
        "-" if report.next_try is None else until(report.next_try),
    )

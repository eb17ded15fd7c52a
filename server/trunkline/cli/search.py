"""
`trunkline search`: what an agent would find, and why.

What the last run stored is searched at once; only where nothing is stored yet are the servers
waited for.
"""

from typing import Annotated, Literal

from cyclopts import Parameter

from trunkline.app import App, open_app
from trunkline.cli.options import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    PluginsOption,
    TimeoutOption,
    read_settings,
)
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import put, put_json, put_table
from trunkline.cli.start import wait_for_start
from trunkline.gateway.meta_tools import Strategy, shown, structured
from trunkline.models import LOCAL, Json, ProviderId
from trunkline.settings import Settings

What = Literal["tools", "prompts", "resources", "templates", "all"]

LimitOption = Annotated[int, Parameter(name="--limit", help="How many hits, up to 100.")]
TypeOption = Annotated[What, Parameter(name="--type", help="What to look for.")]
ServersOption = Annotated[
    tuple[str, ...],
    Parameter(name="--server", negative="", help="Only of this server; may be given again."),
]
SkillsOption = Annotated[
    tuple[str, ...],
    Parameter(name="--skill", negative="", help="Only with this skill; may be given again."),
]
MinScoreOption = Annotated[
    float | None, Parameter(name="--min-score", help="Only hits that score as much.")
]
StrategyOption = Annotated[
    Strategy | None,
    Parameter(name="--strategy", help="How to search; otherwise TRUNKLINE_SEARCH__STRATEGY."),
]
ExplainOption = Annotated[
    bool, Parameter(name="--explain", negative="", help="Show what each score is made of.")
]


def search(
    query: Annotated[str, Parameter(help="What you want to do, in a few words.")],
    /,
    *,
    limit: LimitOption = 5,
    type_: TypeOption = "tools",
    server: ServersOption = (),
    skill: SkillsOption = (),
    min_score: MinScoreOption = None,
    strategy: StrategyOption = None,
    explain: ExplainOption = False,
    json: JsonOption = False,
    timeout: TimeoutOption = None,
    config: ConfigOption = None,
    plugins: PluginsOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """
    Find tools, prompts and resources by what you want to do.

    Shows what `search_tools` would show to an agent. Exits 0 whether something was found or not.
    """
    settings = read_settings(config=config, plugins=plugins, log_level=log_level)
    log_briefly(settings)
    wanted: Json = {
        "words": query,
        "limit": limit,
        "kinds": () if type_ == "all" else (type_,),
        "servers": server,
        "skills": skill,
        "min_score": min_score,
        "strategy": strategy or settings.search.strategy,
    }
    answer = run_async(_search(settings, wanted, timeout, explain=explain))
    if json:
        put_json(answer)
    else:
        _show(answer, explain=explain)


async def _search(
    settings: Settings, wanted: Json, timeout: float | None, *, explain: bool
) -> Json:
    limit = timeout or settings.downstream.connect_timeout
    async with open_app(settings, single_client=False) as app:
        from trunkline.search.search import Request

        await _wait_for_catalog(app, limit)
        found = await (await app.finding.search()).find(Request(**wanted), LOCAL)
        return structured(found, [shown(hit, explain=explain) for hit in found.hits])


async def _wait_for_catalog(app: App, limit: float) -> None:
    """Wait until there is something to search: what was stored, or what the servers list."""
    await app.wait_opened(limit)
    snapshot = app.catalog.snapshot
    if not any(snapshot.offers) or any(
        snapshot.count(ProviderId(report.org, report.name), "tools") == 0
        for report in app.reports()
        if report.origin != "plugin"
    ):
        await wait_for_start(app, limit=limit)
    await app.finding.current(limit)


def _show(answer: Json, *, explain: bool) -> None:
    hits = answer["hits"]
    if not hits:
        put("Nothing was found.")
    else:
        put_table(
            ("Score", "Name", "Description", "Also on"),
            [
                (
                    f"{hit['score']:.2f}",
                    hit.get("call") or hit["name"],
                    hit["description"],
                    ", ".join(one["server"] for one in hit["also_on"]) or "-",
                )
                for hit in hits
            ],
        )
    if explain:
        put("")
        for hit in hits:
            put(f"{hit['name']}: {_explanation(hit['explanation'])}")
    if answer["skills"]:
        put(f"\nSkills: {', '.join(_skill(one) for one in answer['skills'])}")
    if answer["degraded"]:
        put("\nPart of the search did not answer; there may be better hits.")


def _explanation(explanation: Json) -> str:
    parts = [
        f"{name} {explanation[name]:.3f}"
        for name in ("dense", "lexical")
        if explanation[name] is not None
    ]
    parts += [f"{term} {score:.2f}" for term, score in explanation["terms"].items()]
    return ", ".join(parts) or "not told by this index"


def _skill(skill: Json) -> str:
    return f"{skill['name']} ({skill['confidence']:.0%})"

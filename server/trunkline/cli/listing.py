"""`trunkline list`: what a client would see, name by name."""

from typing import Annotated, Final

from cyclopts import Parameter

from trunkline.app import open_app
from trunkline.cli.options import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    PluginsOption,
    TimeoutOption,
    read_settings,
)
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import put_json, put_table, say
from trunkline.cli.start import HEALTHY, describe, wait_for_start
from trunkline.models import Json, Kind
from trunkline.settings import Settings

WIRE_NAMES: Final[dict[Kind, str]] = {
    "tools": "tools",
    "prompts": "prompts",
    "resources": "resources",
    "templates": "resourceTemplates",
}
"""What the protocol calls a list."""

KEYS: Final[dict[Kind, str]] = {
    "tools": "name",
    "prompts": "name",
    "resources": "uri",
    "templates": "uriTemplate",
}
"""The field that tells the items of a list apart."""

EXCERPT: Final = 100
"""Characters of a description that are shown."""


def list_items(
    kind: Annotated[Kind, Parameter(help="What to list.")] = "tools",
    /,
    *,
    timeout: TimeoutOption = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    plugins: PluginsOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """
    List tools, prompts, resources or templates.

    With --json, exactly as a client gets them.
    """
    settings = read_settings(config=config, plugins=plugins, log_level=log_level)
    log_briefly(settings)
    items = run_async(_fetch(settings, kind, timeout))
    if json:
        put_json({WIRE_NAMES[kind]: items})
    elif items:
        put_table(
            (KEYS[kind], "description"), [(item[KEYS[kind]], _excerpt(item)) for item in items]
        )
    else:
        say(f"There are no {kind}. `trunkline check` says how the servers are doing.")


async def _fetch(settings: Settings, kind: Kind, timeout: float | None) -> list[Json]:
    async with open_app(settings, single_client=False) as app:
        await wait_for_start(app, limit=timeout or settings.downstream.connect_timeout)
        for report in app.reports():
            if report.state not in HEALTHY:
                say(f"Not complete: {describe(report)}")
        view = app.catalog.snapshot.view(None)
        return list(getattr(view, kind))


def _excerpt(item: Json) -> str:
    """The first line of what an item says of itself."""
    text = item.get("description") or item.get("title") or ""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 1]}…"

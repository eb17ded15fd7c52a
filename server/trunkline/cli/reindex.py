"""
`trunkline reindex`: Qdrant filled anew from the database, and compared with it.

Without Qdrant there is nothing to do: the index of a process is made when the process starts.
"""

import sys

from trunkline.app import App, open_app
from trunkline.cli.options import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    PluginsOption,
    read_settings,
)
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import count, put, put_json
from trunkline.models import Json
from trunkline.settings import Settings

OPEN: float = 30.0
"""Seconds the database may take to be there."""

ARRIVE: float = 10.0
"""Seconds that changes which came meanwhile may take to arrive in the index."""


def reindex(
    *,
    json: JsonOption = False,
    config: ConfigOption = None,
    plugins: PluginsOption = None,
    log_level: LogLevelOption = None,
) -> int:
    """
    Fill the search index in Qdrant anew from the database.

    Searches go on meanwhile. Afterwards index and database are compared: exits 0 if they agree, 1
    if not.
    """
    settings = read_settings(config=config, plugins=plugins, log_level=log_level)
    log_briefly(settings)
    result = run_async(_reindex(settings))
    if json:
        put_json(result)
    elif not settings.qdrant_url:
        put(
            "There is nothing to rebuild: without QDRANT_URL every process makes its own index "
            "when it starts."
        )
    else:
        put(f"{count(result['items'], 'item')} in the index. Drift: {result['drift']}.")
    return 0 if result["drift"] in (None, "none") else 1


async def _reindex(settings: Settings) -> Json:
    if not settings.qdrant_url:
        return {"items": None, "drift": None}
    async with open_app(settings, single_client=False) as app:
        await app.registry.wait_usable(OPEN)
        items = await _fill(app)
        drift = await app.finding.drift(ARRIVE)
        return {"items": items, "drift": str(drift)}


async def _fill(app: App) -> int:
    """Fill the index, with a bar that shows how far it is where somebody watches."""
    total = await app.finding.total()
    if not sys.stderr.isatty():
        return await app.finding.fill(lambda _: None)
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("Indexing", total=total)
        items = await app.finding.fill(lambda done: progress.update(bar, completed=done))
        # What came or went meanwhile was not foreseen.
        progress.update(bar, completed=items, total=items)
        return items

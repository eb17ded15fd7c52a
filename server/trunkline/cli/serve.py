"""
`trunkline serve`: one client on stdin and stdout, or many over HTTP.

stdout belongs to the protocol, so whatever a person may want to know is said on stderr.
"""

import asyncio
import sys
from typing import Annotated

from cyclopts import Parameter

from trunkline import __version__
from trunkline.app import App, open_app
from trunkline.cli.options import (
    ConfigOption,
    LogLevelOption,
    PluginsOption,
    read_settings,
    require_loopback,
)
from trunkline.cli.running import log_steadily, run_async
from trunkline.cli.screen import count, say
from trunkline.cli.start import describe_problem, tell_start
from trunkline.gateway.health import health_routes
from trunkline.gateway.http import build_app, listen, serve_http
from trunkline.gateway.stdio import serve_stdio, standard_streams
from trunkline.models import State
from trunkline.settings import Settings

HttpOption = Annotated[
    str | None,
    Parameter(
        name="--http",
        help="Serve over HTTP at HOST:PORT, :PORT or PORT instead of stdin and stdout.",
    ),
]


def serve(
    *,
    http: HttpOption = None,
    config: ConfigOption = None,
    plugins: PluginsOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """
    Serve everything to MCP clients.

    Over stdin and stdout, for the one client that has started this command; with --http, for as
    many clients as connect. Ends when the client leaves or on Ctrl-C.
    """
    settings = read_settings(config=config, plugins=plugins, log_level=log_level, http=http)
    log_steadily(settings)
    if http is None:
        run_async(_serve_stdio(settings))
    else:
        require_loopback(settings.http.host)
        run_async(_serve_http(settings))


async def _serve_stdio(settings: Settings) -> None:
    if sys.stdin.isatty():
        say(
            "Waiting for an MCP client on stdin. For clients that connect over HTTP: "
            "trunkline serve --http 127.0.0.1:8080"
        )
    # Before anything else, so that what a plugin prints while it loads is no protocol.
    with standard_streams() as streams:
        async with open_app(settings, single_client=True) as app:
            _tell_problems(app)
            await serve_stdio(app.server, streams)


async def _serve_http(settings: Settings) -> None:
    # The port first: without it, nothing else need start.
    listeners = listen(settings.http.host, settings.http.port)
    async with open_app(settings, single_client=False) as app, asyncio.TaskGroup() as tasks:
        telling: list[asyncio.Task[None]] = []

        def on_listening(url: str) -> None:
            telling.append(tasks.create_task(_tell(app, url)))

        await serve_http(
            build_app(
                app.server, settings.http, routes=health_routes(app.opened.is_set, app.troubles)
            ),
            settings.http,
            on_listening=on_listening,
            listeners=listeners,
        )
        for task in telling:
            task.cancel()


async def _tell(app: App, url: str) -> None:
    say(f"Trunkline {__version__} listens on {url}")
    _tell_problems(app)
    await tell_start(app, limit=app.settings.downstream.connect_timeout)
    reports = app.reports()
    ready = sum(report.state is State.CONNECTED for report in reports)
    tools = count(sum(report.tools for report in reports), "tool")
    say(
        f"{tools} from {ready} of {count(len(reports), 'server or plugin', 'servers and plugins')}."
    )
    if (trouble := app.storage_trouble) is not None:
        say(f"Nothing is being stored: {trouble} [{trouble.code}]")
    say(f"  {url}/mcp   streamable HTTP, for most clients")
    say(f"  {url}/sse   HTTP+SSE, for older ones")
    say(f"Connect one with: trunkline install claude-code --http {url}/mcp")


def _tell_problems(app: App) -> None:
    for problem in app.problems():
        say(describe_problem(app.config_path, problem))

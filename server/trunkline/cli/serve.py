"""
`trunkline serve`: one client on stdin and stdout, or many over HTTP.

stdout belongs to the protocol, so whatever a person may want to know is said on stderr.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated

from cyclopts import Parameter
from starlette.applications import Starlette

from trunkline import __version__
from trunkline.api.backing import Backing
from trunkline.api.mount import api_routes
from trunkline.app import App, open_app
from trunkline.cli.options import (
    ConfigOption,
    LogLevelOption,
    PluginsOption,
    read_settings,
)
from trunkline.cli.running import log_steadily, run_async
from trunkline.cli.screen import count, say
from trunkline.cli.start import describe_problem, tell_start
from trunkline.gateway.health import health_routes
from trunkline.gateway.http import build_app, listen, serve_http
from trunkline.gateway.identity import Identify, Identity
from trunkline.gateway.oauth_callback import oauth_routes
from trunkline.gateway.stdio import serve_stdio, standard_streams
from trunkline.models import Principal, State
from trunkline.security.audit.entries import Event
from trunkline.security.identity.identities import Identities, is_loopback, open_identities
from trunkline.security.oauth.flows import CALLBACK, DOCUMENT, START
from trunkline.security.pins.review import Case, PinReview
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
    async with (
        open_app(settings, single_client=False) as app,
        identities_of(app) as identities,
        asyncio.TaskGroup() as tasks,
    ):
        await identities.check_protected()
        telling: list[asyncio.Task[None]] = []

        def on_listening(url: str) -> None:
            show_login_pages(app, url)
            telling.append(tasks.create_task(_tell(app, identities, url)))

        await serve_http(
            http_face(app, identify(app, identities), is_closed=lambda: identities.is_closed),
            settings.http,
            on_listening=on_listening,
            listeners=listeners,
        )
        for task in telling:
            task.cancel()


def http_face(
    app: App, identity: Identify, *, is_closed: Callable[[], bool] = lambda: False
) -> Starlette:
    """
    Everything that *app* answers over HTTP, to whom *identity* lets in.

    *is_closed* says whether strangers are kept out, and so are told less.
    """
    database, gate, pins = app.standing.database, app.safeguards.gate, app.settings.pins
    backing = Backing(
        administration=app.administration,
        database=database,
        review=PinReview(database, pins),
        case_of=lambda org, row: Case.of(org, row, pins),
        record=gate.audit.record,
        room=gate.audit.room,
    )
    return build_app(
        app.server,
        app.settings.http,
        identity=identity,
        routes=[
            *health_routes(app.opened.is_set, app.troubles, is_brief=is_closed),
            *api_routes(backing),
            *oauth_routes(app.safeguards.oauth),
        ],
    )


def identify(app: App, identities: Identities) -> Identity:
    """Lets in those who show a key or a token; the audit hears of the others."""

    def on_refused(code: str, principal: Principal | None, reason: str, address: str) -> None:
        app.safeguards.gate.audit.record(
            Event(
                action="identity.refused",
                principal=principal,
                outcome="denied",
                name=address,
                code=code,
                causes=((code, reason),),
                face="http",
                at=time.time(),
            )
        )

    return Identity(
        identities, app.settings.auth, on_refused=on_refused, open_paths=(START, CALLBACK, DOCUMENT)
    )


def show_login_pages(app: App, url: str) -> None:
    """Browsers of this machine find the pages where we listen, unless the settings say better."""
    oauth = app.safeguards.oauth
    if oauth.base is None and is_loopback(app.settings.http.host):
        oauth.base = url


def identities_of(app: App) -> AbstractAsyncContextManager[Identities]:
    """Who may come in, from the database of *app*."""
    standing = app.standing
    return open_identities(
        app.settings.auth,
        standing.database,
        host=app.settings.http.host,
        wait_migrated=app.registry.wait_usable,
        has_no_database=lambda: standing.is_new and not standing.database.is_available,
    )


async def _tell(app: App, identities: Identities, url: str) -> None:
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
    if identities.is_closed:
        say("Clients need a key or a token, in the header: Authorization: Bearer KEY")
    say(f"  {url}/mcp   streamable HTTP, for most clients")
    say(f"  {url}/sse   HTTP+SSE, for older ones")
    say(f"Connect one with: trunkline install claude-code --http {url}/mcp")


def _tell_problems(app: App) -> None:
    for problem in app.problems():
        say(describe_problem(app.config_path, problem))

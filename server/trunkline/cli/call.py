"""`trunkline call`: one tool, called as a client would call it."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from trunkline.app import App, open_app
from trunkline.catalog.offer import Entry
from trunkline.cli.arguments import parse_arguments, parse_object
from trunkline.cli.contents import show_result
from trunkline.cli.options import (
    ConfigOption,
    JsonOption,
    LogLevelOption,
    PluginsOption,
    read_settings,
)
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import put_json, say
from trunkline.cli.start import waiting_line
from trunkline.errors import CommandTimeout, ToolNotFound, UsageError
from trunkline.models import Json
from trunkline.settings import Settings

LOOK: Final = 0.05
"""Seconds between two looks at whether the tool is there by now."""


def call(
    name: Annotated[str, Parameter(help="The tool, as `trunkline list` shows it.")],
    /,
    *pairs: Annotated[str, Parameter(name="KEY=VALUE", help="Its arguments.")],
    arguments: Annotated[
        str | None,
        Parameter(
            name="--arguments",
            allow_leading_hyphen=True,
            help="Its arguments as a JSON object; - reads stdin.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Parameter(name="--output", help="Where to write images, audio and other binary data."),
    ] = None,
    timeout: Annotated[
        float | None,
        Parameter(
            name="--timeout", help="Seconds the whole may take, the server's start included."
        ),
    ] = None,
    json: JsonOption = False,
    config: ConfigOption = None,
    plugins: PluginsOption = None,
    log_level: LogLevelOption = None,
) -> int:
    """
    Call a tool and print what it answers.

    Exits 1 when the tool reports an error.
    """
    if pairs and arguments is not None:
        raise UsageError("Give the arguments as key=value or with --arguments, not both.")
    settings = read_settings(config=config, plugins=plugins, log_level=log_level)
    log_briefly(settings)
    given = parse_object(sys.stdin.read() if arguments == "-" else arguments or "{}")
    result = run_async(_call(settings, name, pairs, given, timeout))
    if json:
        put_json(result)
    else:
        show_result(result, output)
    return 1 if result.get("isError") is True else 0


async def _call(
    settings: Settings, name: str, pairs: tuple[str, ...], given: Json, timeout: float | None
) -> Json:
    async with open_app(settings, single_client=False) as app:
        try:
            async with asyncio.timeout(timeout):
                tool = await _find(app, name)
                schema = tool.definition.get("inputSchema") or {}
                arguments = given | parse_arguments(pairs, schema)
                return await app.dispatch.request(
                    "tools/call",
                    {"name": name, "arguments": arguments},
                    app.local_caller(_tell_notice),
                )
        except TimeoutError:
            assert timeout is not None
            raise CommandTimeout(f"Calling {name!r}", timeout) from None


async def _find(app: App, name: str) -> Entry:
    """
    The tool of that name, as soon as its server has listed it.

    Raises `ToolNotFound` when every server has answered, or failed, and none has it.
    """
    limit = app.settings.downstream.connect_timeout
    with waiting_line() as line:
        settled = asyncio.ensure_future(app.settled(limit))
        try:
            while True:
                done = settled.done()
                try:
                    return app.catalog.snapshot.view(None).tool(name)
                except ToolNotFound:
                    if done:
                        raise
                line.show(f"Waiting for a server that has {name}")
                await asyncio.wait([settled], timeout=LOOK)
        finally:
            settled.cancel()


def _tell_notice(method: str, params: Json | None) -> None:
    """Pass on what the tool says while it works."""
    params = params or {}
    if method == "notifications/progress" and isinstance(params.get("message"), str):
        say(params["message"])
    elif method == "notifications/message":
        say(f"{params.get('level', 'info')}: {params.get('data')}")

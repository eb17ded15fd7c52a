"""
`trunkline server`: the servers that were added, which are rows of the database and not in mcp.json.

Whoever serves from the same database follows by itself, and nobody need be running. What is added
runs elsewhere than in this shell: `server_entry` puts it into words that mean the same there.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, Parameter

from trunkline.catalog.added import AddedServers, check_entry
from trunkline.cli.database import opened
from trunkline.cli.options import (
    ConfigOption,
    DryRunOption,
    JsonOption,
    LogLevelOption,
    read_settings,
)
from trunkline.cli.running import log_briefly, run_async
from trunkline.cli.screen import put, put_json, put_table, say
from trunkline.cli.server_entry import (
    NOTHING,
    ServerOptions,
    described,
    masked,
    placed,
    read_entry_file,
    shown_place,
)
from trunkline.downstream.config import read_config, read_entry
from trunkline.errors import ServerNotAdded, ServerNotFound, UsageError
from trunkline.models import Json
from trunkline.settings import Settings
from trunkline.storage.repositories.servers import ServerRepository
from trunkline.storage.rows import ServerRow

NameArgument = Annotated[str, Parameter(name="NAME", help="The server's name.")]

Deed = Literal["Added", "Changed", "Kept"]

SENTENCES: Final[dict[Deed, str]] = {
    "Added": "Added {}. Every Trunkline that serves from this database follows by itself.",
    "Changed": "Changed {}. Every Trunkline that serves from this database follows by itself.",
    "Kept": "Nothing to change: {} was added like this before.",
}

server = App(
    name="server",
    help="""Add, remove and list servers, or switch them off and on.

    These are kept in the database, the one of DATABASE_URL or else the embedded one in
    TRUNKLINE_HOME, and are served besides those of mcp.json.
    """,
)


@dataclass(frozen=True, slots=True)
class AddedServer:
    """A server that was added, without anything that may be secret."""

    name: str
    transport: str | None
    """None if it cannot be used as it is."""

    where: str
    disabled: bool
    shadowed: bool
    """Whether mcp.json has a server of that name, which is the one that is served."""

    problem: str | None

    @property
    def note(self) -> str:
        """What a person should know of it."""
        notes = (
            self.disabled and "disabled",
            self.shadowed and "hidden by the server of that name in mcp.json",
            self.problem,
        )
        return "; ".join(note for note in notes if note) or "-"


@server.command(sort_key=0)
def add(
    name: Annotated[str, Parameter(name="NAME", help="What to call it.")],
    /,
    *command: Annotated[
        str, Parameter(name="COMMAND", help="The program that starts it, and its arguments.")
    ],
    options: ServerOptions = NOTHING,
    from_json: Annotated[
        str | None,
        Parameter(
            name="--from-json",
            allow_leading_hyphen=True,
            help="A file with its mcp.json entry, or a whole mcp.json that has NAME; "
            "- reads stdin.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """
    Add a server, or change the one that was added under that name.

    Give the --url of one that is running, or, after --, the command that starts one. ${NAME} is
    replaced where Trunkline runs: quote it, so that this shell does not.
    """
    settings = read_settings(config=config, log_level=log_level)
    log_briefly(settings)
    if from_json is None:
        entry, folder = described(options, command), Path.cwd()
    elif command or options != NOTHING:
        raise UsageError("--from-json says everything. Write the rest into the JSON.")
    else:
        entry, folder = read_entry_file(from_json, name)
    for lacking in check_entry(name, entry, folder, runs_here=False):
        say(f"Not in this shell: {lacking}")
    if name in _names_of_file(settings):
        raise ServerNotAdded(name, "file")
    entry = placed(entry, folder)
    if dry_run:
        put_json(masked(entry))
    else:
        put(SENTENCES[run_async(_add(settings, name, entry))].format(name))


@server.command(sort_key=1)
def remove(name: NameArgument, /, *, config: ConfigOption = None) -> None:
    """Remove a server that was added, with all of its tools."""
    run_async(_change(read_settings(config=config), name, lambda rows: rows.remove(None, name)))
    put(f"Removed {name}.")


@server.command(name="list", sort_key=2)
def list_(*, json: JsonOption = False, config: ConfigOption = None) -> None:
    """
    List the servers that were added.

    `trunkline check` shows how they are, together with those of mcp.json and the plugins.
    """
    settings = read_settings(config=config)
    log_briefly(settings)
    in_file = _names_of_file(settings)
    servers = [_shown(row, row.name in in_file) for row in run_async(_list(settings))]
    if json:
        put_json({"servers": [asdict(one) for one in servers]})
    elif servers:
        put_table(
            ("Server", "Transport", "Where", "Note"),
            [(one.name, one.transport or "-", one.where, one.note) for one in servers],
        )
    else:
        put("No servers were added.")


@server.command(sort_key=3)
def enable(name: NameArgument, /, *, config: ConfigOption = None) -> None:
    """Switch a server on that was switched off."""
    _switch(read_settings(config=config), name, on=True)


@server.command(sort_key=4)
def disable(name: NameArgument, /, *, config: ConfigOption = None) -> None:
    """Switch a server off: it stays added, and is not connected."""
    _switch(read_settings(config=config), name, on=False)


def _switch(settings: Settings, name: str, *, on: bool) -> None:
    run_async(_change(settings, name, lambda rows: rows.switch(None, name, on=on)))
    put(f"{name} is switched {'on' if on else 'off'}.")


async def _add(settings: Settings, name: str, entry: Json) -> Deed:
    async with opened(settings) as database:
        before = await ServerRepository(database).find(None, name)
        if before is not None and before.origin == "plugin":
            raise ServerNotAdded(name, "plugin")
        await AddedServers(database, Path.cwd()).add(None, name, entry, runs_here=False)
    if before is None or before.origin != "api":
        return "Added"
    return "Kept" if before.config == entry else "Changed"


async def _change(
    settings: Settings, name: str, change: Callable[[AddedServers], Awaitable[ServerRow]]
) -> None:
    log_briefly(settings)
    async with opened(settings) as database:
        try:
            await change(AddedServers(database, Path.cwd()))
        except ServerNotFound:
            if name in _names_of_file(settings):
                raise ServerNotAdded(name, "file") from None
            raise


async def _list(settings: Settings) -> list[ServerRow]:
    async with opened(settings) as database:
        return await AddedServers(database, Path.cwd()).list_all(None)


def _names_of_file(settings: Settings) -> set[str]:
    """The servers of mcp.json, those included that lack only a variable in this shell."""
    from trunkline.app import find_config  # brings everything else along, too

    config = read_config(find_config(settings), os.environ)
    if not config.is_readable:
        say(" ".join(f"{problem} [{problem.code}]" for problem in config.problems))
    lacking = {one.server for one in config.problems if one.code == "config_variable"}
    return {one.name for one in config.servers} | {name for name in lacking if name is not None}


def _shown(row: ServerRow, shadowed: bool) -> AddedServer:
    # Of a server that is switched off no references are replaced, and none are missed.
    read = read_entry(row.name, {**row.config, "disabled": True}, {}, Path.cwd())
    return AddedServer(
        name=row.name,
        transport=read.servers[0].transport if read.servers else None,
        where=shown_place(row.config),
        disabled=row.config.get("disabled") is True,
        shadowed=shadowed,
        problem=" ".join(problem.message for problem in read.problems) or None,
    )

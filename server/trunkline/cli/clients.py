"""
`trunkline import`, `install` and `uninstall`: what other MCP clients know, and how they know us.

Somebody else's file is backed up before it is changed, and only our own entry in it is.
"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trunkline.cli.options import ConfigOption, DryRunOption, read_settings
from trunkline.cli.screen import aligned, put, put_json, say
from trunkline.clients.importing import ImportedServer, import_servers, write_import
from trunkline.clients.installing import (
    Outcome,
    http_entry,
    own_command,
    stdio_entry,
)
from trunkline.clients.installing import install as install_entry
from trunkline.clients.installing import uninstall as remove_entry
from trunkline.clients.places import (
    TITLES,
    ClientFile,
    ClientName,
    Machine,
    client_file,
    found_clients,
)
from trunkline.errors import UsageError
from trunkline.settings import Settings

ClientArgument = Annotated[ClientName, Parameter(name="CLIENT", help="The client program.")]
ProjectOption = Annotated[
    bool,
    Parameter(
        name="--project",
        negative="",
        help="For this folder only, where the client keeps a configuration for it.",
    ),
]


def import_(
    *,
    source: Annotated[
        tuple[ClientName, ...] | None,
        Parameter(
            name="--from",
            negative="",
            help="A client to import from; may be given several times. Otherwise all of them.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """
    Take over the servers other MCP clients know.

    They are added to mcp.json: the one given, else ./mcp.json if there is one, else the one in
    TRUNKLINE_HOME. What is there already stays as it is.
    """
    target = _own_config(read_settings(config=config))
    files = [
        file
        for file in found_clients(Machine.this(), Path.cwd())
        if source is None or file.client in source
    ]
    found = import_servers(files)
    for problem in found.problems:
        say(problem)
    if not found.servers:
        say("No servers were found in the configurations of other clients.")
        return
    written = write_import(found, target, dry_run=dry_run)
    for line in aligned([_row(server) for server in found.servers]):
        put(line)
    if written.present:
        put(f"Already in {target}: {', '.join(written.present)}.")
    if written.added:
        would = "Would be added" if dry_run else "Added"
        put(f"{would} to {target}: {', '.join(written.added)}.{_kept(written.backup)}")


def install(
    client: ClientArgument,
    /,
    *,
    http: Annotated[
        str | None,
        Parameter(
            name="--http",
            help="The URL of a running Trunkline. Otherwise the client starts one by itself.",
        ),
    ] = None,
    project: ProjectOption = False,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
) -> None:
    """
    Enter Trunkline in an MCP client.

    The client's file is backed up first, and nothing else in it is touched. Without --http the
    client will start Trunkline with the mcp.json given, else with ./mcp.json if there is one.
    """
    settings = read_settings(config=config)
    if http is None:
        entry = stdio_entry(client, own_command(), _pinned_config(settings))
    elif http.startswith(("http://", "https://")):
        entry = http_entry(client, http)
    else:
        raise UsageError(f"{http!r} is no URL. Write http://127.0.0.1:8080/mcp.")
    file = _file_of(client, project)
    _tell(install_entry(file, entry, dry_run=dry_run), file, dry_run=dry_run)
    if dry_run:
        put_json(entry)


def uninstall(
    client: ClientArgument, /, *, project: ProjectOption = False, dry_run: DryRunOption = False
) -> None:
    """
    Take Trunkline out of an MCP client.

    The client's file is backed up first, and nothing else in it is touched.
    """
    file = _file_of(client, project)
    _tell(remove_entry(file, dry_run=dry_run), file, dry_run=dry_run)


def _file_of(client: ClientName, project: bool) -> ClientFile:
    return client_file(client, Machine.this(), Path.cwd() if project else None)


def _own_config(settings: Settings) -> Path:
    """The mcp.json that is ours to write."""
    return _pinned_config(settings) or settings.home / "mcp.json"


def _pinned_config(settings: Settings) -> Path | None:
    """An mcp.json that is found only because of where, or how, this command was run."""
    if settings.config is not None:
        return settings.config
    here = Path.cwd() / "mcp.json"
    return here if here.is_file() else None


def _tell(outcome: Outcome, file: ClientFile, *, dry_run: bool) -> None:
    would = " (nothing was written)" if dry_run else ""
    put(f"{TITLES[file.client]}: {outcome.deed} in {outcome.path}{would}.{_kept(outcome.backup)}")
    if not dry_run and outcome.deed in ("installed", "updated", "removed"):
        put(f"Restart {TITLES[file.client]} if it is running.")


def _row(server: ImportedServer) -> tuple[str, str]:
    return f"  {server.name}", f"from {server.source.title}, {server.source.path}"


def _kept(backup: Path | None) -> str:
    return "" if backup is None else f" The file as it was: {backup}."

"""
The command line's entrance: which commands there are, and the border where errors become sentences.

A command is imported when it is called, so that it pays for nothing but itself.

    0    done
    1    a call failed, or `check` found something degraded
    2    nothing could be done: the command line, a setting or the configuration is wrong
    130  interrupted
"""

import gc
import os
import sys
import threading
from typing import Final

from cyclopts import App, CycloptsError

from trunkline import __version__
from trunkline.cli.screen import say, tolerate_any_character
from trunkline.errors import (
    ConfigError,
    DataVersion,
    EmbeddedFailed,
    InvalidArguments,
    MigrationEdited,
    SchemaTooNew,
    ServerInvalid,
    ServerNotAdded,
    StorageRefused,
    StorageTooOld,
    SystemRefusal,
    TrunklineError,
    UsageError,
)
from trunkline.security.masking.masking import SECRETS

DONE: Final = 0
FAILED: Final = 1
UNUSABLE: Final = 2
INTERRUPTED: Final = 130

HOPELESS: Final = (
    ConfigError,
    DataVersion,
    EmbeddedFailed,
    InvalidArguments,
    MigrationEdited,
    SchemaTooNew,
    ServerInvalid,
    ServerNotAdded,
    StorageRefused,
    StorageTooOld,
    SystemRefusal,
    UsageError,
)
"""Errors that come again until somebody changes something here."""

COMMANDS: Final = {
    "serve": ("trunkline.cli.serve:serve", "Serve everything to MCP clients."),
    "check": ("trunkline.cli.check:check", "Show how every server and plugin is doing."),
    "list": ("trunkline.cli.listing:list_items", "List tools, prompts, resources or templates."),
    "search": (
        "trunkline.cli.search:search",
        "Find tools, prompts and resources by what you want to do.",
    ),
    "call": ("trunkline.cli.call:call", "Call a tool and print what it answers."),
    "server": (
        "trunkline.cli.servers:server",
        "Add, remove and list servers, or switch them off and on.",
    ),
    "approvals": (
        "trunkline.cli.approve:approvals",
        "List the calls that wait for a person, oldest first.",
    ),
    "approve": ("trunkline.cli.approve:approve", "Let a call run that waits for approval."),
    "deny": ("trunkline.cli.approve:deny", "Let a call not run that waits for approval."),
    "key": (
        "trunkline.cli.key:key",
        "Make, list, revoke and rotate the keys that let clients in over HTTP.",
    ),
    "pins": (
        "trunkline.cli.pins:pins",
        "See which tools are not what they were, and accept them.",
    ),
    "migrate": (
        "trunkline.cli.migrate:migrate",
        "Move the schema of the database up or down, or see where it is.",
    ),
    "reindex": (
        "trunkline.cli.reindex:reindex",
        "Fill the search index in Qdrant anew from the database.",
    ),
    "audit": (
        "trunkline.cli.audit:audit",
        "See who did what, and whether it is as it was written.",
    ),
    "cache": ("trunkline.cli.cache:cache", "See what is cached in Redis, or be rid of it."),
    "vault": (
        "trunkline.cli.vault:vault",
        "Keep credentials of people for servers behind Trunkline.",
    ),
    "login": ("trunkline.cli.login:login", "Log in at a server, as the user of this machine."),
    "logout": (
        "trunkline.cli.login:logout",
        "Forget the login of the user of this machine at a server.",
    ),
    "import": ("trunkline.cli.clients:import_", "Take over the servers other MCP clients know."),
    "install": ("trunkline.cli.clients:install", "Enter Trunkline in an MCP client."),
    "uninstall": ("trunkline.cli.clients:uninstall", "Take Trunkline out of an MCP client."),
}
"""Name -> where the function is, which is imported when it is called, and its line in the list."""

HELP: Final = (["--help"], ["-h"], [])
"""Command lines that ask for the list of commands."""


def commands(*, listed: bool = False) -> App:
    """
    The command line as an application that has not read any arguments.

    *listed* says that the list of commands is what is asked for: their lines in it would take the
    place of their own help.
    """
    app = App(
        name="trunkline",
        help="Many MCP servers and plugins in, one MCP server out.",
        version=f"trunkline {__version__}",
        suppress_keyboard_interrupt=False,
    )
    for rank, (name, (function, line)) in enumerate(COMMANDS.items()):
        app.command(function, name=name, help=line if listed else None, sort_key=rank)
    return app


def main() -> None:
    """Run the command line and end the process with the command's exit code."""
    # What is imported stays, so looking for garbage in it only costs time: a tenth of the start.
    gc.disable()
    tolerate_any_character()
    code = run(sys.argv[1:])
    if threading.active_count() > 1:
        # A plugin's function that never returns holds its thread. Python would wait for it, or for
        # a lock it holds.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code. Errors made to be read are said on stderr."""
    try:
        code = commands(listed=arguments in HELP)(
            arguments, print_error=False, exit_on_error=False, result_action="return_value"
        )
    except KeyboardInterrupt:
        return INTERRUPTED
    except (CycloptsError, TrunklineError, OSError, BaseExceptionGroup) as raised:
        if (error := _reason(raised)) is None:
            raise
        say(f"Error: {SECRETS.mask(str(error))} [{error.code}]")
        return UNUSABLE if isinstance(error, HOPELESS) else FAILED
    return code if isinstance(code, int) else DONE


def _reason(raised: BaseException) -> TrunklineError | None:
    """What was raised as one of our own errors; None if it is a bug."""
    if isinstance(raised, TrunklineError):
        return raised
    if isinstance(raised, CycloptsError):
        return UsageError(_sentence(raised))
    if isinstance(raised, OSError):
        return SystemRefusal(raised)
    if isinstance(raised, BaseExceptionGroup):
        # Task groups wrap whatever leaves them. A bug among the reasons outweighs them.
        reasons = [_reason(inner) for inner in raised.exceptions]
        return reasons[0] if None not in reasons else None
    return None


def _sentence(error: CycloptsError) -> str:
    command = " ".join(("trunkline", *(error.command_chain or ())))
    return f"{str(error).strip()} See `{command} --help`."

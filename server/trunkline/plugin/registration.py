"""
From an imported module to servers: `Plugin` objects, and plain functions that register.

A module may offer any number of `Plugin` objects, and a function `register(mcp)` or
`register_<module>(mcp)`, sync or async, that is handed a FastMCP server and adds to it.
"""

import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fastmcp import FastMCP

from trunkline.errors import PluginEmpty, PluginError, PluginRegistrationFailed
from trunkline.plugin.discovery import Source
from trunkline.plugin.loading import Load, in_own_thread
from trunkline.plugin.plugin import Plugin
from trunkline.plugin.server import PLUGIN_ERRORS, describe_exit, is_empty, running

Register = Callable[[FastMCP[Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPlugin:
    """One plugin that can be served."""

    name: str
    summary: str
    namespace: str | None
    """The prefix of its names; None takes the name, "" prefixes nothing."""

    version: str | None
    file: Path | None
    """The file or package folder it came from; None for an entry point."""

    server: FastMCP[Any]
    """A fresh object after every change of the file."""


async def register(load: Load) -> list[LoadedPlugin]:
    """
    Everything a load offers, with its functions run.

    Raises `PluginRegistrationFailed`, or `PluginEmpty` if there is nothing to be served.
    """
    plugins, functions = _offers(load)
    found = [_loaded(plugin, load.source) for plugin in plugins]
    if functions:
        found = await _run_functions(load, functions, found)
    if not found:
        raise PluginEmpty(
            f"{load.source.origin} offers no plugin. Write `plugin = Plugin(...)`, or a function "
            f"`register(mcp)` or `register_{load.source.identifier}(mcp)`. If it is not meant to "
            f"be a plugin, let its name begin with an underscore."
        )
    return found


@asynccontextmanager
async def started(plugin: LoadedPlugin) -> AsyncGenerator[None]:
    """
    Run the plugin's start and stop hooks around its service.

    Raises `PluginRegistrationFailed` if it cannot start, `PluginEmpty` if it then has nothing.
    """
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(running(plugin.server))
        except PLUGIN_ERRORS as error:
            raise PluginRegistrationFailed(
                f"The plugin {plugin.name!r} failed to start: {describe(error)}"
            ) from error
        if await is_empty(plugin.server):
            raise PluginEmpty(
                f"The plugin {plugin.name!r} registers no tool, prompt or resource. Decorate a "
                f"function with `@plugin.tool`."
            )
        yield


def _offers(load: Load) -> tuple[list[Plugin], list[Register]]:
    offered = load.offered
    if isinstance(offered, Plugin):
        return [offered], []
    if not isinstance(offered, ModuleType):
        return [], [offered] if callable(offered) else []
    values = list(vars(offered).values())
    plugins = [value for value in values if isinstance(value, Plugin)]
    return list(dict.fromkeys(plugins)), list(dict.fromkeys(_functions(load.source, offered)))


def _functions(source: Source, module: ModuleType) -> Iterator[Register]:
    """Its registering functions; one that was imported from a library is none."""
    root = module.__name__.partition(".")[0]
    for name in ("register", f"register_{source.identifier}"):
        function = getattr(module, name, None)
        if inspect.isfunction(function) and function.__module__.partition(".")[0] == root:
            yield function


def _loaded(plugin: Plugin, source: Source) -> LoadedPlugin:
    return LoadedPlugin(
        name=plugin.name,
        summary=plugin.summary,
        namespace=plugin.namespace,
        version=plugin.version,
        file=source.path,
        server=plugin.server,
    )


async def _run_functions(
    load: Load, functions: list[Register], found: list[LoadedPlugin]
) -> list[LoadedPlugin]:
    """Call the functions: on the module's plugin of the same name if it has one, else on a new."""
    source = load.source
    same = next((plugin for plugin in found if plugin.name == source.name), None)
    if same is None:
        summary = (inspect.getdoc(load.offered) or "").partition("\n\n")[0].replace("\n", " ")
        plugin = Plugin(source.name.replace(" ", "_"), summary)
        same = _loaded(plugin, source)
        found = [*found, same]
    for function in functions:
        await _call(source, function, same.server)
    return found


async def _call(source: Source, function: Register, server: FastMCP[Any]) -> None:
    name, is_async = source.name, inspect.iscoroutinefunction(function)
    try:
        # A plain function may block; a coroutine function may not, by contract.
        outcome = (
            function(server)
            if is_async
            else await in_own_thread(name, lambda: function(server), source.path)
        )
        if inspect.isawaitable(outcome):
            is_async = True
            await outcome
    except PluginError:
        raise
    except PLUGIN_ERRORS as error:
        raise PluginRegistrationFailed(
            f"{'Async registration' if is_async else 'Registration'} failed for {name}: "
            f"{describe(error)}"
        ) from error


def describe(error: BaseException) -> str:
    """An exception of a plugin's own, in one line."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return f"it calls {describe_exit(error)}"
    return f"{type(error).__name__}: {error}"

"""
The FastMCP server behind a plugin: how it is made, what it is guarded against, how it is opened.

Everything that reaches into FastMCP's private side is in this file.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import structlog
from fastmcp import FastMCP
from fastmcp.exceptions import FastMCPError
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from mcp.server.lowlevel import Server

log = structlog.get_logger(__name__)

PLUGIN_ERRORS: Final = (Exception, SystemExit, KeyboardInterrupt)
"""What a plugin's own code may raise. Its `sys.exit` must not be ours."""

Lifespan = Callable[[FastMCP[Any]], AbstractAsyncContextManager[Any]]


class Containment(Middleware):
    """Turns an attempt to end the process into a failed call. The event loop would obey it."""

    async def on_message(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]
    ) -> Any:
        try:
            return await call_next(context)
        except (SystemExit, KeyboardInterrupt) as error:
            plugin = _plugin_of(context)
            log.exception(
                "plugin.exit_contained", plugin=plugin, method=context.method, exc_info=error
            )
            raise FastMCPError(
                f"The plugin {plugin!r} tried to end the program ({describe_exit(error)}) instead "
                f"of answering. Only this call has failed."
            ) from error


def _plugin_of(context: MiddlewareContext[Any]) -> str:
    return context.fastmcp_context.fastmcp.name if context.fastmcp_context is not None else ""


def describe_exit(error: SystemExit | KeyboardInterrupt) -> str:
    """What was raised, as its author would have written it."""
    return f"sys.exit({error.code!r})" if isinstance(error, SystemExit) else "KeyboardInterrupt"


def create_server(
    name: str, summary: str = "", *, version: str | None = None, lifespan: Lifespan | None = None
) -> FastMCP[Any]:
    """An empty server for one plugin. Registering one name twice on it raises `ValueError`."""
    return FastMCP(
        name,
        instructions=summary or None,
        version=version or "0",  # FastMCP would name its own version
        lifespan=lifespan,
        middleware=[Containment()],
        on_duplicate="error",
    )


@asynccontextmanager
async def running(server: FastMCP[Any]) -> AsyncGenerator[Any]:
    """
    Run the server's lifespan and yield its state.

    Whoever enters first starts it, later ones share it. So the plugin host enters before any
    channel is opened, and leaves last.
    """
    core = low_level(server)
    async with core.lifespan(core) as state:
        yield state


def low_level(server: FastMCP[Any]) -> Server[Any]:
    """The SDK's server inside FastMCP, which takes raw requests and has the middleware list."""
    return server._mcp_server  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # no public way


async def is_empty(server: FastMCP[Any]) -> bool:
    """Whether nothing at all has been registered."""
    for listing in (
        server.list_tools,
        server.list_prompts,
        server.list_resources,
        server.list_resource_templates,
    ):
        if await listing():
            return False
    return True

"""
What a plugin author sees.

    from trunkline import Plugin

    plugin = Plugin("clock", summary="Current time in any time zone.")

    @plugin.tool
    def now(zone: str = "UTC") -> str: ...

A plugin has a FastMCP server of its own, and the decorators are FastMCP's: every option they know
works here, and so does `fastmcp.Context` inside a function.
"""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

from fastmcp import FastMCP

from trunkline.errors import PluginError
from trunkline.plugin.server import create_server

Hook = Callable[[], Awaitable[None]]
HookT = TypeVar("HookT", bound=Hook)

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Plugin:
    """A named group of tools, prompts and resources. Making one opens nothing."""

    def __init__(
        self,
        name: str,
        summary: str = "",
        *,
        namespace: str | None = None,
        version: str | None = None,
    ) -> None:
        """
        *name* is what people call the plugin; *summary*, one sentence, tells a model what it is
        for. *namespace* is the prefix of its tools and prompts: None takes the name, "" serves
        them without a prefix.

        Raises `PluginError` if the name cannot be part of a tool's name.
        """
        if not NAME.fullmatch(name):
            raise PluginError(
                f"{name!r} cannot be the name of a plugin. Use up to 64 letters, digits, "
                f"underscores, hyphens and dots, starting with a letter or a digit."
            )
        if namespace and not NAME.fullmatch(namespace):
            raise PluginError(
                f"{namespace!r} cannot be the namespace of the plugin {name!r}. Use letters, "
                f'digits, underscores, hyphens and dots, or "" for none.'
            )
        self.name, self.summary, self.namespace, self.version = name, summary, namespace, version
        self.server: FastMCP[Any] = create_server(
            name, summary, version=version, lifespan=self._lifespan
        )
        """The FastMCP server behind the decorators, for what they do not cover."""

        self.tool = self.server.tool
        self.resource = self.server.resource
        self.prompt = self.server.prompt
        self.completion = self.server.completion
        self._start_hooks: list[Hook] = []
        self._stop_hooks: list[Hook] = []

    def __repr__(self) -> str:
        return f"Plugin({self.name!r})"

    def on_start(self, hook: HookT) -> HookT:
        """Decorator: await *hook* once before the plugin serves. If it raises, the plugin fails."""
        self._start_hooks.append(hook)
        return hook

    def on_stop(self, hook: HookT) -> HookT:
        """Decorator: await *hook* once after the plugin has served its last call."""
        self._stop_hooks.append(hook)
        return hook

    @asynccontextmanager
    async def _lifespan(self, _server: FastMCP[Any]) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for hook in reversed(self._stop_hooks):
                stack.push_async_callback(hook)
            for hook in self._start_hooks:
                await hook()
            yield

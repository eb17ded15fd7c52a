"""Trunkline: many MCP servers and plugins in, one MCP server out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trunkline.plugin.plugin import Plugin

__all__ = ["Plugin", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # A plugin author writes `from trunkline import Plugin`. Importing it here would make every
    # start of the program pay for FastMCP, so it is looked up when it is asked for.
    if name == "Plugin":
        return import_module("trunkline.plugin.plugin").Plugin
    raise AttributeError(f"module 'trunkline' has no attribute {name!r}")

"""
mcp.json: which servers to connect to, and how.

The Claude Desktop form (`{"mcpServers": {name: {...}}}`) plus the keys of DESIGN.md, decision 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Transport = Literal["stdio", "sse", "streamable-http", "memory"]
"""`memory` is a plugin inside this process; mcp.json cannot name it."""
Sharing = Literal["global", "org", "user", "client"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRules:
    """Which of a server's tools are served, and under which names."""

    allow: tuple[str, ...] | None = None
    """Patterns (`fnmatch`) of the tools to serve; None serves all."""

    deny: tuple[str, ...] = ()
    """Patterns of the tools not to serve; wins over `allow`."""

    rename: Mapping[str, str] = field(default_factory=dict)
    """The server's name -> the name to serve it under (the namespace still goes in front)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One server of mcp.json, checked and expanded. Equal configs need no reconnection."""

    name: str
    transport: Transport
    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    url: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    disabled: bool = False
    lazy: bool = False
    """Connect on the first call instead of at the start, once its lists are known."""

    sharing: Sharing = "org"
    timeout: float | None = None
    """Seconds one request may take; None takes the setting's default."""

    idle_timeout: float | None = None
    """Seconds without a request after which the session is closed; None keeps it open."""

    namespace: str | None = None
    """The prefix of its names; None takes the server's name, "" prefixes nothing."""

    tools: ToolRules = field(default_factory=ToolRules)
    org: str | None = None
    """The organisation it belongs to; None is global."""

    health_url: str | None = None
    position: int = field(default=0, compare=False)
    """Its place in the file: the earlier server keeps a name that two servers want."""

    @property
    def prefix(self) -> str:
        """The namespace in effect."""
        return self.name if self.namespace is None else self.namespace

"""
One server of mcp.json, checked and expanded: all that the rest of Trunkline knows of it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self

from trunkline.downstream.credentials import NOTHING_MAPPED, Credentials, Mapped
from trunkline.downstream.oauth_entry import OAuthConfig
from trunkline.models import ProviderId

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

    risk: Mapping[str, str] = field(default_factory=dict)
    """Patterns -> `LOW`, `MEDIUM` or `HIGH`; the first that fits counts (docs/policy.md)."""

    cache: Mapping[str, float] = field(default_factory=dict)
    """Patterns -> seconds their results are kept; the first that fits counts, 0 is never."""


SERVE_ALL: Final = ToolRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One server of mcp.json. What is equal needs no reconnection; more in `connection_equals`."""

    name: str
    transport: Transport
    command: str | None = None
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    url: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    mapped: Mapped = field(default=NOTHING_MAPPED, repr=False)
    """What of `headers`, `env` and `args` depends on whoever calls. If anything does, sessions are
    personal: each serves those alone whose values it was opened with."""

    oauth: OAuthConfig | None = None
    """How people log in there, each for themselves; None where nobody does."""

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

    health_url: str | None = field(default=None, repr=False)
    guarded: bool = False
    """Whether its URLs were entered by somebody who may not choose freely where they lead."""

    position: int = field(default=0, compare=False)
    """Its place in the file: the earlier server keeps a name that two servers want."""

    @property
    def id(self) -> ProviderId:
        """What no other server has."""
        return ProviderId(self.org, self.name)

    @property
    def prefix(self) -> str:
        """The namespace in effect."""
        return self.name if self.namespace is None else self.namespace

    @property
    def fingerprint(self) -> str:
        """What tells whether this is still the same server, so that its last lists still hold."""
        where = (self.transport, self.command, self.args, self.cwd, self.url)
        told = [str(self.mapped)] if self.mapped else []
        what = json.dumps([where, sorted(self.env.items()), sorted(self.headers.items()), *told])
        return hashlib.sha256(what.encode()).hexdigest()

    def told(self, credentials: Credentials) -> Self:
        """The server as it is for somebody with these credentials."""
        mapped, values = self.mapped, credentials.values
        headers = {name: text.fill(values) for name, text in mapped.headers.items()}
        env = {name: text.fill(values) for name, text in mapped.env.items()}
        args = list(self.args)
        for place, text in mapped.args.items():
            args[place] = text.fill(values)
        return replace(
            self,
            headers={**self.headers, **headers},
            env={**self.env, **env},
            args=tuple(args),
            mapped=NOTHING_MAPPED,
        )

    def connection_equals(self, other: Self) -> bool:
        """Whether a session made for one serves the other: names, rules, rank and timeout aside."""
        return self._connection() == other._connection()

    def _connection(self) -> Self:
        return replace(self, namespace=None, tools=SERVE_ALL, timeout=None)

"""
The words of the design as types: who calls, what is listed, how a server is doing.

Everything that crosses between layers is one of these or a raw JSON object. MCP messages stay raw
(`Json`) from one end to the other: a typed model would drop the fields it does not know, and a
gateway that drops what it does not know breaks whatever comes next.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, NamedTuple, Protocol

Json = dict[str, Any]
"""A JSON object as it stood on the wire."""

Kind = Literal["tools", "prompts", "resources", "templates"]
"""What a provider can list. `templates` are resource templates."""

KINDS: tuple[Kind, ...] = ("tools", "prompts", "resources", "templates")


class Era(StrEnum):
    """Which of the two protocol families a connection speaks (DESIGN.md, "Words")."""

    HANDSHAKE = "handshake"
    """2024-11-05 to 2025-11-25: `initialize`, sessions, server-to-client requests."""

    MODERN = "modern"
    """2026-07-28: stateless, every request carries its own envelope in `_meta`."""


class State(StrEnum):
    """How a downstream is doing, as `check`, the API and the console show it."""

    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    DEGRADED = "DEGRADED"
    """Connected, but a probe or a list failed, or something it offers had to be left out."""
    DISCONNECTED = "DISCONNECTED"
    """Not connected on purpose: disabled, lazy and not yet needed, or stopped when idle."""
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Status:
    """One provider's condition at one moment."""

    state: State
    reason: str = ""
    """One sentence for a person. Empty while all is well."""

    last_error: str | None = None
    next_try: datetime | None = None
    """When the next connection attempt is due, while there is one to wait for."""


class Role(StrEnum):
    """What somebody may do beside using tools. Each may do what the ones before it may."""

    USER = "user"
    """Lists, searches and calls."""

    OPERATOR = "operator"
    """Sees how servers are, connects and disconnects them, decides on approvals and pins."""

    ADMIN = "admin"
    """Adds and removes servers, makes and revokes keys, reads the audit."""

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what *other* may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


@dataclass(frozen=True, slots=True)
class Scope:
    """
    What somebody may see and use, as patterns `server/item` with the wildcards of `fnmatch`.

    Items go by the server's own names and URIs. A pattern without a slash is about a whole server.
    What a *deny* pattern fits is not permitted, whatever *allow* says.
    """

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()

    def permits(self, server: str, item: str) -> bool:
        """Whether an item of a server, by its own name or URI, is within this scope."""
        if self.permits_all:
            return True
        name = f"{server}/{item}"
        return _fits(name, self.allow) and not _fits(name, self.deny)

    def touches(self, server: str) -> bool:
        """Whether anything of a server may be within this scope."""
        return any(fnmatchcase(server, pattern.partition("/")[0]) for pattern in self.allow)

    @property
    def permits_all(self) -> bool:
        """Whether nothing at all is left out."""
        return not self.deny and "*" in self.allow


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """
    Who asks, established before anything else looks at a request.

    The same credential gives the same object for as long as nothing about it changes.
    """

    subject: str
    """How the audit names it: `local`, `key:<id>`, `token:<issuer>#<subject>`."""

    org: str | None
    """The organisation it acts in, by name; None sees only what is global."""

    user: str | None
    """The person behind it, for what belongs to one person alone; None if it is nobody's."""

    role: Role = Role.USER
    scope: Scope = Scope()
    orgs: frozenset[str] = frozenset()
    """The organisations it may switch to."""

    authorization: str | None = field(default=None, repr=False)
    """The `Authorization` header it came with. Passed on only where mcp.json says so."""

    @property
    def is_global(self) -> bool:
        """Whether it may change what belongs to everybody."""
        return self.org is None and self.role is Role.ADMIN

    @property
    def is_local(self) -> bool:
        """Whether it is the one user of this machine, who shares it with nobody."""
        return self.subject in (LOCAL.subject, LOOPBACK.subject)

    @property
    def may_run_commands(self) -> bool:
        """Whether what it adds may reach into this machine: commands, files, the environment."""
        return self.is_global and self.subject != LOOPBACK.subject


PRINCIPAL: Final = "trunkline.principal"
"""Where the scope of an HTTP request has the `Principal` that was established for it."""

LOCAL: Final = Principal(subject="local", org=None, user="local", role=Role.ADMIN)
"""The user of this machine, who may do everything: at stdio and on the command line."""

LOOPBACK: Final = Principal(subject="loopback", org=None, user="local", role=Role.ADMIN)
"""Whoever connects over loopback while no key exists: it may be another user of this machine."""


class ProviderId(NamedTuple):
    """Which provider is meant: two organisations may each have one of the same name."""

    org: str | None
    """The organisation it belongs to; None is global."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Whoever connects to us: one stdio peer, one HTTP session, or one modern request."""

    id: str
    """Unique for the life of the connection; for a modern client, derived from its identity."""

    era: Era
    protocol_version: str
    info: Json = field(default_factory=dict)
    """`clientInfo` as the client sent it."""

    capabilities: Json = field(default_factory=dict)
    """`ClientCapabilities` as the client sent them."""

    principal: Principal

    @property
    def org(self) -> str | None:
        """The organisation it acts in."""
        return self.principal.org

    @property
    def user(self) -> str | None:
        """The person behind it."""
        return self.principal.user


class Caller(Protocol):
    """The client behind one request, and the way back to it while that request runs."""

    @property
    def client(self) -> Client: ...

    @property
    def log_level(self) -> str | None:
        """The lowest level the client wants in `notifications/message`; None if it never said."""
        ...

    @property
    def standing(self) -> "Caller | None":
        """The same client outside of this request, where it can be reached there."""
        ...

    async def ask(self, method: str, params: Json | None) -> Json:
        """Send a server-to-client request (sampling, elicitation, roots) and return its result.

        Raises `RpcError` with the client's own error, or with one that says it cannot be asked.
        """
        ...

    async def tell(self, method: str, params: Json | None) -> None:
        """Send a notification on this request's own stream. Dropped if the client has left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What one provider offers, exactly as it said it, in the order it said it."""

    tools: tuple[Json, ...] = ()
    prompts: tuple[Json, ...] = ()
    resources: tuple[Json, ...] = ()
    templates: tuple[Json, ...] = ()
    instructions: str | None = None
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    server_info: Mapping[str, Any] = field(default_factory=dict)
    ttl_ms: int = 0
    """How long a client may keep these lists: the smallest the provider named, else 0."""

    cache_scope: Literal["public", "private"] = "private"

    def of(self, kind: Kind) -> tuple[Json, ...]:
        """The items of one kind."""
        return getattr(self, kind)


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(
        fnmatchcase(name, pattern if "/" in pattern else f"{pattern}/*") for pattern in patterns
    )

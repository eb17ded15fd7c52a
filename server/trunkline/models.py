"""
The words of the design as types: who calls, what is listed, how a server is doing.

Everything that crosses between layers is one of these or a raw JSON object. MCP messages stay raw
(`Json`) from one end to the other: a typed model would drop the fields it does not know, and a
gateway that drops what it does not know breaks whatever comes next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

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

    org: str | None = None
    user: str | None = None


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

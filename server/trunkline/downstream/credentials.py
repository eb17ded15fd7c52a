"""
What a server is told of whoever calls: references to credentials in mcp.json, and their values.

    "headers": {"Authorization": "Bearer ${user.token:github}"}
    "env":     {"GITHUB_TOKEN": "${user.token:github}"}

Nothing of a client goes to a server unless one of these says so. The references are found when
mcp.json is read, and kept apart from its texts: what an environment variable holds, or `$${`
writes, is never taken for one. For each caller they are replaced by values; a session that was
opened with some values serves nobody who has others.

    ${client.authorization}   the `Authorization` header the client came with
    ${user.token:NAME}        the caller's own token of that name, from the vault
    ${user.name}  ${org.name} who the caller is
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from trunkline.errors import DownstreamError
from trunkline.models import Principal

Kind = Literal["client.authorization", "user.token", "user.login", "user.name", "org.name"]
"""`user.login` is what logging in at that very server brings; texts cannot refer to it."""

PREFIXES: Final = ("client.", "user.", "org.")
"""What a reference begins with that is about whoever calls."""

SALT: Final = secrets.token_bytes(32)
"""Makes digests of credentials useless outside of this process."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One `${...}` about whoever calls."""

    kind: Kind
    name: str = ""
    """Which token, for `user.token`."""

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The reference that *text* is, without `${` and `}`; None if there is none like it."""
        match text.partition(":"):
            case ("client.authorization" | "user.name" | "org.name") as kind, "", _:
                return cls(kind)
            case "user.token", ":", name if name.strip() == name and name.isprintable() and name:
                return cls("user.token", name)
            case _:
                return None

    @property
    def is_token(self) -> bool:
        """Whether it is kept for the caller, who does not say it."""
        return self.kind in ("user.token", "user.login")

    def said_by(self, principal: Principal) -> str | None:
        """What a caller says of itself for it."""
        match self.kind:
            case "client.authorization":
                return principal.authorization
            case "user.name":
                return principal.user
            case "org.name":
                return principal.org
            case _:
                return None

    @property
    def told(self) -> str:
        """What the server is told, to the caller."""
        match self.kind:
            case "client.authorization":
                return "your Authorization header"
            case "user.token":
                return f"your token {self.name!r}"
            case "user.login":
                return "your login"
            case "user.name":
                return "your name"
            case "org.name":
                return "your organisation"

    @property
    def missing(self) -> str:
        """What a caller lacks who has no value for it, and what to do about it."""
        match self.kind:
            case "client.authorization":
                return (
                    "passes your Authorization header on, and you came without one for it. "
                    "Send it, and your Trunkline key as X-API-Key."
                )
            case "user.token":
                return (
                    f"needs your own token {self.name!r}, and there is none that is good now. "
                    f"Sign in to it, or have it set: `trunkline vault set USER {self.name}`."
                )
            case "user.login":
                return "wants everybody to log in for themselves, and you have not. Log in."
            case "user.name":
                return (
                    "has to know who you are, and your credential belongs to no person. "
                    "Use one that does."
                )
            case "org.name":
                return (
                    "has to know your organisation, and your credential belongs to none. "
                    "Use one that does."
                )

    @property
    def wanted(self) -> str:
        """What a caller needs to have."""
        match self.kind:
            case "client.authorization":
                return "an Authorization header"
            case "user.token":
                return f"a token {self.name!r} of their own"
            case "user.login":
                return "a login there"
            case "user.name":
                return "a name"
            case "org.name":
                return "an organisation"

    def __str__(self) -> str:
        return f"${{{self.kind}:{self.name}}}" if self.name else f"${{{self.kind}}}"


@dataclass(frozen=True, slots=True)
class Template:
    """A text of mcp.json with references in it."""

    parts: tuple[str | Reference, ...] = field(repr=False)

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(part for part in self.parts if isinstance(part, Reference))

    def fill(self, values: Mapping[Reference, str]) -> str:
        """The text for somebody whose values these are."""
        return "".join(part if isinstance(part, str) else values[part] for part in self.parts)

    def __str__(self) -> str:
        return "".join(str(part) for part in self.parts)


LOGIN: Final = Template(("Bearer ", Reference("user.login")))
"""The `Authorization` header of a server where everybody logs in for themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """Everything of one server that depends on whoever calls."""

    headers: Mapping[str, Template] = field(default_factory=dict)
    env: Mapping[str, Template] = field(default_factory=dict)
    args: Mapping[int, Template] = field(default_factory=dict)
    """By place."""

    def __bool__(self) -> bool:
        return bool(self.headers or self.env or self.args)

    @property
    def references(self) -> tuple[Reference, ...]:
        """What a caller needs, each once."""
        templates = (*self.headers.values(), *self.env.values(), *self.args.values())
        return tuple(dict.fromkeys(one for each in templates for one in each.references))

    @property
    def needs_user(self) -> bool:
        """Whether it differs from person to person, and not only between organisations."""
        return any(reference.kind != "org.name" for reference in self.references)

    def __str__(self) -> str:
        shown = {"headers": self.headers, "env": self.env, "args": self.args}
        return str(
            {
                key: {str(name): str(text) for name, text in one.items()}
                for key, one in shown.items()
            }
        )


NOTHING_MAPPED: Final = Mapped()


@dataclass(frozen=True, slots=True)
class Credentials:
    """The values of one caller for one server."""

    values: Mapping[Reference, str] = field(repr=False)
    digest: str = field(repr=False)
    """The same for the same values, as long as this process lives."""

    @classmethod
    def of(cls, values: Mapping[Reference, str]) -> Self:
        digest = hashlib.blake2b(key=SALT, digest_size=16)
        for value in values.values():  # in the order of the configuration
            digest.update(b"%d:%b" % (len(value), value.encode("utf-8", "surrogatepass")))
        return cls(values, digest.hexdigest())

    @property
    def secrets(self) -> list[str]:
        """Those of the values that must be shown nowhere."""
        secret = ("client.authorization", "user.token", "user.login")
        return [value for one, value in self.values.items() if one.kind in secret]


class CredentialMissing(DownstreamError):
    """A server needs something of the caller that the caller does not have. Nothing was sent."""

    code = "credential_missing"

    def __init__(self, server: str, reference: Reference) -> None:
        super().__init__(server, f"The server {server!r} {reference.missing}")
        self.reference = reference


class CredentialRefused(DownstreamError):
    """A server does not take what it was told of the caller (HTTP 401)."""

    code = "credential_refused"

    def __init__(self, server: str, credentials: Credentials, challenge: str | None) -> None:
        told = " and ".join(reference.told for reference in credentials.values)
        super().__init__(
            server,
            f"The server {server!r} refused {told} (401). Sign in again, or have it set anew.",
        )
        self.credentials = credentials
        self.challenge = challenge
        """The server's `WWW-Authenticate` header."""

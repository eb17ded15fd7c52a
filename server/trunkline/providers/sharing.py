"""
Who shares a session of a server, and what the server is told of them.

A scope says whose session it is (`sharing` in mcp.json). Within a scope, a session serves one era
and, where sessions are cheap, one set of client capabilities.
"""

from dataclasses import dataclass
from socket import gethostname
from typing import Any, Final
from urllib.parse import quote, urlsplit
from uuid import uuid4

from trunkline import __version__
from trunkline.downstream.config import ServerConfig
from trunkline.downstream.era import Identity
from trunkline.downstream.pool import SessionKey
from trunkline.models import Client, Era, Json
from trunkline.wire import encode

EVERYTHING: Final[Json] = {
    "roots": {"listChanged": True},
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
}
"""What a shared session declares: all that some client may be able to do. A client that cannot is
asked nothing; the server gets the error that client would have given."""

OURSELVES: Final[Json] = {"name": "trunkline", "title": "Trunkline", "version": __version__}


@dataclass(frozen=True, slots=True)
class ResultScope:
    """Whose a result is, within an organisation."""

    name: str
    """The same where the same credentials of the same server are used."""

    personal: bool
    """Whether nobody but one user asks under that name."""


class Sharing:
    """The rules for one server, and what has been learned of the eras it speaks."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._place = _place(config)
        self._only: Client | None = None
        self._eras: dict[Era, Era] = {}
        """Preferred era -> the one the server turned out to speak."""

    def belong_to(self, client: Client) -> None:
        """There will never be another client than this one."""
        self._only = client

    def era_for(self, preferred: Era) -> Era:
        """In which era a client that prefers *preferred* is served, as far as is known."""
        return self._eras.get(preferred, preferred)

    def learn(self, preferred: Era, spoken: Era) -> None:
        """The server has answered: asked in one era, it speaks *spoken*."""
        self._eras[preferred] = spoken
        if preferred is Era.MODERN and spoken is Era.HANDSHAKE:
            self._eras[Era.HANDSHAKE] = Era.HANDSHAKE

    def is_modern(self) -> bool:
        """Whether the server is known to speak the modern era."""
        return self._eras.get(Era.MODERN) is Era.MODERN

    def for_lists(self) -> tuple[SessionKey, Identity]:
        """The session that keeps the lists: the only client's, or one for everybody."""
        if self._only is not None:
            return self.for_client(self._only)
        org = quote(self._config.org or "", safe="")
        scope = f"org:{org}" if self._config.sharing == "org" else "global"
        identity = Identity(info=OURSELVES, capabilities=EVERYTHING)
        return SessionKey(scope, Era.MODERN, _canonical(EVERYTHING)), identity

    def for_client(self, client: Client) -> tuple[SessionKey, Identity]:
        """
        The session that serves a client.

        Over HTTP a session costs a request, so each set of capabilities has its own and is told
        the truth. A stdio session costs a process: it is shared by all clients of its scope.
        """
        era = self.era_for(client.era)
        scope = self._scope(client, era)
        if scope.startswith("client:"):
            identity = Identity(info=client.info or OURSELVES, capabilities=client.capabilities)
        else:
            exact = self._config.transport != "stdio" or self._config.sharing == "user"
            told = client.capabilities if exact and era is Era.HANDSHAKE else EVERYTHING
            identity = Identity(info=OURSELVES, capabilities=told)
        return SessionKey(scope, era, _canonical(identity.capabilities)), identity

    def result_scope(self, client: Client, credentials: str = "") -> ResultScope | None:
        """
        Who may be given a result that this client got; None for nobody. *credentials* is the digest
        of what the server is told of it, "" if that cannot be said.

        The configuration, which has the credentials, is part of it: another process may have
        another server of that name. What runs in or under this process is its own, and what is on
        this machine is the machine's. What one client's own session says is nobody else's.
        """
        server = f"{self._place}:{self._config.fingerprint}"
        if self._config.mapped:
            return self._personal_scope(server, client, credentials)
        match self._config.sharing:
            case "global" | "org":
                return ResultScope(server, personal=False)
            case "user" if client.user is not None:
                return ResultScope(f"{server}:{client.user}", personal=True)
            case _:
                return None

    def _personal_scope(self, server: str, client: Client, credentials: str) -> ResultScope | None:
        """The same where the server is told of callers: good for these credentials alone."""
        if not credentials or self._config.sharing == "client":
            return None
        scope = self._scope(client, Era.MODERN)
        return ResultScope(
            f"{server}:{scope}:{credentials}", personal=self._config.sharing != "org"
        )

    def _scope(self, client: Client, era: Era) -> str:
        if self._only is not None:
            return "client:only"
        org = quote(client.org or "", safe="")
        match self._config.sharing:
            case "global":
                return "global"
            case "org":
                return f"org:{org}"
            case "client" if era is Era.HANDSHAKE:
                return f"client:{client.id}"
            case _ if client.user is not None:
                return f"user:{org}:{quote(client.user, safe='')}"
            case _:
                return f"subject:{org}:{quote(client.principal.subject, safe='')}"


def _place(config: ServerConfig) -> str:
    """From where a server of that configuration is the same one."""
    if config.url is None:
        return uuid4().hex
    host = urlsplit(config.url).hostname or ""
    is_here = host == "localhost" or host == "::1" or host.startswith("127.")
    return gethostname() if is_here else ""


def _canonical(value: Any) -> str:
    return encode(_sorted(value)).decode()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value

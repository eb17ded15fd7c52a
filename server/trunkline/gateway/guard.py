"""
What every HTTP request must pass before anything looks at it: Host, Origin, site, size.

A web page can make a browser send requests to a server on the same machine, and with DNS rebinding
even read the answers. The `Host` and `Origin` headers give such a page away, so both are checked
for every route, whoever serves it. Origins that pass may read the answers as well (CORS), but not
with a cookie: that is for our own pages alone.
"""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline.gateway.messages import encode_error
from trunkline.settings import HttpSettings
from trunkline.wire import INVALID_REQUEST

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""What changes nothing (RFC 9110, 9.2.1)."""

_PORTS = {"http": 80, "https": 443}
_READ = frozenset({b"host", b"origin", b"cookie", b"sec-fetch-site"})
_SIZES = frozenset({b"content-length", b"transfer-encoding"})


def guard(settings: HttpSettings, identity: Callable[[ASGIApp], ASGIApp]) -> list[Middleware]:
    """The checks as middleware, outermost first. Where *identity* refuses, no body is read."""
    return [
        Middleware(
            OriginGuard,
            hosts=(*settings.allowed_hosts, settings.host),
            origins=settings.allowed_origins,
        ),
        Middleware(identity),
        Middleware(BodyLimit, limit=settings.max_body),
    ]


def refuse(status: int, sentence: str, *, code: int = INVALID_REQUEST) -> Response:
    """An error answer to an HTTP request that never became an MCP request."""
    return Response(encode_error(code, sentence), status, media_type="application/json")


class OriginGuard:
    """
    Refuses requests that name a host we are not, or come from a web page we do not know.

    Accepted hosts are the loopback names, the address the connection came in on, and *hosts*.
    Accepted origins are *origins*, the host itself, and any loopback origin when the host is a
    loopback name. Both lists may hold patterns (`*.example.com`, `https://*.example.com`).
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self.app = app
        # Only requests whose origin has passed get there, so any origin that does may read.
        self._cors = CORSMiddleware(
            app,
            allow_origin_regex=".*",
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["*"],
            expose_headers=["Mcp-Session-Id", "WWW-Authenticate"],
        )
        self._hosts = [_host_name(host) for host in hosts]
        self._origins = [origin.lower().rstrip("/") for origin in origins]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = _headers(scope, _READ)
        next_app = self.app if "origin" not in headers else self._cors
        await (self._refuse(headers, scope) or next_app)(scope, receive, send)

    def _refuse(self, headers: Mapping[str, str], scope: Scope) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._accepts_host(_host_name(host), scope):
            return refuse(
                421,
                f"Requests for the host {host!r} are not accepted here. If this server is meant, "
                "add the name to TRUNKLINE_HTTP__ALLOWED_HOSTS.",
            )
        if origin is not None and not self._accepts_origin(origin.lower(), host.lower()):
            return refuse(
                403,
                f"Requests from web pages of {origin!r} are not accepted here. If that page is "
                "yours, add its origin to TRUNKLINE_HTTP__ALLOWED_ORIGINS.",
            )
        if "cookie" in headers and scope["method"] not in SAFE_METHODS and is_cross_site(headers):
            return refuse(
                403,
                "A page of another site cannot use what you signed in to here. Do it on a page of "
                "this server, or send a key in the Authorization header and no cookie.",
            )
        return None

    def _accepts_host(self, name: str, scope: Scope) -> bool:
        if name in LOOPBACK_NAMES:
            return True
        server = scope.get("server")
        if server and name == server[0]:
            return True
        return bool(name) and any(fnmatchcase(name, pattern) for pattern in self._hosts)

    def _accepts_origin(self, origin: str, host: str) -> bool:
        if any(fnmatchcase(origin, pattern) for pattern in self._origins):
            return True
        name = urlsplit(origin).hostname if _is_origin(origin) else None
        if name and _is_loopback(name) and _is_loopback(_host_name(host)):
            return True
        return _is_same(origin, host)


class BodyLimit:
    """
    Answers 413 to a request whose body is larger than *limit* bytes, before anyone reads it.

    A client that leaves before its body has come is not answered, and that is no error.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self.app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = _headers(scope, _SIZES)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limit:
            await self._refuse(scope, receive, send)
            return
        try:
            if "transfer-encoding" in headers:
                await self._count(scope, receive, send)
            else:
                await self.app(scope, receive, send)
        except ClientDisconnect:
            pass

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A chunked body names no length: read it as far as it may go, then hand it on."""
        body = bytearray()
        complete = False
        while not complete:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client has left
            body += message.get("body", b"")
            if len(body) > self._limit:
                await self._refuse(scope, receive, send)
                return
            complete = not message.get("more_body", False)
        whole: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def replay() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        sentence = (
            f"The request body is larger than the {self._limit} bytes accepted here "
            "(TRUNKLINE_HTTP__MAX_BODY)."
        )
        await refuse(413, sentence)(scope, receive, send)


def is_cross_site(headers: Mapping[str, str]) -> bool:
    """
    Whether a request was sent by a page that is not this server's own.

    Browsers say so in `Sec-Fetch-Site`, and the older ones in `Origin`. What says neither is no
    browser, and nobody's page can have made it send anything (the reasoning of Go's
    `http.CrossOriginProtection`).
    """
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and not _is_same(origin.lower(), headers.get("host", "").lower())


def _headers(scope: Scope, wanted: frozenset[bytes]) -> dict[str, str]:
    """Some headers of a request; the first of each counts, as it does for Starlette."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in reversed(scope["headers"])
        if name in wanted
    }


def _is_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        return parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_same(origin: str, host: str) -> bool:
    """Whether an origin is this server. TLS may end in front of us: the scheme says nothing."""
    if not _is_origin(origin):
        return False
    parts = urlsplit(origin)
    default = _PORTS[parts.scheme]
    ours = (_host_name(host), _port(host) or default)
    return (parts.hostname, parts.port or default) == ours


def _host_name(host: str) -> str:
    """The name in a `Host` header or setting: lower case, without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    # A bare IPv6 address has several colons and no port.
    return host.partition(":")[0] if host.count(":") == 1 else host


def _port(host: str) -> int | None:
    port = host.rpartition("]")[2].rpartition(":")[2]
    return int(port) if port.isdecimal() and ":" in host.rpartition("]")[2] else None


def _is_loopback(name: str) -> bool:
    if name in LOOPBACK_NAMES:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False

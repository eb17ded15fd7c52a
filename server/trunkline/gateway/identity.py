"""
Whose request it is: established behind the Host and Origin checks and before everything else.

Every route asks, whoever serves it, but for those that a load balancer looks at and those that say
where tokens are to be had. What is found out stands in the request's scope, and standing streams
end with the credential that opened them.
"""

import re
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import anyio
import structlog
from mcp_types import ErrorData, JSONRPCError
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from trunkline.models import LOOPBACK, PRINCIPAL, Principal
from trunkline.security.identity.credentials import (
    Credential,
    CredentialExpired,
    CredentialInvalid,
    CredentialMisplaced,
    CredentialMissing,
    HeaderRepeated,
    OrgRefused,
    Refused,
    ScopeInsufficient,
    TooManyFailures,
)
from trunkline.security.identity.identities import Identities
from trunkline.security.identity.keys import PREFIX
from trunkline.settings import AuthSettings
from trunkline.wire import INTERNAL_ERROR, INVALID_REQUEST

log: Any = structlog.get_logger(__name__)

API: Final = "/api/"
"""Where the REST API is, which has a form of its own for what goes wrong."""

CREDENTIAL: Final = "trunkline.credential"
"""Where a request's scope has the `Credential` that it came with."""

OPEN: Final = ("/health", "/ready", "/.well-known/")
"""Paths that answer anybody. One that ends with a slash stands for all that begin with it."""

METADATA: Final = "/.well-known/oauth-protected-resource"

IN_URL: Final = re.compile(
    rb"(?i)(^|&)(access_token|api[_-]?key|authorization|token)=|tk_[a-z0-9]{12}_"
)
"""A credential in a query string."""

REFUSALS: Final = Counter(
    "trunkline_refusals", "HTTP requests that were not let in, by the code of the error", ["code"]
)

Owner = tuple[str, str | None]
"""Whom a session belongs to: a subject, in an organisation."""

OnRefused = Callable[[str, Principal | None, str, str], None]
"""Told of a refusal: its code, who it was if that is known, the sentence, the remote address."""


CLAIMS: Final = (
    CredentialInvalid,
    CredentialExpired,
    CredentialMisplaced,
    ScopeInsufficient,
)
"""Refusals of somebody who claimed to be let in. Who shows nothing has claimed nothing, and who
fails too often was told of before."""


class Identify(Protocol):
    """How an application finds out who asks: the layer that does, and the routes it needs."""

    @property
    def routes(self) -> Sequence[BaseRoute]: ...

    def __call__(self, app: ASGIApp) -> ASGIApp: ...


class Identity:
    """Asks for keys and tokens, and says where tokens are to be had."""

    def __init__(
        self,
        identities: Identities,
        settings: AuthSettings,
        *,
        on_refused: OnRefused | None = None,
        open_paths: Sequence[str] = (),
    ) -> None:
        """*open_paths* are further ones that answer anybody, written like those of `OPEN`."""
        self._identities, self._on_refused = identities, on_refused or _ignore
        paths = (*OPEN, *open_paths)
        self._open = frozenset(path for path in paths if not path.endswith("/"))
        self._open_below = tuple(path for path in paths if path.endswith("/"))
        self._challenges = _Challenges(settings)
        self.routes = self._challenges.routes

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def identified(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or self._is_open(scope["path"]):
                await app(scope, receive, send)
                return
            try:
                await self._establish(scope)
            except Refused as error:
                await self._refuse(error, scope)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return identified

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(self._open_below)

    async def _establish(self, scope: Scope) -> None:
        address = _address(scope)
        if (query := scope["query_string"]) and IN_URL.search(query):
            self._identities.note_failure(address)
            raise CredentialMisplaced
        shown = _shown(scope)
        credential = await self._identities.identify(shown.secret, address=address)
        try:
            scope[PRINCIPAL] = credential.acting(shown.org, shown.authorization)
        except OrgRefused as error:
            self._on_refused(error.code, credential.principal, str(error), address or "")
            raise
        scope[CREDENTIAL] = credential

    def _refuse(self, error: Refused, scope: Scope) -> Response:
        REFUSALS.labels(error.code).inc()
        if isinstance(error, CLAIMS):
            address = _address(scope) or ""
            log.info("request.refused", code=error.code, address=address)
            self._on_refused(error.code, None, str(error), address)
        return answer(error, scope["path"], self._challenges.headers(error, scope))


class LocalOnly:
    """Everybody is the user of this machine. For applications that nobody else can reach."""

    routes: Sequence[BaseRoute] = ()

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def local(scope: Scope, receive: Receive, send: Send) -> None:
            scope[PRINCIPAL] = LOOPBACK
            await app(scope, receive, send)

        return local


LOCAL_ONLY: Final = LocalOnly()


def owner_of(scope: Scope) -> Owner:
    """Whom a session belongs to that this request opens, or who may use it."""
    principal: Principal = scope[PRINCIPAL]
    return principal.subject, principal.org


@contextmanager
def while_identified(scope: Scope) -> Generator[None]:
    """Run the body for as long as the credential is good that the request came with."""
    credential: Credential | None = scope.get(CREDENTIAL)
    if credential is None:
        yield
        return
    with anyio.CancelScope() as body:

        def look() -> None:
            if credential.is_over:
                body.cancel()
            else:
                body.deadline = anyio.current_time() + credential.expires_at - time.time()

        with credential.watching(look):
            yield


def answer(error: Refused, path: str, headers: dict[str, str]) -> Response:
    """
    A refusal as an HTTP answer, in the words of whoever answers at that path.

    The API speaks RFC 9457; to everybody else it is a JSON-RPC error, its code in `data.code`.
    """
    if path.startswith(API):
        problem = {
            "type": "about:blank",
            "title": HTTPStatus(error.status).phrase,
            "status": error.status,
            "detail": str(error),
            "code": error.code,
        }
        return JSONResponse(problem, error.status, headers, media_type="application/problem+json")
    rpc_code = INVALID_REQUEST if error.status < 500 else INTERNAL_ERROR
    said = ErrorData(code=rpc_code, message=str(error), data={"code": error.code})
    body = JSONRPCError(jsonrpc="2.0", id=None, error=said).model_dump_json(exclude_unset=True)
    return Response(body, error.status, headers, media_type="application/json")


@dataclass(slots=True)
class _Shown:
    """What the headers of a request say of who sends it."""

    secret: str | None
    """A key or a token."""

    org: str | None
    authorization: str | None
    """The header as it may be passed on."""


def _shown(scope: Scope) -> _Shown:
    authorization = api_key = org = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = _once(authorization, value, "Authorization")
        elif name == b"x-api-key":
            api_key = _once(api_key, value, "X-API-Key")
        elif name == b"x-organization-id":
            org = _once(org, value, "X-Organization-Id")
    scheme, _, bearer = (authorization or "").partition(" ")
    bearer = bearer.strip() if scheme.lower() == "bearer" else ""
    if api_key and not api_key.startswith(PREFIX):
        api_key = PREFIX + api_key  # it is no key, and refused as one
    if bearer:
        # A key of ours is for nobody else.
        authorization = None if bearer.startswith(PREFIX) else f"Bearer {bearer}"
    org = None if org is None else org.encode("latin-1").decode(errors="replace")
    return _Shown(api_key or bearer or None, org, authorization)


def _once(before: str | None, value: bytes, header: str) -> str:
    if before is not None:
        raise HeaderRepeated(header)
    return value.decode("latin-1").strip()


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def _ignore(*_: object) -> None:
    pass


class _Challenges:
    """
    What a client is told that has to come with something else.

    RFC 6750 for the header, RFC 9728 for the metadata it points to, and MCP for what a client makes
    of both (basic/authorization).
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._resource = settings.resource
        self._servers = settings.authorization_servers
        scopes = (scope for issuer in settings.tokens for scope in issuer.required_scopes)
        self._scopes = list(dict.fromkeys(scopes))
        self.routes: list[BaseRoute] = []
        if self._servers:
            self.routes = [
                Route(METADATA, self._metadata),
                Route(METADATA + "/{path:path}", self._metadata),
            ]

    def headers(self, error: Refused, scope: Scope) -> dict[str, str]:
        """The headers of a refusal."""
        headers = {"cache-control": "no-store"}
        if isinstance(error, TooManyFailures):
            headers["retry-after"] = str(error.retry_after)
        elif error.status < 500 and not isinstance(error, OrgRefused):
            headers["www-authenticate"] = self._challenge(error, scope)
        return headers

    def _challenge(self, error: Refused, scope: Scope) -> str:
        said = {"realm": "trunkline"}
        if self._servers:
            said["resource_metadata"] = self._metadata_url(scope)
        if self._scopes and error.status != 400:
            said["scope"] = " ".join(self._scopes)
        # Nothing is wrong with a request that shows nothing (RFC 6750, 3.1).
        if (kind := _kind(error)) is not None:
            said |= {"error": kind, "error_description": _quotable(str(error))}
        return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items())

    def _metadata_url(self, scope: Scope) -> str:
        resource = urlsplit(self._resource_url(scope))
        return f"{resource.scheme}://{resource.netloc}{METADATA}{resource.path}"

    def _resource_url(self, scope: Scope) -> str:
        if self._resource is not None:
            return self._resource
        url = Request(scope).url
        return f"{url.scheme}://{url.netloc}/mcp"

    async def _metadata(self, request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "resource": self._resource_url(request.scope),
                "authorization_servers": list(self._servers),
                "scopes_supported": self._scopes,
                "bearer_methods_supported": ["header"],
                "resource_name": "Trunkline",
            },
            headers={"cache-control": "no-store"},
        )


def _kind(error: Refused) -> str | None:
    """The error code of RFC 6750; None if there is none to tell."""
    match error:
        case CredentialInvalid() | CredentialExpired():
            return "invalid_token"
        case ScopeInsufficient():
            return "insufficient_scope"
        case CredentialMissing():
            return None
        case _:
            return "invalid_request"


def _quotable(sentence: str) -> str:
    """A sentence as a quoted string of a header takes it."""
    return re.sub(r"[^ !#-\[\]-~]", "'", sentence)

"""
A small OAuth 2.1 authorization server, and an MCP server that takes its tokens, on one port.

    async with authorization_server() as site:
        ...site.mcp...               the MCP server: 401 without a token of its own
        site.faults.token_status = 500

Metadata (RFC 9728, 8414), registration (7591), PKCE (7636), resource indicators (8707), `iss`
(9207), and refresh tokens that are good once: one that comes again takes everything back. Whoever
comes to /authorize is let in without being asked.
"""

import asyncio
import base64
import hashlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from trunkline.gateway.http import base_url, listen


@dataclass
class Faults:
    """What is wrong with the site. By default nothing is."""

    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    """Members of the authorization server's metadata that are different; None is not there."""

    resource: dict[str, Any] = field(default_factory=dict[str, Any])
    """Members of the protected resource's metadata that are different."""

    iss: str | None = ""
    """What it calls itself in responses; "" is its issuer, None does not say."""

    deny: bool = False
    token_status: int | None = None
    """What the token endpoint answers instead of doing its work."""

    token_failures: int = 10**6
    """How often it does that."""

    token_html: bool = False
    token_gate: asyncio.Event | None = None
    """What the token endpoint waits for before it answers."""

    token: dict[str, Any] = field(default_factory=dict[str, Any])
    """Members of its answers that are different; None is not there."""

    refuses_tokens: bool = False
    needed_scope: str | None = None
    """What a 403 asks for from whoever has no such scope."""

    challenges: bool = True
    """Whether a 401 names the metadata."""


@dataclass
class Grant:
    """What somebody has allowed."""

    client_id: str
    resource: str
    scope: str
    challenge: str = ""
    redirect_uri: str = ""
    is_revoked: bool = False


class Site:
    """The two servers. `url` is the origin of both, and the issuer."""

    def __init__(self) -> None:
        self.url = ""
        self.faults = Faults()
        self.expires_in: int | None = 3600
        self.clients: dict[str, dict[str, Any]] = {}
        self.codes: dict[str, Grant] = {}
        self.access: dict[str, tuple[Grant, float]] = {}
        self.refresh: dict[str, Grant] = {}
        self.spent: dict[str, Grant] = {}
        self.counts: Counter[str] = Counter()
        """Requests by kind: `register`, `authorization_code`, `refresh_token`, `mcp`, and so on."""

        self.bodies: list[dict[str, str]] = []
        """What the token endpoint was sent."""

    @property
    def mcp(self) -> str:
        return f"{self.url}/mcp"

    def app(self) -> ASGIApp:
        return Starlette(
            routes=[
                Route("/.well-known/oauth-protected-resource/mcp", self._resource),
                Route("/.well-known/oauth-authorization-server", self._metadata),
                Route("/register", self._register, methods=["POST"]),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/mcp", self._mcp, methods=["GET", "POST", "DELETE"]),
            ]
        )

    def expire(self) -> None:
        """Let every access token end that was given out."""
        self.access = {token: (grant, 0.0) for token, (grant, _) in self.access.items()}

    def revoke(self) -> None:
        """Take everything back."""
        self.access.clear()
        self.refresh.clear()

    async def _resource(self, _: Request) -> Response:
        self.counts["resource_metadata"] += 1
        body = {"resource": self.mcp, "authorization_servers": [self.url]}
        return JSONResponse(_changed(body, self.faults.resource))

    async def _metadata(self, _: Request) -> Response:
        self.counts["metadata"] += 1
        body: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?tenant=one",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(_changed(body, self.faults.metadata))

    async def _register(self, request: Request) -> Response:
        self.counts["register"] += 1
        wanted = await request.json()
        client_id = f"client-{secrets.token_hex(4)}"
        made = {**wanted, "client_id": client_id}
        if wanted.get("token_endpoint_auth_method") != "none":
            made["client_secret"] = f"secret-{secrets.token_hex(8)}"
        self.clients[client_id] = made
        return JSONResponse(made, 201)

    async def _authorize(self, request: Request) -> Response:
        self.counts["authorize"] += 1
        query = request.query_params
        client = self.clients.get(query.get("client_id", ""))
        if client is None or query.get("redirect_uri") not in client["redirect_uris"]:
            return HTMLResponse("Unknown client.", 400)
        if query.get("code_challenge_method") != "S256" or query.get("tenant") != "one":
            return HTMLResponse("Bad request.", 400)
        code = secrets.token_urlsafe(16)
        grant = Grant(query["client_id"], query.get("resource", ""), query.get("scope", ""))
        grant.challenge, grant.redirect_uri = query["code_challenge"], query["redirect_uri"]
        self.codes[code] = grant
        answer = {"error": "access_denied"} if self.faults.deny else {"code": code}
        iss = self.url if self.faults.iss == "" else self.faults.iss
        answer |= {"state": query["state"]} | ({"iss": iss} if iss else {})
        target = request.url.__class__(query["redirect_uri"]).include_query_params(**answer)
        return RedirectResponse(str(target), 302)

    async def _token(self, request: Request) -> Response:
        form = {key: str(value) for key, value in (await request.form()).items()}
        self.bodies.append(form)
        self.counts[form.get("grant_type", "")] += 1
        if self.faults.token_gate is not None:
            await self.faults.token_gate.wait()
        if self.faults.token_html:
            return HTMLResponse("<h1>Welcome</h1>")
        if self.faults.token_status is not None and self.faults.token_failures > 0:
            self.faults.token_failures -= 1
            return JSONResponse({}, self.faults.token_status)
        if not self._is_known(request, form):
            return JSONResponse({"error": "invalid_client"}, 401)
        grant = self._redeem(form)
        if grant is None:
            said = f"No good: {form.get('refresh_token', '')}"
            return JSONResponse({"error": "invalid_grant", "error_description": said}, 400)
        return JSONResponse(_changed(self.issue(grant), self.faults.token))

    def _is_known(self, request: Request, form: dict[str, str]) -> bool:
        header = request.headers.get("authorization", "")
        if header.startswith("Basic "):
            raw = base64.b64decode(header.removeprefix("Basic ")).decode()
            client_id, secret = (unquote_plus(part) for part in raw.split(":", 1))
            form["client_id"] = client_id
            return self.clients.get(client_id, {}).get("client_secret") == secret
        client = self.clients.get(form.get("client_id", ""))
        return client is not None and "client_secret" not in client

    def _redeem(self, form: dict[str, str]) -> Grant | None:
        if form["grant_type"] == "authorization_code":
            grant = self.codes.pop(form.get("code", ""), None)
            verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
            proof = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
            good = grant is not None and grant.challenge == proof
            good = good and grant is not None and grant.redirect_uri == form.get("redirect_uri")
        else:
            token = form.get("refresh_token", "")
            if (thief := self.spent.get(token)) is not None:
                thief.is_revoked = True
                self.counts["reuse"] += 1
            grant = self.refresh.pop(token, None)
            good = grant is not None and not grant.is_revoked
            if grant is not None:
                self.spent[token] = grant
        if grant is None or not good or grant.client_id != form.get("client_id"):
            return None
        return grant if form.get("resource") == grant.resource == self.mcp else None

    def issue(self, grant: Grant) -> dict[str, Any]:
        """Give out tokens."""
        access, again = f"at-{secrets.token_urlsafe(18)}", f"rt-{secrets.token_urlsafe(18)}"
        ends = float("inf") if self.expires_in is None else time.time() + self.expires_in
        self.access[access], self.refresh[again] = (grant, ends), grant
        answer = {"access_token": access, "token_type": "bearer", "refresh_token": again}
        if grant.scope:
            answer["scope"] = grant.scope
        return answer | ({} if self.expires_in is None else {"expires_in": self.expires_in})

    async def _mcp(self, request: Request) -> Response:
        self.counts["mcp"] += 1
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        grant, ends = self.access.get(token, (None, 0.0))
        good = grant is not None and not grant.is_revoked and ends > time.time()
        if not good or self.faults.refuses_tokens:
            place = f"{self.url}/.well-known/oauth-protected-resource/mcp"
            challenge = f'Bearer error="invalid_token", resource_metadata="{place}"'
            named = {"WWW-Authenticate": challenge if self.faults.challenges else "Bearer"}
            return JSONResponse({"error": "invalid_token"}, 401, headers=named)
        if request.method != "POST":
            return Response(status_code=405)
        needed = self.faults.needed_scope
        if needed is not None and grant is not None and needed not in grant.scope.split():
            challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
            return JSONResponse({}, 403, headers={"WWW-Authenticate": challenge})
        return _answer(await request.json(), token)


def _answer(message: dict[str, Any], token: str) -> Response:
    """A server with one tool, which tells with which token it was called."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    results: dict[str, Any] = {
        "initialize": {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "protected", "version": "1"},
        },
        "ping": {},
        "tools/list": {"tools": [{"name": "whoami", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": digest}]},
    }
    if "id" not in message:
        return Response(status_code=202)
    body = {"jsonrpc": "2.0", "id": message["id"]}
    if message.get("method") in results:
        return JSONResponse(body | {"result": results[message["method"]]})
    return JSONResponse(body | {"error": {"code": -32601, "message": "No such method."}})


def _changed(body: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (body | changes).items() if value is not None}


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to whoever runs the tests."""
        yield


@asynccontextmanager
async def hosted(app: ASGIApp) -> AsyncGenerator[str]:
    """An application on a free loopback port; its origin."""
    listeners = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(listeners))
        try:
            yield base_url("127.0.0.1", listeners[0].getsockname()[1])
        finally:
            server.should_exit = True


@asynccontextmanager
async def authorization_server() -> AsyncGenerator[Site]:
    """The two servers, for the life of the block."""
    site = Site()
    async with hosted(site.app()) as site.url:
        yield site

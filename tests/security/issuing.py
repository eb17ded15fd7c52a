"""An issuer of tokens in the test's own process, which can be asked as well, and can be away."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwk, jwt
from joserfc.jws import JWSRegistry

from tests.servers.raw_http import Reply, Request, serve
from trunkline.settings import TokenSettings

ISSUER = "https://issuer.example"
AUDIENCE = "https://mcp.example.com/mcp"

ALGORITHMS = ["RS256", "RS384", "PS256", "ES256", "HS256", "HS512", "none"]


_numbers = count()


@cache
def _material(_: int) -> dict[str, Any]:
    return dict(jwk.RSAKey.generate_key(2048, private=True).as_dict(private=True))


def make_key(kid: str = "first") -> jwk.RSAKey:
    """Another key than the last few: making new ones takes longer than the tests."""
    return jwk.RSAKey.import_key({**_material(next(_numbers) % 4), "kid": kid})


def claims(**other: Any) -> dict[str, Any]:
    """What a good token says; None leaves a claim out."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 600, **other}
    return {name: value for name, value in said.items() if value is not None}


def sign(key: Any, said: dict[str, Any], *, alg: str = "RS256", **header: Any) -> str:
    """A token. An `alg` of none has no signature."""
    head = {"alg": alg, **({"kid": key.kid} if getattr(key, "kid", None) else {}), **header}
    if alg == "none":
        return f"{encoded(head)}.{encoded(said)}."
    registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    return jwt.encode(head, said, key, ALGORITHMS, registry)


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@dataclass
class IssuerUnderTest:
    """What the issuer offers, and what it was asked."""

    key: jwk.RSAKey = field(default_factory=make_key)
    others: list[Any] = field(default_factory=list[Any])
    """Further keys that are listed."""

    active: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """What is said of an opaque token."""

    url: str = ""
    status: int = 200
    held: asyncio.Event | None = None
    """While there is one that is not set, nothing is answered."""

    asked: list[Request] = field(default_factory=list[Request])

    def token(self, **said: Any) -> str:
        return sign(self.key, claims(**said))

    def settings(self, **other: Any) -> TokenSettings:
        described = {
            "issuer": ISSUER,
            "audience": (AUDIENCE,),
            "jwks_url": f"{self.url}/jwks",
            "timeout": 1.0,
        }
        return TokenSettings.model_validate(described | other)

    def asked_settings(self, **other: Any) -> TokenSettings:
        return self.settings(
            jwks_url=None,
            introspection_url=f"{self.url}/introspect",
            client_id="trunkline",
            client_secret="hush",
            **other,
        )

    async def answer(self, request: Request, reply: Reply) -> None:
        self.asked.append(request)
        if self.held is not None:
            await self.held.wait()
        if request.path == "/jwks":
            keys = [self.key, *self.others]
            body: Any = {"keys": [key.as_dict(private=False) for key in keys]}
        else:
            token = parse_qs(request.body.decode())["token"][0]
            body = self.active.get(token, {"active": False})
        await reply.json(body, status=self.status)


@asynccontextmanager
async def issuing() -> AsyncGenerator[IssuerUnderTest]:
    issuer = IssuerUnderTest()
    async with serve(issuer.answer) as server:
        issuer.url = server.url.removesuffix("/mcp")
        yield issuer

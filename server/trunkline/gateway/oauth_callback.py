"""
The pages that people see who log in at a server behind us.

    GET  /oauth/start/<link>    who asks, for what; changes nothing, for programs look at links too
    POST /oauth/start/<link>    sets the browser's cookie and sends it to the authorization server
    GET  /oauth/callback        where it comes back to; fetches the token
    GET  /oauth/client.json     what we are, for authorization servers that read it from here

They need no identity, for a browser has none: the link is the secret, it is good for one browser,
and the page says in whose name whoever goes on does so. Plain pages: no scripts, nothing from
elsewhere, nothing that a stranger has written unescaped.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable
from html import escape
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from trunkline.errors import StorageError, TrunklineError
from trunkline.gateway.events import Stopping
from trunkline.gateway.guard import OriginGuard
from trunkline.models import Principal
from trunkline.security.oauth.clients import metadata_document
from trunkline.security.oauth.failures import LoginFailed, OAuthUnavailable
from trunkline.security.oauth.flows import CALLBACK, DOCUMENT, START, Offer
from trunkline.security.oauth.oauth import OAuth

COOKIE: Final = "trunkline-browser"
SAFE_COOKIE: Final = f"__Host-{COOKIE}"
"""Over HTTPS: no other host of the domain can set it (RFC 6265bis, section 4.1.3.2)."""

COOKIE_LIFE: Final = 3600
"""Seconds."""

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:12vh auto;padding:0 1em}"
    "button{font:inherit;padding:.4em 1.2em}code{overflow-wrap:anywhere}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS: Final = {
    # Chromium holds every redirect after a form against `form-action`, and an authorization server
    # may send the browser anywhere; the form itself is ours.
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
        "frame-ancestors 'none'; form-action 'self' https: http://127.0.0.1:* http://localhost:*"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<meta name="referrer" content="same-origin">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""

GONE: Final = (
    "This link is not good any more: it took too long, was used, or was opened in another browser. "
    "Go back to where you got it, and ask again."
)
STRANGER: Final = "This link was made for somebody else. Do not go on with it: ask for your own."

Who = Callable[[Request], Principal | None]
"""As whom a browser is signed in here, where there is a way to."""


def oauth_routes(oauth: OAuth, who: Who = lambda _: None) -> list[BaseRoute]:
    """
    The pages of *oauth*.

    Where *who* knows the person at a browser, it sets out with that person's own links only.
    """
    pages = _Pages(oauth, who)
    return [
        Route(START + "{link}", pages.start, methods=["GET", "POST"]),
        Route(CALLBACK, pages.callback, methods=["GET"]),
        Route(DOCUMENT, pages.document, methods=["GET"]),
    ]


def pages_app(oauth: OAuth) -> Starlette:
    """The pages alone, for `serve_http`."""
    check = Middleware(OriginGuard, hosts=(), origins=())
    app = Starlette(routes=oauth_routes(oauth), middleware=[check])
    app.state.stopping = Stopping()
    return app


class _Pages:
    def __init__(self, oauth: OAuth, who: Who) -> None:
        self._oauth, self._who = oauth, who

    async def start(self, request: Request) -> Response:
        """Show a link's page, or send the browser off."""
        link = request.path_params["link"]
        try:
            offer = await self._oauth.show(link)
            if offer is None:
                return _page("This link is not good any more", GONE, 410)
            if not self._is_theirs(request, offer):
                return _page("Not your link", STRANGER, 403)
            if request.method != "POST":
                return _offer_page(offer)
            browser = _browser_of(request) or secrets.token_urlsafe(32)
            target = await self._oauth.leave(link, browser)
        except TrunklineError as error:
            return _failure(error)
        if target is None:
            return _page("This link is not good any more", GONE, 410)
        return self._send_off(target, browser)

    async def callback(self, request: Request) -> Response:
        """Take a browser back."""
        if request.method == "HEAD":  # a program that looks at links; the person comes with GET
            return Response(status_code=405, headers={"Allow": "GET"})
        pairs = request.query_params.multi_items()
        params = dict(pairs)
        try:
            if len(params) != len(pairs):
                raise LoginFailed("The answer says something twice. Begin the login again.")
            finished = await self._oauth.finish(params, _browser_of(request))
        except TrunklineError as error:
            return _failure(error)
        return _page(
            "You are logged in",
            f"{finished.holder.user} can use the server {finished.server} now. "
            "You can close this window.",
        )

    async def document(self, _: Request) -> Response:
        """What we are (client ID metadata document); only where it can be read from outside."""
        base = (self._oauth.base or "").rstrip("/")
        if not base.startswith("https://"):
            return Response(status_code=404)
        return JSONResponse(metadata_document(base + DOCUMENT, base + CALLBACK))

    def _is_theirs(self, request: Request, offer: Offer) -> bool:
        person = self._who(request)
        return person is None or (person.org, person.user) == (offer.org, offer.user)

    def _send_off(self, target: str, browser: str) -> Response:
        response = RedirectResponse(target, 303, headers=HEADERS)
        is_safe = (self._oauth.base or "").startswith("https://")
        response.set_cookie(
            SAFE_COOKIE if is_safe else COOKIE,
            browser,
            max_age=COOKIE_LIFE,
            path="/",
            secure=is_safe,
            httponly=True,
            samesite="lax",
        )
        return response


def _browser_of(request: Request) -> str | None:
    """What we called this browser when it set out."""
    return request.cookies.get(SAFE_COOKIE) or request.cookies.get(COOKIE) or None


def _offer_page(offer: Offer) -> Response:
    whose = f"{offer.user} of {offer.org}" if offer.org else offer.user
    user, server, site = escape(whose), escape(offer.server), escape(offer.site)
    body = (
        f"<p><b>{user}</b> wants to use the server <b>{server}</b> through Trunkline. "
        f"You go to <code>{site}</code> to log in there.</p>"
        f"<p>Whatever you allow there, <b>{user}</b> can do from then on, in your name. "
        f"If you are not {user}, or did not ask for this just now, close this window.</p>"
        '<form method="post"><button>Continue</button></form>'
    )
    return _html("Log in", body, 200)


def _failure(error: TrunklineError) -> Response:
    away = isinstance(error, StorageError | OAuthUnavailable)
    return _page("You are not logged in", str(error), 503 if away else 400)


def _page(title: str, sentence: str, status: int = 200) -> Response:
    return _html(title, f"<p>{escape(sentence)}</p>", status)


def _html(title: str, body: str, status: int) -> Response:
    page = PAGE.format(title=escape(title), style=STYLE, body=body)
    return HTMLResponse(page, status, headers=HEADERS)

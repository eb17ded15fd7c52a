"""
What can go wrong when somebody logs in at a server behind us, as sentences.

    OAuthError
    ├── OAuthUnavailable     the authorization server does not answer now
    ├── OAuthRefused         it refuses what we ask, and says why
    ├── OAuthInvalid         what it says of itself cannot be used
    ├── LoginRequired        the person has to log in; the sentence says where
    ├── PersonRequired       the caller is no person who could
    └── LoginFailed          the person, or somebody in their place, did not get through

What an authorization server says is repeated short and in one line, for it is shown to people and
models. Tokens, codes and states never are.
"""

import re

from trunkline.errors import TrunklineError

LONGEST_QUOTE = 200
"""Characters of an authorization server's own words that an error repeats."""

_UNSHOWN = re.compile(r"[^\x20-\x7e]+")


class OAuthError(TrunklineError):
    """A login at a server behind us cannot go on."""

    code = "oauth_failed"


class OAuthUnavailable(OAuthError):
    """The authorization server does not answer now; it may again soon."""

    code = "oauth_unavailable"


class OAuthRefused(OAuthError):
    """
    The authorization server refuses what we ask.

    `error` is the code of RFC 6749, section 5.2, or what stands in its place.
    """

    code = "oauth_refused"

    def __init__(self, message: str, *, error: str) -> None:
        super().__init__(message)
        self.error = error


class OAuthInvalid(OAuthError):
    """What a server or its authorization server says of itself cannot be used."""

    code = "oauth_invalid"


class LoginRequired(OAuthError):
    """Somebody has to log in first. `url` is where, if there is a page for it."""

    code = "login_required"

    def __init__(self, server: str, *, url: str | None = None, reason: str = "") -> None:
        why = f"{reason} " if reason else ""
        what = (
            f"Open {url} in a browser and call again."
            if url
            else (f"Run `trunkline login {server}` and call again.")
        )
        super().__init__(f"{why}The server {server!r} wants you to log in. {what}")
        self.server, self.url = server, url


class PersonRequired(OAuthError):
    """Tokens belong to people, and the caller's credential belongs to none."""

    code = "person_required"

    def __init__(self, server: str) -> None:
        super().__init__(
            f"At the server {server!r} people log in, each for themselves, and your credential "
            "belongs to nobody. Use one that belongs to a person."
        )


class LoginFailed(OAuthError):
    """A login was begun and did not get through."""

    code = "login_failed"


def quoted(words: object) -> str:
    """Somebody else's words, fit to be repeated: one line, short, without control characters."""
    text = _UNSHOWN.sub(" ", str(words)).strip()
    return text if len(text) <= LONGEST_QUOTE else f"{text[: LONGEST_QUOTE - 3]}..."

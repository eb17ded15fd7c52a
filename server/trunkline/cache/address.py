"""
REDIS_URL, understood.

    redis://[user:password@]host[:port][/db]           also rediss:// for TLS
    unix://[user:password@]/path/to/socket[?db=1]
    redis+sentinel://host:port,host:port/service[/db]  also rediss+sentinel://
    redis+cluster://host:port,host:port                also rediss+cluster://
"""

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from trunkline.errors import ConfigError

Form = Literal["server", "sentinel", "cluster"]

SCHEMES: Final[dict[str, Form]] = {
    "redis": "server",
    "rediss": "server",
    "unix": "server",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
DEFAULT_PORTS: Final[dict[Form, int]] = {"server": 6379, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where Redis is, in which form, and who we are there."""

    url: str
    form: Form
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    username: str | None = None
    password: str | None = None
    service: str = ""
    """The name Sentinel knows the primary by."""

    db: int = 0

    @classmethod
    def of(cls, url: str) -> "RedisAddress":
        """Raises `ConfigError` for what is no address; the sentence does not repeat it."""
        scheme, separator, _ = url.partition("://")
        form = SCHEMES.get(scheme)
        if form is None or not separator:
            raise ConfigError(
                f"REDIS_URL has to begin with one of {', '.join(f'{name}://' for name in SCHEMES)}."
            )
        try:
            return cls._of(url, scheme, form)
        except ValueError as error:
            raise ConfigError(
                "REDIS_URL cannot be understood. Write it as redis://USER:PASSWORD@HOST:6379/0, "
                "redis+sentinel://HOST:26379,HOST:26379/SERVICE/0 or "
                "redis+cluster://HOST:6379,HOST:6379, special characters percent-encoded."
            ) from error

    @classmethod
    def _of(cls, url: str, scheme: str, form: Form) -> "RedisAddress":
        parts = urlsplit(url)
        credentials, _, places = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        path = [unquote(part) for part in parts.path.split("/") if part]
        if form == "server":
            _ = parts.port  # raises `ValueError` for what is no port
            if scheme != "unix" and path:
                int(path[0])
            return cls(url=url, form=form)
        if form == "sentinel" and not 1 <= len(path) <= 2:
            raise ValueError("no service")
        if form == "cluster" and path not in ([], ["0"]):
            raise ValueError("a cluster has no databases")
        return cls(
            url=url,
            form=form,
            tls=scheme.startswith("rediss"),
            hosts=tuple(_place(place, DEFAULT_PORTS[form]) for place in places.split(",")),
            username=unquote(username) or None,
            password=unquote(password) or None,
            service=path[0] if path else "",
            db=int(path[1]) if form == "sentinel" and len(path) > 1 else 0,
        )


def _place(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("no host")
    return parts.hostname, parts.port or port

"""
One entry of mcp.json made into a `ServerConfig`: which keys there are and what they may hold.

What people paste from other programs is understood where it has a meaning here, passed over where
it has none, and refused with advice where leaving it out would surprise them.
"""

import re
from pathlib import Path
from typing import Final, cast, get_args

from trunkline import naming
from trunkline.downstream.credentials import LOGIN, Mapped, Template
from trunkline.downstream.entry import Entry, one_of
from trunkline.downstream.oauth_entry import read_oauth
from trunkline.downstream.server_config import ServerConfig, Sharing, ToolRules, Transport

KEYS: Final = frozenset(
    {
        *("command", "args", "env", "cwd", "url", "headers", "type", "transport"),
        *("disabled", "lazy", "sharing", "timeout", "idle_timeout", "namespace"),
        *("tools", "org", "health_url", "guarded", "auth"),
    }
)
ALIASES: Final = frozenset(
    {"serverUrl", "httpUrl", "disabledTools", "excludeTools", "includeTools"}
)
"""Keys of other programs that mean something here."""

PASSED_OVER: Final = frozenset(
    {
        *("alwaysAllow", "autoApprove", "trust", "alwaysLoad", "description", "title", "icon"),
        *("gallery", "version", "dev", "$schema"),
    }
)
"""Keys of other programs about what they show and ask; they mean nothing to a gateway."""

REFUSED: Final = {
    "envFile": 'Write its variables into "env", or set them and refer to them as ${NAME}.',
    "headersHelper": 'Write the header into "headers"; ${NAME} takes it from the environment.',
    "oauth": 'Write "auth": "oauth" where everybody is to log in for themselves.',
    "enabled": 'Write "disabled": true to switch a server off.',
}
"""Keys of other programs that would be missed if they were passed over -> what to do instead."""

TRANSPORTS: Final[dict[str, Transport | None]] = {
    "stdio": "stdio",
    "local": "stdio",
    "sse": "sse",
    "http": "streamable-http",
    "streamable-http": "streamable-http",
    "streamableHttp": "streamable-http",
    "streamable_http": "streamable-http",
    "remote": None,
}
"""What is written as `type` or `transport` -> what it means; None leaves it to the URL."""

NAMESPACE_LIMIT: Final = 40
"""Characters a namespace may have. A tool's whole name has 64."""

TIMEOUT_LIMIT: Final = 9_999.0
"""Seconds. Values beyond come from programs that count milliseconds."""

IDLE_LIMIT: Final = 31 * 86_400.0
"""Seconds."""

CACHE_LIMIT: Final = 86_400.0
"""Seconds. Nothing is kept longer."""

_NAMESPACE = re.compile(rf"[A-Za-z0-9_-]{{0,{NAMESPACE_LIMIT}}}")
_LETTER = re.compile(r"[A-Za-z0-9]")
_HTTP = re.compile(r"https?://[^/\s]", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def read_server(entry: Entry, position: int, folder: Path) -> ServerConfig | None:
    """
    The server an entry describes; None if something is wrong with it, which is then said.

    *folder* is where a relative `cwd` begins.
    """
    entry.refuse_unknown(KEYS, ALIASES | PASSED_OVER, instead=REFUSED)
    url_key = next((key for key in ("url", "serverUrl", "httpUrl") if entry.has(key)), "url")
    url, cwd = _http_url(entry, url_key), entry.text("cwd")
    oauth = read_oauth(entry)
    headers = _headers(entry) | ({"Authorization": LOGIN} if oauth is not None else {})
    env, args = entry.templates("env"), entry.template_list("args")
    transport = _transport(entry, url, url_key)
    mapped = Mapped(
        headers={name: text for name, text in headers.items() if text.references},
        env={name: text for name, text in env.items() if text.references},
        args={place: text for place, text in enumerate(args) if text.references},
    )
    _refuse_misplaced(entry, mapped, transport)
    config = ServerConfig(
        name=entry.server,
        transport=transport,
        command=entry.text("command"),
        args=tuple(str(text) for text in args),
        env={name: str(text) for name, text in env.items() if not text.references},
        cwd=None if cwd is None else str(folder / Path(cwd).expanduser()),
        url=url,
        headers={name: str(text) for name, text in headers.items() if not text.references},
        mapped=mapped,
        oauth=oauth,
        disabled=entry.flag("disabled"),
        lazy=entry.flag("lazy"),
        sharing=_sharing(entry, mapped),
        timeout=entry.seconds("timeout", limit=TIMEOUT_LIMIT),
        idle_timeout=entry.seconds("idle_timeout", limit=IDLE_LIMIT),
        namespace=_namespace(entry),
        tools=_tools(entry),
        org=entry.text("org"),
        health_url=_http_url(entry, "health_url"),
        guarded=entry.flag("guarded"),
        position=position,
    )
    return config if entry.is_sound else None


def _transport(entry: Entry, url: str | None, url_key: str) -> Transport:
    """The transport in effect. Complains where it does not fit the rest."""
    has_command, has_url = entry.has("command"), entry.has(url_key)
    written = {entry.choice(key, tuple(TRANSPORTS)) for key in ("type", "transport")}
    meant: set[Transport | None] = {TRANSPORTS[word] for word in written if word is not None}
    wrong = None
    if has_command and has_url:
        wrong = (
            f'has both "command" and "{url_key}". Keep "command" for a program to start, '
            f'or "{url_key}" for a server that is running.'
        )
    elif not has_command and not has_url:
        wrong = (
            'has neither "command" nor "url". Give it a program to start, or the URL of a server.'
        )
    elif len(meant - {None}) > 1:
        wrong = 'has a "type" and a "transport" that differ. Keep one of them.'
    elif has_command and meant - {"stdio"}:
        wrong = 'has a "command", so its type can only be "stdio". Leave the type out.'
    elif has_url and "stdio" in meant:
        wrong = f'is of type "stdio" but has a "{url_key}". Leave the type out.'
    if wrong is not None:
        entry.complain("config_invalid", wrong)
    chosen: Transport | None = next((one for one in meant if one is not None), None)
    if chosen is not None:
        return chosen
    return "stdio" if has_command else _guess(url, url_key)


def _guess(url: str | None, url_key: str) -> Transport:
    """The transport of a URL. `httpUrl` is a Gemini key and means streamable HTTP."""
    path = (url or "").partition("?")[0].rstrip("/")
    return "sse" if path.endswith("/sse") and url_key != "httpUrl" else "streamable-http"


def _http_url(entry: Entry, key: str) -> str | None:
    url = entry.text(key)
    if url is not None and not _HTTP.match(url) and "${" not in url:
        entry.complain(
            "config_invalid",
            f'has a "{key}" that is no URL to connect to. It begins with http:// or https://.',
            entry.node.member(key),
        )
    return url


def _sharing(entry: Entry, mapped: Mapped) -> Sharing:
    """Who shares a session. Complains of more than what it is told of each caller allows."""
    written = cast("Sharing | None", entry.choice("sharing", get_args(Sharing)))
    if not mapped:
        return written or "org"
    narrow: tuple[Sharing, ...] = (
        ("user", "client") if mapped.needs_user else ("org", "user", "client")
    )
    if written is None or written in narrow:
        return written or narrow[0]
    entry.complain(
        "config_invalid",
        f'has "sharing": "{written}", but {mapped.references[0]} is not the same for all of them. '
        f"Make it {one_of(narrow)}, or leave it out.",
        entry.node.member("sharing"),
    )
    return narrow[0]


def _refuse_misplaced(entry: Entry, mapped: Mapped, transport: Transport) -> None:
    """Complain of what is told of a caller where no server would hear it."""
    unheard = ("headers",) if transport == "stdio" else ("env", "args")
    for key in unheard:
        if getattr(mapped, key):
            heard = '"env" or "args"' if transport == "stdio" else '"headers"'
            entry.complain(
                "config_invalid",
                f'tells of whoever calls in "{key}", which a {transport} server never sees. '
                f"Write it into {heard}.",
                entry.node.member(key),
            )


def _headers(entry: Entry) -> dict[str, Template]:
    headers = entry.templates("headers")
    for name, template in headers.items():
        value = str(template)
        if entry.has("auth") and name.lower() == "authorization":
            entry.complain(
                "config_invalid",
                'has an "Authorization" header and "auth", which makes one. Keep one of them.',
                entry.node.member("headers"),
            )
        if not _HEADER_NAME.fullmatch(name) or "\n" in value or "\r" in value:
            entry.complain(
                "config_invalid",
                f"has a header {name!r} that HTTP cannot carry: "
                "its name needs to be one word, and its value one line.",
                entry.node.member("headers"),
            )
    return headers


def _namespace(entry: Entry) -> str | None:
    """The namespace as written. Complains where what is in effect would make bad names."""
    namespace = entry.text("namespace", empty=True)
    if namespace is None:
        if len(entry.server) > NAMESPACE_LIMIT or not _LETTER.search(naming.fit(entry.server)):
            entry.complain(
                "config_invalid",
                "cannot lend its name to its tools: that takes a letter or digit, and "
                f'{NAMESPACE_LIMIT} characters at most. Give it a "namespace".',
            )
    elif not _NAMESPACE.fullmatch(namespace):
        entry.complain(
            "config_invalid",
            f"has a namespace {namespace!r} that clients refuse: up to {NAMESPACE_LIMIT} letters, "
            f"digits, _ and - are allowed. {naming.fit(namespace)[:NAMESPACE_LIMIT]!r} would do.",
            entry.node.member("namespace"),
        )
    return namespace


RISKS: Final = ("LOW", "MEDIUM", "HIGH")


def _tools(entry: Entry) -> ToolRules:
    """The rules of `tools`, and what other programs say with keys of their own."""
    rules = entry.inner("tools")
    deny = entry.texts("disabledTools") + entry.texts("excludeTools")
    allow = entry.texts("includeTools") if entry.has("includeTools") else None
    if rules is None:
        return ToolRules(allow=allow, deny=deny)
    rules.refuse_unknown(("allow", "deny", "rename", "cache", "risk"), within="tools.")
    if rules.has("allow"):
        allow = rules.texts("allow")
    rename = rules.mapping("rename")
    for name, shown in rename.items():
        if not shown:
            rules.complain("config_invalid", f'renames the tool {name!r} to nothing in "rename".')
    return ToolRules(
        allow=allow,
        deny=rules.texts("deny") + deny,
        rename=rename,
        cache=rules.durations("cache", limit=CACHE_LIMIT),
        risk=rules.choices("risk", RISKS),
    )

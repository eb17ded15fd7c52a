"""What requests are made of: MCP as it should be, with anything in any place."""

import json
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

ODD: Final = [
    *("", "\0", "\ud800", "a" * 5000, "../../etc/passwd", "file:///etc/passwd", "%00", "%s%n"),
    *("${FUZZ_CANARY}", "$FUZZ_CANARY", "{{7*7}}", "' OR 1=1 --", "__proto__", "\r\nX-Evil: 1"),
    *("\u202e\u200b", "🧨" * 100, "1e999", "NaN", "null", "http://169.254.169.254/", "all", "away"),
]
"""Texts that have been trouble somewhere."""

NUMBERS: Final = [0, -1, 1, 2**31, 2**53 + 1, 2**64, -(2**63) - 1, 10**400, 1.5, 1e308, -0.0]

scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(ODD), st.text(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(ODD) | st.text(max_size=8), inner, max_size=4),
    ),
    max_leaves=12,
)
"""Any JSON value."""

TOOLS: Final = [
    *(
        "all__echo",
        "all__contents",
        "all__fail",
        "all__raise_error",
        "all__whoami",
        "all__counters",
    ),
    *("clock__now", "notes__write_note", "notes__find_notes", "units__convert", "interview__ask"),
    *("list_servers", "server_status", "add_server", "remove_server", "connect_server"),
    *("search_tools", "describe_tool", "call_tool", "nowhere__none", "away__any"),
]
URIS: Final = ["note://1", "notes://index", "notes://note/x", "file:///etc/passwd", "all+note://1"]

META: Final[dict[str, list[Any]]] = {
    "progressToken": ["p", 7],
    "io.modelcontextprotocol/protocolVersion": ["2026-07-28", "2025-11-25", "1999-01-01"],
    "io.modelcontextprotocol/clientInfo": [{"name": "fuzz", "version": "1"}],
    "io.modelcontextprotocol/clientCapabilities": [{}, {"elicitation": {}, "sampling": {}}],
    "io.modelcontextprotocol/logLevel": ["debug", "error"],
    "trunkline/error": [{}],
}
NAMES: Final = {"type": ["ref/prompt", "ref/resource"], "name": ["x"], "uri": URIS}
FIELDS: Final[dict[str, list[Any]]] = {
    "name": TOOLS,
    "arguments": [{}, {"zone": "UTC"}, {"query": "time"}, {"name": "clock__now"}, {"title": "x"}],
    "uri": URIS,
    "cursor": ["", "abc", "MQ=="],
    "level": ["debug", "loud"],
    "ref": [NAMES, {"type": "ref/prompt", "name": "all__greet"}],
    "argument": [{"name": "title", "value": "x"}],
    "context": [{"arguments": {}}],
    "requestId": [1, "1"],
    "progressToken": ["p", 1],
    "progress": [1, 0.5],
    "reason": ["because"],
    "protocolVersion": ["2025-11-25", "2024-11-05", "2026-07-28"],
    "capabilities": [{}, {"roots": {"listChanged": True}}],
    "clientInfo": [{"name": "fuzz", "version": "1"}],
    "notifications": [{"toolsListChanged": True}, {"resourceSubscriptions": URIS}],
    "inputResponses": [{}],
    "requestState": ["abc"],
    "task": [{"ttl": 1}],
    "taskId": ["t"],
}

METHODS: Final = {
    "initialize": ["protocolVersion", "capabilities", "clientInfo"],
    "ping": [],
    "server/discover": [],
    "tools/list": ["cursor"],
    "tools/call": ["name", "arguments", "inputResponses", "requestState", "task"],
    "prompts/list": ["cursor"],
    "prompts/get": ["name", "arguments"],
    "resources/list": ["cursor"],
    "resources/templates/list": ["cursor"],
    "resources/read": ["uri"],
    "resources/subscribe": ["uri"],
    "resources/unsubscribe": ["uri"],
    "completion/complete": ["ref", "argument", "context"],
    "logging/setLevel": ["level"],
    "tasks/get": ["taskId"],
    "tasks/cancel": ["taskId"],
    "tasks/list": ["cursor"],
    "notifications/initialized": [],
    "notifications/cancelled": ["requestId", "reason"],
    "notifications/progress": ["progressToken", "progress"],
    "notifications/roots/list_changed": [],
    "sampling/createMessage": ["name"],
    "elicitation/create": ["name"],
    "roots/list": [],
}
"""Every method of MCP -> the fields of its params."""


def field(name: str) -> SearchStrategy[Any]:
    """A value that is right for a field, more often than not."""
    right = st.sampled_from(FIELDS[name])
    return st.one_of(right, right, values)


@st.composite
def params(draw: st.DrawFn, method: str) -> Any:
    """The params of a method, or something else in their place."""
    if draw(st.integers(0, 9)) == 0:
        return draw(values)
    own = {name: draw(field(name)) for name in METHODS.get(method, []) if draw(st.booleans())}
    if draw(st.booleans()):
        chosen = draw(st.lists(st.sampled_from(sorted(META)), unique=True))
        own["_meta"] = {
            name: draw(st.one_of(st.sampled_from(META[name]), values)) for name in chosen
        }
    if draw(st.integers(0, 4)) == 0:
        own[draw(st.sampled_from(sorted(FIELDS)) | st.text(max_size=8))] = draw(values)
    return own


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """One JSON-RPC message, more or less."""
    methods = st.sampled_from(sorted(METHODS))
    method = draw(methods)
    ids = st.one_of(st.integers(1, 1000), st.text(max_size=5), scalars)
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": draw(ids), "method": method}
    message["params"] = draw(params(method))
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error"]))
        if draw(st.booleans()):
            message.pop(name, None)
        else:
            message[name] = draw(values)
    return message


def encode(message: Any) -> bytes:
    """As JSON in ASCII, so that even what is no Unicode can be sent."""
    return json.dumps(message).encode()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A body that is no message: batches, depth, duplicates, broken text, and mere bytes."""
    message = encode(draw(messages()))
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return b"[" + b",".join([message] * draw(st.integers(0, 5))) + b"]"
    if kind == 1:
        depth = draw(st.sampled_from([10, 150, 250, 1000, 100_000]))
        return b'{"a":' * depth + b"1" + b"}" * depth
    if kind == 2:
        depth = draw(st.sampled_from([10, 150, 250, 1000, 100_000]))
        deep = b"[" * depth + b"]" * depth
        return (
            b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"all__echo","arguments":{"a":%s}}}'
            % deep
        )
    if kind == 3:
        return message[:-1] + b',"method":"ping","id":1,"id":2}'
    if kind == 4:
        at = draw(st.integers(0, len(message)))
        return message[:at] + draw(st.binary(max_size=8)) + message[at + 1 :]
    if kind == 5:
        return draw(
            st.sampled_from([b"", b"null", b"1", b'"x"', b"NaN", b"\xef\xbb\xbf{}", b"{}{}"])
        )
    return draw(st.binary(max_size=200))


header_values = st.one_of(
    st.sampled_from([b"", b"2025-11-25", b"2026-07-28", b"1999-01-01", b"x" * 3000, b"*/*"]),
    st.sampled_from([b"application/json", b"text/event-stream", b"text/html", b"\xff\xfe", b"0"]),
    st.sampled_from([b"tools/call", b"tools/list", b"all__echo", b"=?base64?YQ==?=", b"a, b"]),
    st.from_regex(rb"[!-~]{0,30}", fullmatch=True),
)
headers = st.dictionaries(
    st.sampled_from(
        [
            *("accept", "content-type", "mcp-session-id", "mcp-protocol-version", "mcp-method"),
            *("mcp-name", "last-event-id", "origin", "host", "authorization", "cookie"),
            *("x-organization-id", "x-forwarded-for", "sec-fetch-site", "content-encoding"),
            *("mcp-param-zone", "if-none-match", "range", "expect", "upgrade", "te"),
        ]
    ),
    header_values,
    max_size=5,
)

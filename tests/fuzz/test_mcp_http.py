"""
Whatever is sent to the MCP routes: no 500, no traceback, no secret, and it goes on serving.

The short form always sends the same. `make fuzz` sends something else each time and says the seed:
`pytest --hypothesis-seed=SEED tests/fuzz` sends it again.
"""

import os
import socket
from typing import Any, Final
from urllib.parse import urlsplit

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.messages import bodies, encode, headers, messages
from tests.fuzz.target import BOTH, LEAKS, Target

EXAMPLES: Final = int(os.environ.get("TRUNKLINE_FUZZ_EXAMPLES", "0"))
"""How much is sent by each test; 0 is the short form."""

PATHS: Final = [
    *("/mcp", "/mcp/", "/sse", "/messages", "/messages/", "/messages/?session_id=x", "/health"),
    *("/ready", "/metrics", "/", "/mcp/../health", "//mcp", "/%2e%2e/etc/passwd", "/mcp?x=%ff"),
    *("/.well-known/oauth-protected-resource", "/api/v1/servers", "/console", "/share/mcp.json"),
]


def fuzzing(short: int) -> Any:
    """How much of what is sent: *short* requests, unless more are asked for."""
    return settings(
        max_examples=EXAMPLES or short,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def test_anything_in_any_field_of_any_method_of_a_handshake_client(gateway: Target) -> None:
    session = gateway.session()

    @fuzzing(150)
    @given(messages())
    def send(message: dict[str, Any]) -> None:
        gateway.post(encode(message), {"mcp-session-id": session})

    send()


def test_anything_in_any_field_of_any_method_of_a_modern_client(gateway: Target) -> None:
    @fuzzing(150)
    @given(messages(), st.booleans())
    def send(message: dict[str, Any], fits: bool) -> None:
        method, params = message.get("method"), message.get("params")
        own: dict[str, str | bytes] = {"mcp-protocol-version": "2026-07-28"}
        if isinstance(method, str) and method.isascii() and method.isprintable():
            own["mcp-method"] = method
        if fits and isinstance(params, dict):
            name = params.get("name", params.get("uri"))
            if isinstance(name, str) and name.isascii() and name.isprintable():
                own["mcp-name"] = name.strip()
            meta = params.get("_meta")
            envelope = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params["_meta"] = {**(meta if isinstance(meta, dict) else {}), **envelope}
        gateway.post(encode(message), own)

    send()


def test_anything_on_the_older_transport(gateway: Target) -> None:
    with gateway.listen() as path:

        @fuzzing(80)
        @given(messages())
        def send(message: dict[str, Any]) -> None:
            gateway.request("POST", path, content=encode(message))

        send()

    for what, pattern in LEAKS.items():
        assert pattern.search("\n".join(gateway.heard)) is None, what


def test_bodies_that_are_no_message(gateway: Target) -> None:
    session = gateway.session()

    @fuzzing(80)
    @given(bodies(), st.sampled_from([{"mcp-session-id": session}, {}, MODERN]))
    def send(body: bytes, own: dict[str, str | bytes]) -> None:
        gateway.post(body, own)

    send()


MODERN: Final[dict[str, str | bytes]] = {
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "all__echo",
}


def test_any_method_path_and_headers(gateway: Target) -> None:
    verbs = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW"]

    @fuzzing(120)
    @given(st.sampled_from(verbs), st.sampled_from(PATHS), headers, messages())
    def send(verb: str, path: str, own: dict[str, str | bytes], message: dict[str, Any]) -> None:
        content = encode(message) if verb in ("POST", "PUT", "PATCH") else None
        gateway.request(verb, path, headers=own, content=content)

    send()


WHOLE: Final = (
    b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Accept: " + BOTH.encode() + b"\r\nConnection: close\r\nContent-Length: 46\r\n\r\n"
    b'{"jsonrpc": "2.0", "id": 1, "method": "pings"}'
)


def test_bytes_that_are_hardly_http(gateway: Target) -> None:
    @fuzzing(60)
    @given(st.integers(0, len(WHOLE)), st.integers(0, 20), st.binary(max_size=12))
    def send(at: int, cut: int, put: bytes) -> None:
        answer = say(gateway.url, WHOLE[:at] + put + WHOLE[at + cut :])
        assert not answer.startswith("HTTP/1.1 5"), answer[:500]
        for what, pattern in LEAKS.items():
            assert pattern.search(answer) is None, what

    send()


def say(url: str, data: bytes) -> str:
    """What is answered to these bytes, within a moment."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    answer = bytearray()
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=0.5) as wire:
        try:
            wire.sendall(data)
            while chunk := wire.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionError):
            pass
    return answer.decode("utf-8", "replace")

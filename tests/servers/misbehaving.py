"""
A server that does what servers should not. No SDK: an SDK would not let it.

    python -m tests.servers.misbehaving --transport stdio|http [--mute] [--garbage] ...

It speaks the handshake era, just enough of it. The switches spoil what happens around the calls;
the tools spoil the calls themselves:

    ok     answers             die    ends the process, `midway` through its answer if asked
    huge   answers 20 MB       never  does not answer
    flood  sends messages      twice  answers two times, and once under an id nobody used
    pids   tells its own process id, and its child's

Whatever it was told to ignore, it ends by itself after `LIFETIME`.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

Json = dict[str, Any]
Send = Callable[[Json], None]

LIFETIME: Final = 300.0
"""Seconds after which the process ends, and its child too."""

HUGE: Final = 20 * 1024 * 1024
"""Bytes of text in the answer of `huge`."""

METHOD_NOT_FOUND: Final = -32601
NOT_YET: Final = -32002
GARBAGE: Final = (
    b"Starting up...",
    b"",
    b"[1, 2",
    b'"words"',
    b'{"jsonrpc": "2.0"}',
    b"\xff\xfe\x00",
)
"""Lines that are no messages: a print, nothing, half a list, a text, half a message, no UTF-8."""


def tool(name: str) -> Json:
    """A definition nobody can object to."""
    return {"name": name, "description": f"{name}.", "inputSchema": {"type": "object"}}


TOOLS: Final = [tool(name) for name in ("ok", "die", "huge", "never", "flood", "twice", "pids")]
ODD_TOOLS: Final[list[Any]] = [
    {"name": "broken_schema", "inputSchema": {"type": "banana", "properties": []}},
    {"name": "schema_of_text", "inputSchema": "object"},
    {"name": "schemaless"},
    tool(""),
    tool("x" * 300),
    {**tool("twin"), "description": "The first of two."},
    {**tool("twin"), "description": "The second of two."},
    tool("späce d/../name"),
    {"name": 5, "inputSchema": {"type": "object"}},
    {"description": "Nameless.", "inputSchema": {"type": "object"}},
    "not an object",
]


class Misbehaving:
    """What it answers. One instance per process; HTTP sessions share it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.child: subprocess.Popen[bytes] | None = None
        self.roots = threading.Event()
        """Set once the client has answered `roots/list`."""

    def receive(self, message: Json, send: Send) -> None:
        """Work on one message, and send what there is to say. May never return."""
        method, request_id = message.get("method"), message.get("id")
        if method is None:
            self.roots.set()  # an answer, and roots/list is all we ask
        elif request_id is not None:
            if method in ("initialize", "server/discover") and self.options.mute:
                forever()
            if method == "tools/call":
                self._call(message, send)
            else:
                send({"jsonrpc": "2.0", "id": request_id, **self._answer(method, message)})
        elif method == "notifications/initialized" and self.options.wants_roots:
            send({"jsonrpc": "2.0", "id": "roots-1", "method": "roots/list"})

    def _answer(self, method: str, message: Json) -> Json:
        if method == "initialize":
            return {
                "result": {
                    "protocolVersion": message["params"]["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "misbehaving", "version": "0"},
                }
            }
        if method == "ping":
            return {"result": {}}
        if method != "tools/list":
            return error(METHOD_NOT_FOUND, "Method not found")
        if self.options.wants_roots and not self.roots.is_set():
            return error(NOT_YET, "Tell me your roots first.")
        forever(self.options.slow_list)
        result: Json = {"tools": [*TOOLS, *(ODD_TOOLS if self.options.odd_tools else ())]}
        if self.options.endless_list:
            result["nextCursor"] = "again"
        return {"result": result}

    def _call(self, message: Json, send: Send) -> None:
        name, arguments = message["params"]["name"], message["params"].get("arguments") or {}
        answer: Json = {"jsonrpc": "2.0", "id": message["id"], "result": words(f"{name} is well")}
        if self.options.wants_roots and not self.roots.is_set():
            del answer["result"]
            answer |= error(NOT_YET, "Tell me your roots first.")
        elif name == "die":
            if arguments.get("midway"):
                send({**answer, "midway": True})
            os._exit(3)
        elif name == "huge":
            answer["result"] = words("x" * HUGE)
        elif name == "never":
            forever()
        elif name == "flood":
            params = {"level": "info", "data": "x" * arguments.get("bytes", 100)}
            for _ in range(arguments.get("messages", 10_000)):
                send({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
        elif name == "twice":
            send({**answer, "id": 987_654_321})
            send(answer)
        elif name == "pids":
            child = self.child.pid if self.child else None
            answer["result"]["structuredContent"] = {"pid": os.getpid(), "child": child}
        send(answer)


def error(code: int, message: str) -> Json:
    """The error member of an answer."""
    return {"error": {"code": code, "message": message}}


def words(text: str) -> Json:
    """A tool's result."""
    return {"content": [{"type": "text", "text": text}]}


def forever(seconds: float = LIFETIME) -> None:
    """Do nothing for that long."""
    threading.Event().wait(seconds)


def half(message: Json) -> bytes | None:
    """The first half of a message that is to break off midway; None for any other."""
    if not message.pop("midway", False):
        return None
    data = json.dumps(message).encode()
    return data[: len(data) // 2]


def serve_stdio(server: Misbehaving) -> None:
    """Answer the lines of stdin until it ends, or for ever if told to ignore that."""
    out, one_at_a_time = sys.stdout.buffer, threading.Lock()

    def send(message: Json) -> None:
        with one_at_a_time:
            broken_off = half(message)
            out.write(json.dumps(message).encode() + b"\n" if broken_off is None else broken_off)
            if server.options.garbage:
                out.write(b"DEBUG sent a message\n")
            out.flush()

    if server.options.garbage:
        out.write(b"\n".join(GARBAGE) + b"\n")
        out.flush()
    for line in sys.stdin.buffer:
        arguments = (json.loads(line), send)
        threading.Thread(target=server.receive, args=arguments, daemon=True).start()
    if server.options.stubborn:
        forever()


def serve_http(server: Misbehaving) -> None:
    """Answer on loopback: streamable HTTP, JSON answers, sessions kept in memory."""
    sessions: set[str] = set()

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            pass

        def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def refused(self, *, opening: bool = False) -> bool:
            """Whether the request was answered because of its headers."""
            token, session = server.options.token, self.headers.get("Mcp-Session-Id")
            if token and self.headers.get("Authorization") != f"Bearer {token}":
                self.reply(401, b"Who are you?", WWW_Authenticate="Bearer")
            elif opening:
                return False
            elif session is None:
                self.reply(400, json.dumps(error(-32600, "Missing session ID")).encode())
            elif session not in sessions:
                self.reply(404, json.dumps(error(-32600, "Session not found")).encode())
            else:
                return False
            return True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            message = json.loads(body)
            opening = message.get("method") == "initialize"
            if self.refused(opening=opening):
                return
            headers = {"Content_Type": "application/json"}
            if opening:
                headers["Mcp_Session_Id"] = uuid.uuid4().hex
                sessions.add(headers["Mcp_Session_Id"])
            sent: list[Json] = []
            server.receive(message, lambda reply: self.collect(reply, sent))
            if message.get("id") is None or message.get("method") is None:
                self.reply(202)
            elif len(sent) == 1:
                self.reply(200, json.dumps(sent[0]).encode(), **headers)
            else:
                events = (f"event: message\ndata: {json.dumps(reply)}\n\n" for reply in sent)
                headers["Content_Type"] = "text/event-stream"
                self.reply(200, "".join(events).encode(), **headers)

        def collect(self, message: Json, sent: list[Json]) -> None:
            broken_off = half(message)
            if broken_off is None:
                sent.append(message)
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(2 * len(broken_off)))
            self.end_headers()
            self.wfile.write(broken_off)
            self.wfile.flush()

        def do_GET(self) -> None:
            if not server.options.wants_roots:
                self.reply(405)
            elif not self.refused():
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                question = {"jsonrpc": "2.0", "id": "roots-1", "method": "roots/list"}
                self.wfile.write(f"event: message\ndata: {json.dumps(question)}\n\n".encode())
                self.wfile.flush()
                forever()

        def do_DELETE(self) -> None:
            if not self.refused():
                sessions.discard(self.headers["Mcp-Session-Id"])
                self.reply(200)

    class Loopback(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET

    with Loopback(("127.0.0.1", server.options.port), Endpoint) as loopback:
        sys.stdout.write(f"listening http://127.0.0.1:{loopback.server_port}/mcp\n")
        sys.stdout.flush()
        loopback.serve_forever()


def parse() -> argparse.Namespace:
    """The command line."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--transport", choices=("stdio", "http"), default="stdio")
    options.add_argument("--port", type=int, default=0, help="0 takes any free one")
    options.add_argument("--era", choices=("both", "handshake"), default="both", help="no matter")
    options.add_argument("--tied", action="store_true", help="end when stdin closes (http)")
    options.add_argument("--mute", action="store_true", help="never answer the first request")
    options.add_argument("--garbage", action="store_true", help="print other things on stdout")
    options.add_argument("--odd-tools", action="store_true", help="list tools that are broken")
    options.add_argument("--slow-list", type=float, default=0.0, help="seconds tools/list takes")
    options.add_argument("--endless-list", action="store_true", help="there is always a next page")
    options.add_argument("--wants-roots", action="store_true", help="no roots, no work")
    options.add_argument("--token", help="answer 401 to whoever does not bear it (http)")
    options.add_argument("--stubborn", action="store_true", help="ignore SIGTERM and stdin's end")
    options.add_argument("--grandchild", action="store_true", help="start a child of its own")
    return options.parse_args()


def main() -> None:
    """Misbehave as told."""
    server = Misbehaving(parse())
    if server.options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if server.options.grandchild:
        sleep = f"import time; time.sleep({LIFETIME})"
        # It inherits stdout: whoever waits for that to close waits for the grandchild.
        server.child = subprocess.Popen([sys.executable, "-c", sleep], stdin=subprocess.DEVNULL)
    serve = serve_stdio if server.options.transport == "stdio" else serve_http
    if server.options.tied and server.options.transport == "http":
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        sys.stdin.buffer.read()
        return
    end = threading.Timer(LIFETIME, os._exit, args=(0,))
    end.daemon = True
    end.start()
    serve(server)


if __name__ == "__main__":
    main()

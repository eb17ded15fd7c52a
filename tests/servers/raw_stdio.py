"""
A stdio server of nothing but the standard library, to see every byte and every misbehaviour.

Each request is answered with its own params, unless its method names something worse to do. Flags
on the command line: `deaf` ignores the end of stdin, `stubborn` ignores SIGTERM as well.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

OUT = sys.stdout.buffer


def put(data: bytes) -> None:
    OUT.write(data)
    OUT.flush()


def answer(request: dict[str, Any], result: dict[str, Any]) -> None:
    message = {"jsonrpc": "2.0", "id": request["id"], "result": result}
    put(json.dumps(message).encode() + b"\n")


def start_grandchild(params: dict[str, Any]) -> int:
    """A process that outlives us unless somebody ends it; *quiet* lets go of our pipes."""
    quiet = subprocess.DEVNULL if params.get("quiet") else None
    code = "import time; time.sleep(120)"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=quiet, stdout=quiet, stderr=quiet
    ).pid


def serve(request: dict[str, Any]) -> None:
    method, params = request["method"], request.get("params") or {}
    if method == "big":
        answer(request, {"text": "x" * params["size"]})
    elif method == "garbage":
        for _ in range(params.get("lines", 1)):
            put(b"Server listening...\n\xff\xfe\x00\n[1, 2\n42\n\n\r\n")
        answer(request, params)
    elif method == "dressed":
        message = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": params}).encode()
        put(b"\xef\xbb\xbf" + message + b"\r\n")
    elif method == "batch":
        note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "first"}}
        reply = {"jsonrpc": "2.0", "id": request["id"], "result": params}
        put(json.dumps([note, reply]).encode() + b"\n")
    elif method == "log":
        sys.stderr.write(params["text"])
        sys.stderr.flush()
        answer(request, {})
    elif method == "die":
        sys.stderr.write(params.get("stderr", ""))
        sys.stderr.flush()
        os._exit(params["status"])
    elif method == "close_output":
        os.close(1)
    elif method == "environment":
        answer(request, {"env": dict(os.environ), "cwd": str(Path.cwd()), "pid": os.getpid()})
    elif method == "grandchild":
        answer(request, {"pid": start_grandchild(params)})
    elif method == "stop_reading":
        answer(request, {})
        threading.Event().wait()
    elif method != "silence":
        answer(request, params)


def main() -> None:
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "id" in request:
            serve(request)
    if "deaf" in sys.argv or "stubborn" in sys.argv:
        threading.Event().wait()


if __name__ == "__main__":
    main()

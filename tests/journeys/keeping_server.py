"""
A server whose answers say how long they may be kept, for the tests of the cache.

    python -m tests.journeys.keeping_server --transport http --era modern

`read` reads only and may be repeated; `write` does neither. Both answer with what they were given
under `say` (so a test can have them say `ttlMs`, `cacheScope` or `isError`), and with how many
calls they have had. `calls` tells that number and is never kept.
"""

import os
from typing import Any, Final

from tests.servers.hosting import host, parser
from tests.servers.raw import RawServer, Request

Json = dict[str, Any]

FORM: Final[Json] = {"type": "object", "properties": {"name": {"type": "string"}}}
QUIET: Final[Json] = {"readOnlyHint": True, "idempotentHint": True}


def tool(name: str, **annotations: bool) -> Json:
    schema = {"type": "object"}
    return {"name": name, "description": name, "inputSchema": schema, "annotations": annotations}


TOOLS: Final = [tool("read", **QUIET), tool("write"), tool("calls")]


class Keeping:
    """The behaviour, and how often it was shown."""

    def __init__(self) -> None:
        self.calls = 0

    async def list_tools(self, request: Request) -> Json:
        return {"tools": TOOLS}

    async def call_tool(self, request: Request) -> Json:
        arguments: Json = request.params.get("arguments") or {}
        if request.params["name"] == "calls":
            return said({"calls": self.calls})
        if "ask" in arguments:
            question = {"message": "Who?", "requestedSchema": FORM}
            answer = await request.ask("elicitation/create", question)
            self.calls += 1
            return said({"calls": self.calls, "answer": answer["content"]})
        self.calls += 1
        return {**said({"calls": self.calls, "pid": os.getpid()}), **(arguments.get("say") or {})}


def said(value: Json) -> Json:
    return {"content": [{"type": "text", "text": str(value)}], "structuredContent": value}


def build() -> RawServer:
    keeping = Keeping()
    return RawServer(
        {"name": "keeping", "version": "1"},
        capabilities={"tools": {}},
        handlers={"tools/list": keeping.list_tools, "tools/call": keeping.call_tool},
    )


if __name__ == "__main__":
    host(build(), parser(__doc__).parse_args())

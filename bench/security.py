"""
What a call pays for being somebody's: identity, policy, limits and audit, wired as they are served.

    python -m bench.security [--calls 3000] [--rounds 5]

CPU time of this process per call, in microseconds, and as a multiple of the same call without a
gate. The whole of Trunkline runs, with a database and a tool of a plugin behind it; what is timed
begins where a request has its headers (identity) and where it has been read (the call). The clock
is stopped when the audit has written everything down, so what is done behind a call is in its
price. The database's own work, in another process, is not. Of all rounds the quickest counts.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.gateway_under_test import Gateway, gateway
from tests.tenants import add_key

from trunkline.cli.serve import identify
from trunkline.dispatch import Dispatch
from trunkline.models import PRINCIPAL, Client, Era, Json, Principal
from trunkline.security.gate import Gate
from trunkline.settings import LimitSettings

PLUGIN: Final = '''
"""A tool that answers at once."""
from trunkline import Plugin
plugin = Plugin("quick", summary="Answers at once.")

@plugin.tool
def answer(query: str, repo: str, limit: int) -> str:
    """An answer."""
    return "x" * 300
'''
POLICY: Final = """
[default]
deny = ["shell", "github/delete_*", "*/drop_*"]
[default.risk]
"quick/answer" = "LOW"
[default.limits.tool]
"quick/*" = { calls_per_minute = 1000000000 }
"""
MANY: Final = 1_000_000_000
LIMITS: Final = LimitSettings(calls_per_minute=MANY, org_calls_per_minute=MANY)
ARGUMENTS: Final[Json] = {"query": "is:open label:bug", "repo": "acme/widgets", "limit": 20}
CALL: Final[Json] = {"name": "quick__answer", "arguments": ARGUMENTS}

Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Somebody:
    """A client that is neither told nor asked anything."""

    client: Client
    log_level: None = None
    standing: None = None

    async def ask(self, method: str, params: Json | None) -> Json:
        raise NotImplementedError

    async def tell(self, method: str, params: Json | None) -> None:
        raise NotImplementedError


def identity(running: Gateway, key: str) -> tuple[Step, Json]:
    """A request that has to say who it is, up to where it would be read; and its scope."""
    scope: dict[str, Any] = {
        "type": "http",
        "path": "/mcp",
        "query_string": b"",
        "client": ("127.0.0.1", 50000),
        "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {key}".encode())],
    }

    async def read(scope: Any, receive: Any, send: Any) -> None: ...

    async def nothing(*_: Any) -> Any: ...

    door = identify(running.app, running.identities)(read)

    async def step() -> None:
        await door(scope, nothing, nothing)

    return step, scope


def call(dispatch: Dispatch, principal: Principal, gate: Gate | None) -> Step:
    """A call of the plugin's tool, through *gate*."""
    caller = Somebody(
        Client(id="bench", principal=principal, era=Era.MODERN, protocol_version="2026-07-28")
    )

    async def step() -> None:
        dispatch.gate = gate
        result = await dispatch.request("tools/call", CALL, caller)
        assert not result.get("isError"), result

    return step


async def seconds_of(step: Step, calls: int, gate: Gate) -> float:
    """CPU seconds one step takes, over so many, until the audit has written all of it."""
    started = time.process_time()
    for number in range(calls):
        await step()
        if number % 100 == 0:
            await asyncio.sleep(0)  # what is behind the calls has its turn, as it has when served
    while gate.audit.waiting:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.01)
    return (time.process_time() - started) / calls


async def measure(calls: int, rounds: int) -> dict[str, float]:
    """CPU seconds of each, the quickest of all rounds."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "quick.py").write_text(PLUGIN)
        (folder / "policy.toml").write_text(POLICY)
        plugins = (folder / "plugins",)
        async with gateway({}, folder, plugins=plugins, identified=True, limits=LIMITS) as running:
            key = await add_key(running, "acme", "bench")
            dispatch, gate = running.app.dispatch, running.app.safeguards.gate
            identified, scope = identity(running, key)
            await identified()
            who: Principal = scope[PRINCIPAL]
            steps = {
                "call without a gate": call(dispatch, who, None),
                "call with policy, limits and audit": call(dispatch, who, gate),
                "identity by key": identified,
            }
            found = dict.fromkeys(steps, float("inf"))
            for _ in range(rounds):
                for what, step in steps.items():
                    found[what] = min(found[what], await seconds_of(step, calls, gate))
            dispatch.gate = gate
            return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    found = asyncio.run(measure(given.calls, given.rounds))
    bare, gated, identified = found.values()
    found["all that is added"] = gated - bare + identified
    for what, seconds in found.items():
        print(f"{what:<36}{seconds * 1e6:8.1f} µs{seconds / bare:8.2f} x")  # noqa: T201


if __name__ == "__main__":
    main()

"""
What a load balancer and an orchestrator ask: `/health`, whether the process is alive, and `/ready`,
whether it may have traffic. Both answer from memory.

A store or a server that is away degrades Trunkline and does not stop it: calls go on, so it stays
ready and says what is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from trunkline import __version__

NO_STORE = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not as it should be."""

    what: str
    """`database`, `cache`, or `server NAME`."""

    code: str
    reason: str


def health_routes(
    is_ready: Callable[[], bool],
    troubles: Callable[[], Sequence[Trouble]],
    *,
    is_brief: Callable[[], bool] = lambda: False,
) -> list[BaseRoute]:
    """
    The two routes. *is_ready* says whether requests are being answered from a whole catalog.

    They answer anybody. While *is_brief* they leave the reasons out, which name hosts and paths.
    """

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__}, headers=NO_STORE)

    async def ready(_: Request) -> JSONResponse:
        found = [asdict(trouble) for trouble in troubles()]
        if is_brief():
            found = [{"what": one["what"], "code": one["code"]} for one in found]
        status = "starting" if not is_ready() else "degraded" if found else "ok"
        code = 503 if status == "starting" else 200
        return JSONResponse({"status": status, "degraded": found}, code, headers=NO_STORE)

    return [Route("/health", health), Route("/ready", ready)]

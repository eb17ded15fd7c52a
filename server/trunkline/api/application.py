"""
The admin API: what `trunkline` does on the command line, for other programs and the console.

    whoever established the principal ── Door ── Operation ── a route ── the same modules as the CLI

Everything stays within the caller's organisation and what is everybody's; what is not theirs to see
is answered like what does not exist. To add something, write a module with a `router` whose routes
are `Operation`s, and name it here.
"""

from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from trunkline import __version__
from trunkline.api import approvals, audit, keys, me, pins, servers
from trunkline.api.asking import Anybody
from trunkline.api.backing import Backing
from trunkline.api.door import Door
from trunkline.api.mount import PREFIX
from trunkline.api.problems import RESPONSES, SCHEMA, tell_http_problem, tell_problem
from trunkline.api.routes import Operation
from trunkline.errors import TrunklineError
from trunkline.models import Json

about = APIRouter(tags=["about"], route_class=Operation)

ROUTERS: Final = (
    me.router,
    servers.router,
    keys.router,
    approvals.router,
    pins.router,
    audit.router,
    about,
)


def build_api(backing: Backing) -> FastAPI:
    """
    The API, to be mounted at `PREFIX` behind whoever establishes who asks.

    A request whose scope has no `Principal` under `PRINCIPAL` is answered with 401.
    """
    api = FastAPI(
        title="Trunkline",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=RESPONSES,
        # Traces and metrics are the gateway's own, and know what must not be in them.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.state.backing = backing
    for router in ROUTERS:
        api.include_router(router)
    api.state.operations = [route for router in ROUTERS for route in router.routes]
    api.add_exception_handler(TrunklineError, tell_problem)
    api.add_exception_handler(HTTPException, tell_http_problem)
    api.add_middleware(Door)
    return api


@about.get("/openapi.json", operation_id="openapi.show", summary="This description")
async def openapi(request: Request, _: Anybody) -> Any:
    """The API, as OpenAPI 3.1 describes it."""
    api: FastAPI = request.app
    if api.openapi_schema is None:
        api.openapi_schema = _description(api)
    return Response(JSONResponse(api.openapi_schema).body, media_type="application/json")


def _description(api: FastAPI) -> Json:
    described = get_openapi(
        title=api.title,
        version=api.version,
        description="The admin API of Trunkline.",
        routes=api.routes,
        servers=[{"url": PREFIX}],
    )
    components = described.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = SCHEMA
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return described | {"security": [{"bearer": []}]}

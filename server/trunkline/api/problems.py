"""
What goes wrong, as a program is told of it: `application/problem+json` (RFC 9457).

The sentence is that of the error and the code is its own, as everywhere else. There is no traceback
in it, and nothing of what was sent.
"""

import json
import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from trunkline.errors import InvalidArguments, NotFound, TrunklineError
from trunkline.models import Json

MEDIA_TYPE: Final = "application/problem+json"

PAUSE: Final = 5
"""Seconds after which something that is away may be back."""

STATUSES: Final[Mapping[str, int]] = {
    "refused": 401,
    "forbidden": 403,
    "approval_forbidden": 403,
    "call_refused": 403,
    "not_found": 404,
    "approval_not_found": 404,
    "method_not_allowed": 405,
    "server_not_added": 409,
    "key_name_taken": 409,
    "approval_settled": 409,
    "pin_changed": 409,
    "sync_conflict": 409,
    "precondition_failed": 412,
    "arguments_too_large": 413,
    "invalid_arguments": 422,
    "server_invalid": 422,
    "not_storable": 422,
    "outbound_refused": 422,
    "rate_limited": 429,
    "unexpected": 500,
    "audit_full": 503,
    "storage_error": 503,
}
"""By code. An error whose own code is not here has the status of the kind of error that it is."""

SCHEMA: Final[Json] = {
    "title": "Problem",
    "type": "object",
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string", "description": "What the status means."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong and what to do."},
        "code": {"type": "string", "description": "For programs; it never changes."},
    },
    "required": ["type", "title", "status", "detail", "code"],
}

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": said,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, said in (("4XX", "It was not done."), ("5XX", "It could not be done now."))
}
"""For every route."""


class MethodNotAllowed(TrunklineError):
    """There is something at this address, and it does not do that."""

    code = "method_not_allowed"


class PreconditionFailed(TrunklineError):
    """What was looked at is not what is there."""

    code = "precondition_failed"

    def __init__(self) -> None:
        super().__init__(
            "It is not what the tag in If-Match was of any more, and nothing was done. Look at it "
            "again."
        )


class Unexpected(TrunklineError):
    """A fault of the program's own."""

    code = "unexpected"

    def __init__(self) -> None:
        super().__init__("This failed unexpectedly. The failure was logged.")


def problem(error: TrunklineError, headers: Mapping[str, str] | None = None) -> Response:
    """An error as an answer."""
    status = status_of(error)
    said = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(error),
        "code": error.code,
    }
    # ASCII: a sentence may repeat half a surrogate pair, which is no UTF-8.
    return Response(json.dumps(said), status, _headers(error, status, headers), MEDIA_TYPE)


def status_of(error: TrunklineError) -> int:
    """The HTTP status of an error, or of the nearest kind of error that has one."""
    codes = (getattr(kind, "code", "") for kind in type(error).__mro__)
    return next((STATUSES[code] for code in codes if code in STATUSES), 500)


def invalid(error: RequestValidationError) -> InvalidArguments:
    """What does not fit the schema, in a sentence that does not repeat it."""
    said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}"[:200] for one in error.errors()[:5]]
    return InvalidArguments(f"The request does not fit: {'; '.join(said)}.")


async def tell_problem(_: Request, error: Exception) -> Response:
    """An error that was raised on purpose."""
    assert isinstance(error, TrunklineError)
    return problem(error)


async def tell_http_problem(request: Request, error: Exception) -> Response:
    """What the router says: there is no such address, or it does not do that."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request))
        said = f"{request.method} is not done here. What is done: {allowed}."
        return problem(MethodNotAllowed(said), {"allow": allowed})
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(
            NotFound("There is nothing at this address. /api/v1/openapi.json says what there is.")
        )
    return problem(InvalidArguments("The request's body cannot be read. It is to be JSON."))


def _methods(request: Request) -> list[str]:
    """What is done at an address. The router itself names the methods of one route alone."""
    routes: Iterable[Route] = request.app.state.operations
    here = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in here for method in route.methods or ()})


def _headers(
    error: TrunklineError, status: int, headers: Mapping[str, str] | None
) -> Mapping[str, str]:
    told = {"cache-control": "no-store", **(headers or {})}
    if status == HTTPStatus.UNAUTHORIZED:
        told["www-authenticate"] = 'Bearer realm="trunkline"'
    elif status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        told["retry-after"] = str(math.ceil(getattr(error, "retry_after", PAUSE)))
    return told

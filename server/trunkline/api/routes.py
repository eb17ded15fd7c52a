"""
What all routes have in common, so that none can be without it.

What is read has a tag, and is not sent again to who has it (RFC 9110, 13). What is done is told to
the audit, however it ends, under the name of the operation.
"""

import hashlib
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from time import perf_counter
from typing import Any, Final
from urllib.parse import quote, unquote

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from trunkline.api.asking import backing_of, principal_of
from trunkline.api.problems import PreconditionFailed, invalid
from trunkline.errors import InvalidArguments
from trunkline.security.audit.entries import Event

Answer = Callable[[Request], Coroutine[Any, Any, Response]]

TARGETS: Final = ("tool", "key", "approval")
"""Parts of an address that name what something is done to, beside `server`."""


class Segment(Convertor[str]):
    """One part of an address: `{tool:segment}`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value, errors="replace")

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


register_url_convertor("segment", Segment())


class Operation(APIRoute):
    """A route of this API. Its `operation_id` is what the audit calls what it does."""

    def get_route_handler(self) -> Answer:
        answer = _readable(super().get_route_handler())
        if self.methods == {"GET"}:
            return _tagged(answer)
        assert self.operation_id is not None
        return _recorded(answer, self.operation_id)


def tag_of(body: bytes) -> str:
    """What an answer is recognised by."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def check_unchanged(request: Request, tag: str) -> None:
    """Raise `PreconditionFailed` if a request is about something else than what has *tag*."""
    wanted = request.headers.get("if-match")
    if wanted is not None and not _names(wanted, tag):
        raise PreconditionFailed


def tell_target(request: Request, **values: Any) -> None:
    """Tell the audit more of what is being done: members of `Event`."""
    request.state.target |= values


def _readable(answer: Answer) -> Answer:
    """Has what does not fit refused with a sentence."""

    async def readable(request: Request) -> Response:
        try:
            return await answer(request)
        except RequestValidationError as error:
            raise invalid(error) from None
        except HTTPException as error:
            raise InvalidArguments("The body of the request cannot be read as JSON.") from error

    return readable


def _tagged(answer: Answer) -> Answer:
    async def tagged(request: Request) -> Response:
        response = await answer(request)
        tag = tag_of(bytes(response.body))
        wanted = request.headers.get("if-none-match")
        # A comparison is weak here: a proxy that compresses weakens tags (RFC 9110, 8.8.3.2).
        if wanted is not None and _names(wanted.replace("W/", ""), tag):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"etag": tag})
        response.headers["etag"] = tag
        return response

    return tagged


def _recorded(answer: Answer, action: str) -> Answer:
    async def recorded(request: Request) -> Response:
        backing, principal = backing_of(request), principal_of(request)
        params, started = request.path_params, perf_counter()
        request.state.target = {
            "server": params.get("server"),
            "own_name": next((params[name] for name in TARGETS if name in params), None),
        }

        def tell(error: BaseException | None) -> None:
            seconds, target = perf_counter() - started, request.state.target
            event = Event.ended(
                action, principal, error=error, seconds=seconds, face="api", **target
            )
            backing.record(event)

        try:
            await backing.room(principal)
            response = await answer(request)
        except BaseException as error:
            tell(error)
            raise
        tell(None)
        return response

    return recorded


def _names(tags: str, tag: str) -> bool:
    """Whether a header with tags is about *tag*."""
    return any(one.strip() in ("*", tag) for one in tags.split(","))

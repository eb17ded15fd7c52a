"""
One JSON-RPC message from bytes and to bytes, the same for every transport of the MCP face.

Each message is parsed once and checked once, against the one shape it claims to have. What is not
a message gets a sentence: `Malformed` becomes the JSON-RPC error that says so.
"""

from typing import Any, Final, TypeAlias

from mcp_types import (
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)
from pydantic import BaseModel, ValidationError

from trunkline.errors import RpcError
from trunkline.wire import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, decode

Answer: TypeAlias = JSONRPCResponse | JSONRPCError

NOT_A_MESSAGE: Final = "Send one JSON-RPC 2.0 request, notification or response as a JSON object."


class Malformed(RpcError):
    """What arrived is not one JSON-RPC message. `request_id` is the request it wanted to be."""

    def __init__(self, rpc_code: int, message: str, request_id: RequestId | None = None) -> None:
        super().__init__(rpc_code, message)
        self.request_id = request_id


def parse_message(data: bytes) -> JSONRPCMessage:
    """Read one message. Raises `Malformed`."""
    try:
        raw = decode(data)
    except ValueError as error:
        raise Malformed(PARSE_ERROR, f"This is not JSON: {error}. {NOT_A_MESSAGE}") from error
    if isinstance(raw, list):
        raise Malformed(
            INVALID_REQUEST, "Batches are not accepted. Send each JSON-RPC message by itself."
        )
    if not isinstance(raw, dict):
        raise Malformed(INVALID_REQUEST, f"This is not a JSON object. {NOT_A_MESSAGE}")
    try:
        return _shape(raw).model_validate(raw)  # pyright: ignore[reportReturnType] - one of the four
    except ValidationError as error:
        raise Malformed(INVALID_REQUEST, _explain(error), _request_id(raw)) from error


def encode_message(message: JSONRPCMessage) -> bytes:
    """
    Write one message as a single line of JSON.

    An answer that JSON cannot carry (a lone surrogate in a file name, say) becomes an error answer.
    Raises `ValueError` for any other message of that kind.
    """
    try:
        return message.model_dump_json(by_alias=True, exclude_unset=True).encode()
    except ValueError:
        if not isinstance(message, Answer):
            raise
        return encode_error(INTERNAL_ERROR, "The answer cannot be written as JSON.", message.id)


def encode_error(code: int, message: str, request_id: RequestId | None = None) -> bytes:
    """Write an error answer; without a *request_id*, one to whatever has just arrived."""
    error = JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=message))
    return error.model_dump_json(exclude_unset=True).encode()


def _shape(raw: dict[str, Any]) -> type[BaseModel]:
    if "method" in raw:
        return JSONRPCRequest if "id" in raw else JSONRPCNotification
    return JSONRPCError if "error" in raw else JSONRPCResponse


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    # An id is an integer or a string: the path then names the branch, which means nothing here.
    field = str(first["loc"][0])
    return f"This is not a JSON-RPC 2.0 message: {field!r}: {first['msg']}. {NOT_A_MESSAGE}"


def _request_id(raw: dict[str, Any]) -> RequestId | None:
    request_id = raw.get("id") if "method" in raw else None
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        return None
    return request_id

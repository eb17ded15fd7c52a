"""
The last touch: a raw result or an error in the form the client's era wants.

2026-07-28 makes `resultType` mandatory everywhere and `ttlMs` and `cacheScope` on lists and reads,
and has the server sign results in `_meta`. A handshake client gets none of these.
"""

from typing import Any, Final, Literal

from mcp.shared.exceptions import MCPError

from trunkline.errors import DownstreamError, NotFound, ResourceNotFound, RpcError, TrunklineError
from trunkline.models import Era, Json
from trunkline.security.limits.limits import LimitReached
from trunkline.security.masking.masking import SECRETS
from trunkline.security.policy.failures import CallRefused
from trunkline.wire import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    META_SERVER_INFO,
    RESOURCE_NOT_FOUND_HANDSHAKE,
)

MODERN_ONLY: Final = ("resultType", "ttlMs", "cacheScope")


def shape(result: Json, era: Era, server_info: Json, *, cacheable: bool = False) -> Json:
    """A provider's result for a client of *era*. *cacheable* says that it is a list or a read."""
    given = result.get("_meta")
    meta: Json = given if isinstance(given, dict) else {}
    if era is Era.HANDSHAKE:
        signed = META_SERVER_INFO in meta
        if not signed and not any(key in result for key in MODERN_ONLY):
            return result
        shaped = {key: value for key, value in result.items() if key not in MODERN_ONLY}
        if not isinstance(shaped.get("structuredContent", {}), dict):
            del shaped["structuredContent"]  # an object until 2026-07-28; the text says the same
        if signed:
            shaped["_meta"] = {key: meta[key] for key in meta if key != META_SERVER_INFO}
            if not shaped["_meta"]:
                del shaped["_meta"]
        return shaped
    shaped = {"resultType": "complete", **result}
    if cacheable and shaped["resultType"] == "complete":
        shaped.setdefault("ttlMs", 0)
        shaped.setdefault("cacheScope", "private")
    shaped["_meta"] = {**meta, META_SERVER_INFO: server_info}
    return shaped


def listed(
    member: str,
    items: list[Json],
    era: Era,
    server_info: Json,
    *,
    ttl_ms: int,
    cache_scope: Literal["public", "private"],
) -> Json:
    """The result of a list request."""
    result: Json = {member: items}
    if era is Era.MODERN:
        result["ttlMs"], result["cacheScope"] = ttl_ms, cache_scope
    return shape(result, era, server_info)


def tool_failure(error: TrunklineError) -> Json:
    """An error as the result of a tool: so the model learns of it, and why."""
    told: Json = {"code": error.code}
    if isinstance(error, DownstreamError):
        told["server"] = error.server
    if similar := getattr(error, "similar", None):
        told["similar"] = similar
    told |= _details(error)
    return {
        "content": [{"type": "text", "text": SECRETS.mask(str(error))}],
        "isError": True,
        "_meta": {"trunkline/error": told},
    }


def tool_result(text: str, structured: Json) -> Json:
    """The result of a tool of the gateway's own: for the model to read, and for programs."""
    return {"content": [{"type": "text", "text": text}], "structuredContent": structured}


def rpc_failure(error: TrunklineError, method: str, era: Era) -> MCPError:
    """Any error as the JSON-RPC error a client of *era* expects for *method*."""
    if isinstance(error, RpcError):
        code = error.rpc_code
        if code == RESOURCE_NOT_FOUND_HANDSHAKE and era is Era.MODERN:
            code = INVALID_PARAMS  # 2026-07-28 folded "resource not found" into it
        return MCPError(code, SECRETS.mask(error.message), SECRETS.mask_all(error.data))
    data: dict[str, Any] = {"code": error.code}
    if isinstance(error, ResourceNotFound):
        data["uri"] = error.uri
        code = RESOURCE_NOT_FOUND_HANDSHAKE if era is Era.HANDSHAKE else INVALID_PARAMS
    elif isinstance(error, DownstreamError):
        data["server"] = error.server
        code = INTERNAL_ERROR
    else:
        code = INVALID_PARAMS
    if isinstance(error, NotFound) and (similar := getattr(error, "similar", None)):
        data["similar"] = similar
    data |= _details(error)
    return MCPError(code, SECRETS.mask(str(error)), data)


def _details(error: TrunklineError) -> Json:
    """What an error says to programs beside its code."""
    if (url := getattr(error, "url", None)) is not None:
        return {"url": url}
    if isinstance(error, LimitReached):
        return {"retry_after": round(error.retry_after, 3)}
    return error.details if isinstance(error, CallRefused) else {}

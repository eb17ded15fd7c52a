"""
Which results of tools may be kept, for how long, and under what key.

Off unless asked for. A result is kept only of a tool that says of itself that it reads only and
may be repeated, or that mcp.json gives a ttl; and only if it is complete and no error. What it is
an answer to is all of its key: tool, definition, arguments, and whose credentials were used. An
argument that differs in any way JSON can say (1, 1.0, true) is another question.

Modern servers say more (2026-07-28, `ttlMs` and `cacheScope`): how long, and whether the answer is
for everybody or for the user who asked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from trunkline.models import Json

LONGEST: Final = 24 * 3600.0
"""Seconds a result is kept at most, whoever says what."""

SHORTEST: Final = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRule:
    """What the configuration says about the results of one tool."""

    ttl: float | None = None
    """Seconds, from mcp.json: the tool's results may be kept. None: the tool must say so itself."""

    default_ttl: float = 60.0
    """Seconds for a tool that says its results may be kept, but not for how long."""


def may_keep(definition: Mapping[str, Any], rule: ResultRule) -> bool:
    """Whether results of a tool of this definition may be kept at all."""
    if rule.ttl is not None:
        return rule.ttl > 0
    hints = definition.get("annotations")
    return (
        isinstance(hints, Mapping)
        and hints.get("readOnlyHint") is True
        and hints.get("idempotentHint") is True
    )


def is_plain_call(params: Mapping[str, Any]) -> bool:
    """
    Whether `tools/call` asks for the answer alone.

    The second round of a call that was asked something back, and a call that is to run as a task,
    are about more than their arguments.
    """
    return not params.keys() & {"inputResponses", "requestState", "task"}


def seconds_to_keep(result: Mapping[str, Any], rule: ResultRule, *, personal: bool) -> float:
    """
    How long a result may be kept; 0 is not at all.

    *personal* says that nobody but this user asks under this credential scope: only then is what a
    server calls private kept. `ttlMs` never lengthens what mcp.json says.
    """
    if result.get("isError") or result.get("resultType", "complete") != "complete":
        return 0.0
    if result.get("cacheScope", "public") != "public" and not personal:
        return 0.0
    seconds = rule.default_ttl if rule.ttl is None else rule.ttl
    said = result.get("ttlMs")
    if isinstance(said, int | float) and not isinstance(said, bool):
        seconds = said / 1000 if rule.ttl is None else min(seconds, said / 1000)
    return min(seconds, LONGEST) if seconds >= SHORTEST else 0.0


def result_key(*, tool: str, definition_hash: bytes, arguments: Json | None, scope: str) -> str:
    """
    The key of a call's result within its org.

    *scope* names whose credentials the call is made with. It begins with the tool's own name, so
    that a pattern can find it, and does not show the arguments.
    """
    what = canonical([tool, definition_hash.hex(), arguments or {}, scope])
    return f"{tool}:{sha256(what).hexdigest()}"


def canonical(value: Any) -> bytes:
    """
    One spelling for equal JSON: keys sorted, no spaces.

    As RFC 8785 has it, but for numbers: there 1.0 is 1, and a tool may tell them apart.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")

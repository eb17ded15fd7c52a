"""
How a person is asked about a call: what stands in the question, and what counts as an answer.

What is asked about was chosen by a model and named by a server, and neither is to be trusted. So
every character that does not show itself is written as an escape, what looks secret is left out,
and what is too long is cut where everybody can see that it was.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from trunkline.cache.results import canonical
from trunkline.errors import InvalidArguments
from trunkline.models import Client, Json, Principal
from trunkline.security.audit.redaction import redacted
from trunkline.security.policy.risk import Risk

ASK: Final = "elicitation/create"

LONGEST_VALUE: Final = 1_000
"""Characters of one argument that are shown."""

LONGEST: Final = 4_000
"""Characters of all arguments that are shown."""

OMITTED: Final = "trunkline/omitted"
"""What stands in the place of something that cannot be shown."""

DEFINING: Final = ("title", "description", "inputSchema", "outputSchema", "annotations")
"""What makes a tool the one that was approved, beside its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskyCall:
    """A call that a person has to agree to. What a resource is read by counts as its argument."""

    server: str
    tool: str
    """The server's own name for it."""

    arguments: Json
    definition: Json
    risk: Risk
    method: str = "tools/call"
    """The request it is: a policy may also ask about prompts and resources."""


def digest_of(principal: Principal, call: RiskyCall) -> bytes:
    """
    What tells one call from another: who calls, what, as it is defined now, with which arguments.

    The order of keys means nothing in JSON; everything else may mean something to a server, so 1 is
    not 1.0, and two ways to write a letter are two texts. Raises `InvalidArguments`.
    """
    who = [principal.org, principal.subject, principal.user]
    what = [call.method, call.server, call.tool, _defining(call.definition), call.arguments]
    try:
        return hashlib.sha256(canonical([who, what])).digest()
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidArguments(
            f"The arguments of {call.tool!r} are too deep, or no JSON. Nobody can be asked about "
            f"them."
        ) from error


def same_tool(one: Json, other: Json) -> bool:
    """Whether two definitions are of the same tool, as far as a person was shown."""
    return one is other or canonical(_defining(one)) == canonical(_defining(other))


def can_be_asked(client: Client) -> bool:
    """
    Whether a client says that it can put a form before a person.

    Until 2025-11-25 there was nothing but forms, and an empty object still means them.
    """
    modes = client.capabilities.get("elicitation")
    return isinstance(modes, dict) and (not modes or "form" in modes)


def question_about(call: RiskyCall) -> Json:
    """The parameters of `elicitation/create`."""
    message = (
        f"A tool is about to be called whose risk is {call.risk}. Allow it, this once?\n\n"
        f"Server: {_short(printable(call.server))}\n"
        f"Tool: {_short(printable(call.tool))}\n"
        f"Arguments:\n{shown(call.arguments)}"
    )
    approve = {
        "type": "boolean",
        "title": "Allow this call",
        "description": "Yes runs it once, with exactly these arguments.",
    }
    schema = {"type": "object", "properties": {"approve": approve}, "required": ["approve"]}
    return {"message": message, "requestedSchema": schema}


def verdict_in(answer: Any) -> bool | None:
    """
    What a person has answered; None if that was neither yes nor no.

    Accepting alone is not enough: the form has to say yes, so that nothing which accepts whatever
    comes can have said it.
    """
    if not isinstance(answer, dict):
        return None
    if answer.get("action") == "decline":
        return False
    content = answer.get("content")
    approve = content.get("approve") if isinstance(content, dict) else None
    is_clear = answer.get("action") == "accept" and isinstance(approve, bool)
    return approve if is_clear else None


def shown(arguments: Json) -> str:
    """Arguments as a person sees them: one on a line, redacted, and cut where they are long."""
    lines: list[str] = []
    room = LONGEST
    for rank, (name, value) in enumerate(arguments.items()):
        line = f"  {_short(printable(name))}: {_short(_shown_value(name, value))}"
        room -= len(line)
        if room < 0:
            lines.append(f"  ... and {len(arguments) - rank} more that are not shown")
            break
        lines.append(line)
    return "\n".join(lines) or "  none"


def printable(text: str) -> str:
    """*text* on one line, with every character that does not show itself as an escape."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _shown_value(name: str, value: Any) -> str:
    ((key, kept),) = redacted({name: value}).items()
    if key == OMITTED:
        return f"(not shown: {kept})"
    return printable(json.dumps(kept, ensure_ascii=False))


def _short(text: str) -> str:
    if len(text) <= LONGEST_VALUE:
        return text
    return f"{text[:LONGEST_VALUE]}... (cut; {len(text):,} characters in all)"


def _defining(definition: Json) -> Json:
    return {key: definition[key] for key in DEFINING if key in definition}

"""
Matching a URI against an RFC 6570 template, as far as resource templates use it.

    test://{id}/data      {id} is one path segment
    file:///{+path}       {+path} and {#x} may hold slashes
    x://list{?page,size}  a query is optional, and its order does not matter

Templates come from servers, and a regular expression made from a stranger's text can take hours to
match. So the places in the URI that can be reached are followed part by part, which takes no more
steps than the URI has characters for each part.
"""

import re
from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

_EXPRESSION = re.compile(r"\{([+#./;?&]?)([^{}]*)\}")
_SEGMENT: Final = re.compile(r"[^/?#]*")
_PATH: Final = re.compile(r"[^?#]*")
_QUERY: Final = re.compile(r"[^#]*")
_ANYTHING: Final = re.compile(r".*", re.DOTALL)
_RUNS: Final = {"+": _ANYTHING, "#": _ANYTHING, "?": _QUERY, "&": _QUERY}


class _Part(NamedTuple):
    """Fixed text, or an expression: what it may begin with, and the characters it may hold."""

    text: str
    run: re.Pattern[str] | None = None
    is_optional: bool = False


def matches(template: str, uri: str) -> bool:
    """Whether *uri* can be made from *template*."""
    reached: Collection[int] = (0,)
    for part in _parts(template):
        reached = _after(part, uri, reached)
        if not reached:
            return False
    return len(uri) in reached


@lru_cache(maxsize=10_000)
def weight(template: str) -> int:
    """How specific a template is: the number of characters it fixes."""
    return len(_EXPRESSION.sub("", template))


@lru_cache(maxsize=10_000)
def _parts(template: str) -> tuple[_Part, ...]:
    parts: list[_Part] = []
    end = 0
    for expression in _EXPRESSION.finditer(template):
        parts.append(_Part(template[end : expression.start()]))
        parts.append(_expression(expression[1], expression[2]))
        end = expression.end()
    parts.append(_Part(template[end:]))
    return tuple(part for part in parts if part.text or part.run)


def _expression(operator: str, variables: str) -> _Part:
    run = _RUNS.get(operator, _SEGMENT)
    if operator == "/" and ("*" in variables or "," in variables):
        run = _PATH
    text = "" if operator == "+" else operator
    return _Part(text, run, is_optional=bool(text) or (not operator and "*" in variables))


def _after(part: _Part, uri: str, places: Collection[int]) -> Collection[int]:
    """Where in the URI one can be after a part, from any of *places*."""
    begun = [place + len(part.text) for place in places if uri.startswith(part.text, place)]
    if part.run is None:
        return begun
    reached = set(places) if part.is_optional else set[int]()
    least = 0 if part.is_optional else 1
    end = -1
    for place in sorted(begun):
        # A place inside a run leads nowhere that the beginning of the run does not.
        if place > end and (run := part.run.match(uri, place)):
            end = run.end()
            reached.update(range(place + least, end + 1))
    return reached

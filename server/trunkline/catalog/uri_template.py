"""
Matching a URI against an RFC 6570 template, as far as resource templates use it.

    test://{id}/data      {id} is one path segment
    file:///{+path}       {+path} and {#x} may hold slashes
    x://list{?page,size}  a query is optional, and its order does not matter
"""

import re
from functools import lru_cache
from typing import Final

_EXPRESSION = re.compile(r"\{([+#./;?&]?)([^{}]*)\}")
_RESERVED: Final = {"+": ".+", "#": "(?:#.*)?"}


@lru_cache(maxsize=10_000)
def pattern_of(template: str) -> re.Pattern[str]:
    """The URIs a template can expand to, as a pattern for `fullmatch`."""
    parts: list[str] = []
    end = 0
    for expression in _EXPRESSION.finditer(template):
        parts.append(re.escape(template[end : expression.start()]))
        parts.append(_part(expression[1], expression[2]))
        end = expression.end()
    parts.append(re.escape(template[end:]))
    return re.compile("".join(parts), re.DOTALL)


def weight(template: str) -> int:
    """How specific a template is: the number of characters it fixes."""
    return len(_EXPRESSION.sub("", template))


def _part(operator: str, variables: str) -> str:
    if operator in _RESERVED:
        return _RESERVED[operator]
    if operator in ("?", "&"):
        return rf"(?:{re.escape(operator)}[^#]*)?"
    if operator in (".", "/", ";"):
        names = len(variables.split(","))
        more = "*" if "*" in variables else f"{{0,{names}}}"
        return rf"(?:{re.escape(operator)}[^/?#]*){more}"
    return "[^/?#]*" if "*" in variables else "[^/?#]+"

"""
The arguments of a call as the audit may have them: no secrets, and no more than a page.

What a key calls secret, and what looks like a token, is replaced; long texts and large arguments
are shortened. The hash beside them is over the arguments as they were.
"""

import json
import math
import re
from typing import Any, Final

from trunkline.security.masking.masking import MASK, SECRETS

LONGEST: Final = 500
"""Characters that are kept of one text."""

SCANNED: Final = 4_000
"""Characters of it that are searched for secrets first."""

MOST: Final = 16_384
"""Characters of JSON that are kept of one call."""

NODES: Final = 2_000
"""Values that are looked at. Arguments with more are left out."""

DEEPEST: Final = 32

_SECRET_KEY = re.compile(
    r"pass(word|wd|phrase|code)|pwd|secret|token|credential|cookie|bearer|signature|authoriz"
    r"|auth(?!or)|(api|access|private|secret|encryption)[-_ ]?key|\b(otp|pin|cvv|cvc|ssn)\b",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\b(sk|pk|rk)[-_][\w-]{16,}"
    r"|\bgh[opsur]_\w{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}"
    r"|\bxox[a-z]-[\w-]{10,}|\bAKIA[0-9A-Z]{12,}|\bAIza[\w-]{20,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*"
    r"|\b(?=\w*\d)(?=\w*[A-Za-z])[\w+/]{40,}={0,2}",
    re.DOTALL,
)


class _TooMuchError(Exception):
    """There are more values than are looked at."""


def redacted(arguments: Any) -> Any:
    """A copy of JSON that holds no secret, as far as that can be seen, and is of bounded size."""
    try:
        kept = _Redaction().of(arguments, 0)
    except _TooMuchError:
        return {"trunkline/omitted": f"more than {NODES:,} values"}
    size = len(json.dumps(kept))
    return kept if size <= MOST else {"trunkline/omitted": f"{size:,} characters"}


class _Redaction:
    def __init__(self) -> None:
        self._left = NODES

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > DEEPEST:
            raise _TooMuchError
        match value:
            case str():
                return _text(value)
            case dict():
                return {
                    _text(str(key)): MASK if _hides(key, inner) else self.of(inner, depth + 1)
                    for key, inner in value.items()
                }
            case list() | tuple():
                return [self.of(inner, depth + 1) for inner in value]
            case float() if not math.isfinite(value):
                return str(value)  # JSON has no word for it
            case None | bool() | int() | float():
                return value
            case _:
                return f"<{type(value).__name__}>"


def _hides(key: Any, value: Any) -> bool:
    """Whether a value is secret because its key says so."""
    if value is None or value == "" or isinstance(value, bool):
        return False
    return _SECRET_KEY.search(str(key)[:LONGEST]) is not None


def _text(text: str) -> str:
    masked = _TOKEN.sub(MASK, SECRETS.mask(text[:SCANNED]))
    if len(text) <= SCANNED and len(masked) <= LONGEST:
        return masked
    return f"{masked[:LONGEST]}… ({len(text):,} characters)"

"""
What is secret, and how it is kept out of everything that is shown.

Two nets. The first knows the secrets themselves: those of the configuration and the settings, and
the credentials of people that are in use. The second knows what secrets look like, for those that
nobody has told us of. Both replace; neither refuses: a log line with a hole is better than none.

Known values are looked up by their last characters, which differ where the first ones are a prefix
that all tokens of a kind share, at every place of a text: the cost depends on the text alone and
not on how many secrets there are, and learning one costs next to nothing.

What a tool answers is never touched: it belongs to whoever called.
"""

import json
import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

MASK: Final = "***"

SHORTEST: Final = 8
"""Characters a value must have to be looked for: shorter ones are in every other word."""

PASSING: Final = 20_000
"""Credentials of people that are remembered at a time; the ones met longest ago go first."""

_PATTERNS: Final = (
    # RFC 6750 and RFC 7617: what follows the scheme, and is no word.
    (
        re.compile(r"(?i)\b(Bearer|Basic|Token)(\s+|%20)(?=\S{0,99}\d|\S{20})[\w.~+/=-]{8,}"),
        rf"\1 {MASK}",
    ),
    # Trunkline's own keys.
    (re.compile(r"\btk_[A-Za-z0-9]+_[A-Za-z0-9_-]{8,}"), f"tk_{MASK}"),
    # RFC 7519: a header that begins with {" in base64, and two more parts.
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}\.[\w-]*"), MASK),
    # RFC 3986: the password in an authority. It may hold an @ that nobody has quoted.
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/\"'<>]+@", re.IGNORECASE), rf"\1:{MASK}@"),
)
_HINT = re.compile(r"bearer|basic|token|tk_|eyJ|://", re.IGNORECASE)
"""What every pattern needs, looked for first: most texts have none of it."""


class Secrets:
    """The secrets this process knows of."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._lengths: dict[str, Counter[int]] = {}
        """The last `SHORTEST` characters -> how long the values are that end so."""

        self._owned: dict[str, frozenset[str]] = {}
        self._passing: OrderedDict[str, None] = OrderedDict()

    def learn(self, owner: str, values: Iterable[str]) -> None:
        """Take *values* for all the secrets of *owner*: a server of mcp.json, or the settings."""
        new = frozenset(form for value in values for form in _forms(value))
        old = self._owned.pop(owner, frozenset())
        if new:
            self._owned[owner] = new
        for value in new:
            self._add(value)
        for value in old - new:
            self._drop(value)

    def meet(self, values: Iterable[str]) -> None:
        """Remember the credentials of somebody for as long as there is room."""
        for value in values:
            for form in _forms(value):
                self._passing[form] = None
                self._passing.move_to_end(form)
                self._add(form)
        while len(self._passing) > PASSING:
            self._drop(self._passing.popitem(last=False)[0])

    def mask(self, text: str) -> str:
        """*text* without any secret."""
        if len(text) < SHORTEST:
            return text
        text = self._mask_known(text)
        if _HINT.search(text):
            for pattern, instead in _PATTERNS:
                text = pattern.sub(instead, text)
        return text

    def mask_all(self, value: Any) -> Any:
        """A JSON value or a log event with every text in it masked; other objects become text."""
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, Mapping):
            return {self.mask_all(name): self.mask_all(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.mask_all(inner) for inner in value]
        return value if value is None or isinstance(value, int | float) else self.mask(repr(value))

    def _mask_known(self, text: str) -> str:
        if not self._values:
            return text
        parts: list[str] = []
        kept = 0
        for start, end in _merged(self._spans(text)):
            parts += text[kept:start], MASK
            kept = end
        return "".join((*parts, text[kept:])) if parts else text

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Where known values stand; they may overlap."""
        lengths_of = self._lengths.get
        return [
            (end - length, end)
            for end in range(SHORTEST, len(text) + 1)
            for length in lengths_of(text[end - SHORTEST : end], ())
            if length <= end and text[end - length : end] in self._values
        ]

    def _add(self, value: str) -> None:
        if value not in self._values:
            self._values.add(value)
            self._lengths.setdefault(value[-SHORTEST:], Counter())[len(value)] += 1

    def _drop(self, value: str) -> None:
        if value in self._passing or any(value in values for values in self._owned.values()):
            return
        self._values.discard(value)
        lengths = self._lengths[value[-SHORTEST:]]
        lengths[len(value)] -= 1
        if not lengths[len(value)]:
            del lengths[len(value)]
        if not lengths:
            del self._lengths[value[-SHORTEST:]]


SECRETS: Final = Secrets()
"""What this process knows of. There is one, as there is one log: errors are shown by whoever
catches them, long after whatever knew the secret has ended."""


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans of a text without those that overlap: they become one."""
    begun: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if begun is None or start >= begun[1]:
            if begun is not None:
                yield begun
            begun = start, end
        else:
            begun = begun[0], max(begun[1], end)
    if begun is not None:
        yield begun


def _forms(value: str) -> set[str]:
    """How a value may be written: as it is, and as URLs, JSON and Python have it."""
    forms = {value, quote(value, safe=""), unquote(value), repr(value)[1:-1]}
    forms |= {json.dumps(value, ensure_ascii=escaped)[1:-1] for escaped in (True, False)}
    return {form for form in forms if len(form) >= SHORTEST}

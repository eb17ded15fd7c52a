"""
What a definition says beside what it is for: hidden characters, and words aimed at the model.

A finding is shown, with its place and its words; it is never a verdict. Every text that a model may
read is looked at: titles, descriptions, names, and every key and value of the schemas. A text can
be written so that no rule finds it: a clean scan is no promise, and pins are the stronger defence.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trunkline.models import Json
from trunkline.security.pins.scan_rules import RULES, Rule, Severity
from trunkline.security.pins.scan_text import (
    HIDDEN,
    escaped,
    excerpt,
    has_mixed_word,
    is_tag,
    is_variation,
    tag_text,
    unmasked,
    variation_bytes,
)

UNREAD: Final = frozenset({"icons", "_meta"})
"""Members that no model reads."""

LONGEST: Final = 200_000
"""Characters of one definition that are looked at."""

LONG: Final = 20_000
"""Characters of one text that a person may be expected to read."""

DIALECTS: Final = frozenset(
    {
        "https://json-schema.org/draft/2020-12/schema",
        "http://json-schema.org/draft-07/schema#",
    }
)
"""Texts that nearly every schema has, and that say nothing."""

MOST: Final = 20
"""Findings kept of one definition."""

ENCODED: Final = 24
"""Letters that a blob has to have before it is decoded."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, and where."""

    kind: str
    severity: Severity
    where: str
    """The member, such as `inputSchema.properties.path.description`."""

    excerpt: str
    """The words, on one line, with what is hidden in them as codes."""

    why: str
    """A sentence for a person."""

    def __str__(self) -> str:
        words = f" “{self.excerpt}”" if self.excerpt else ""
        return f"{self.why} ({self.severity.name.lower()}, {self.kind}, in {self.where}:{words})"


VOID: Final = 100
"""Blanks in a row that push what comes after them out of sight."""

VOID_LINES: Final = 15
"""Blank lines that do."""

_Found = Iterator[tuple[str, Severity, str, str]]
"""Kind, severity, excerpt and why."""

_FLAG = re.compile("\U0001f3f4[\U000e0061-\U000e007a\U000e0030-\U000e0039]{3,6}\U000e007f")
"""A regional flag, the one honest use of tag characters (Unicode TR51, ED-14a)."""

_BLOB = re.compile(rf"[A-Za-z0-9+/_-]{{{ENCODED},}}={{0,2}}")
_VOID = re.compile(rf"[^\S\n]{{{VOID}}}|\n(?:[^\S\n]{{0,{VOID}}}\n){{{VOID_LINES - 1}}}")
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINERS: Final = frozenset("\u200c\u200d\u200e\u200f\u061c")


def scan(definition: Json) -> tuple[Finding, ...]:
    """What is to be known of a tool, prompt or resource before it is trusted. The worst first."""
    texts = [text for key, value in definition.items() if key not in UNREAD for text in _all(value)]
    suspicion = Suspicion.of("\n".join(texts)[: LONGEST + 1])
    if not suspicion:
        return ()
    found, left = list[Finding](), LONGEST
    for path, text in _placed(definition):
        found += scan_text(path, text[:left], suspicion)
        left -= len(text) + 1
        if left <= 0:
            why = f"It has more than {LONGEST:,} characters; what comes after was not looked at."
            found.append(Finding("length", Severity.HIGH, path, "", why))
            break
    found.sort(key=lambda one: -one.severity)
    return tuple(found[:MOST])


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What a text may have, found out fast and for many texts at once."""

    rules: Sequence[Rule]
    """Those that match somewhere."""

    is_hidden: bool
    """Whether there are characters that nobody sees."""

    is_mixed: bool
    """Whether there is a word of several scripts."""

    has_blobs: bool
    """Whether there is encoded text."""

    is_long: bool
    """Whether there is more than anybody reads, or room to hide in."""

    @classmethod
    def of(cls, text: str) -> "Suspicion":
        """What there is to look for in *text*, or in the texts it was joined of by line feeds."""
        plain = " ".join(unmasked(text).split())
        low = plain.lower()
        hints = {hint for hint in _HINTS if hint in low}
        rules = [one for one in RULES if all(map(hints.intersection, one.hints))]
        return cls(
            [one for one in rules if one.pattern.search(plain)],
            HIDDEN.search(text) is not None,
            not text.isascii() and has_mixed_word(text) is not None,
            any(_decoded(match[0]) for match in _BLOB.finditer(text)),
            len(text) > LONG or _void(text) is not None,
        )

    def __bool__(self) -> bool:
        return bool(self.rules or self.is_hidden or self.is_mixed or self.has_blobs or self.is_long)


def scan_text(where: str, text: str, suspicion: Suspicion | None = None) -> list[Finding]:
    """The same of one text, such as the instructions of a server."""
    if suspicion is None:
        text = text[:LONGEST]
        suspicion = Suspicion.of(text)
    found = list(_said(text, suspicion.rules))
    if suspicion.is_hidden:
        found += _hidden(text)
    if suspicion.is_mixed:
        found += _mixed(text)
    if suspicion.has_blobs:
        found += _encoded(text)
    if suspicion.is_long:
        found += _pushed_away(text)
    return [Finding(kind, severity, where, words, why) for kind, severity, words, why in found]


def _all(value: Any) -> Iterator[str]:
    """Every text in a value: keys as well as values."""
    if isinstance(value, str):
        if value not in DIALECTS:
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _all(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _all(inner)


def _placed(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text that a model may read, with its place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not path and key in UNREAD:
                continue
            place = f"{path}.{escaped(key[:60])}" if path else escaped(key[:60])
            yield f"the name of {place}", key
            yield from _placed(inner, place)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _placed(inner, f"{path}[{index}]")


_HINTS: Final = tuple(sorted({hint for rule in RULES for group in rule.hints for hint in group}))


# -- detectors ----------------------------------------------------------------------------------


def _said(text: str, rules: Sequence[Rule]) -> _Found:
    """What the words say, whatever they are dressed in."""
    if not rules:
        return
    plain, kinds = " ".join(unmasked(text).split()), set[str]()
    for rule in rules:
        if rule.kind not in kinds and (match := rule.pattern.search(plain)) is not None:
            kinds.add(rule.kind)
            yield rule.kind, rule.severity, excerpt(plain, *match.span()), rule.why


def _hidden(text: str) -> _Found:
    """Characters that nobody sees: those that speak first, then the others."""
    runs = [one for one in HIDDEN.finditer(_FLAG.sub("", text)) if not _is_honest(one)]
    if not runs:
        return
    text, everything = runs[0].string, "".join(one[0] for one in runs)
    shown = excerpt(text, *runs[0].span())
    if any(map(is_tag, everything)):
        said = tag_text(everything)
        why = "It has text in invisible characters, which the model reads"
        yield "invisible", Severity.HIGH, shown, f"{why}: “{escaped(said[:200])}”."
    elif sum(map(is_variation, everything)) > 1:
        said = escaped(variation_bytes(everything)[:200])
        why = f"It has variation selectors that vary nothing; as bytes they say “{said}”."
        yield "invisible", Severity.HIGH, shown, why
    elif any(one in _BIDI for one in everything):
        why = "It has characters that turn the order of others around: what is read is not shown."
        yield "bidi", Severity.HIGH, shown, why
    elif any(one < " " or "\x7f" <= one <= "\x9f" for one in everything):
        why = "It has control characters, which a terminal obeys instead of showing."
        yield "control", Severity.HIGH, shown, why
    else:
        number = len(everything)
        why = f"It has {number} character{'s' * (number > 1)} that nobody sees."
        severity = Severity.HIGH if number >= 8 else Severity.MEDIUM
        yield "invisible", severity, shown, why


def _is_honest(run: re.Match[str]) -> bool:
    """Whether hidden characters do what they are for: join emoji or letters, vary one symbol."""
    text, characters = run.string, run[0]
    before = text[run.start() - 1] if run.start() else ""
    after = text[run.end() : run.end() + 1]
    if all(one in _JOINERS for one in characters):
        return len(characters) == 1 and not before.isascii() and not after.isascii()
    if is_variation(characters[0]):
        rest = characters[1:]
        return bool(before) and not before.isalpha() and rest in ("", "\u200d", "\u20e3")
    return characters == "\ufeff" and run.start() == 0


def _mixed(text: str) -> _Found:
    if (word := has_mixed_word(text)) is not None:
        why = "It has a word in which letters of another script look like Latin ones."
        yield "lookalike", Severity.MEDIUM, escaped(word[:80], all_beyond_ascii=True), why


def _encoded(text: str) -> _Found:
    """Text that has been encoded: as bad as what it says."""
    for match in _BLOB.finditer(text):
        if (decoded := _decoded(match[0])) is None:
            continue
        worst = max(
            (severity for _, severity, _, _ in _said(decoded, RULES)), default=Severity.MEDIUM
        )
        why = f"It has encoded text, which says “{escaped(decoded[:200])}”."
        yield "encoded", max(worst, Severity.MEDIUM), excerpt(text, *match.span()), why
        return


def _decoded(blob: str) -> str | None:
    """What a blob says, if it is readable text; None if it is nothing, or not encoded at all."""
    for decode in (_from_hex, _from_base64):
        try:
            text = decode(blob).decode()
        except (ValueError, binascii.Error):
            continue
        letters = sum(one.isalpha() or one == " " for one in text)
        if " " in text.strip() and letters > 0.75 * len(text) and text.isprintable():
            return text
    return None


def _from_hex(blob: str) -> bytes:
    return bytes.fromhex(blob)


def _from_base64(blob: str) -> bytes:
    blob = blob.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(blob + "=" * (-len(blob) % 4), validate=True)


def _void(text: str) -> int | None:
    """Where text goes on behind a void; None if there is none."""
    # Few texts have the room, and looking takes long.
    has_room = not text.isascii() or text.count("\n") >= VOID_LINES or " " * VOID in text
    if not has_room or (match := _VOID.search(text)) is None:
        return None
    rest = text[match.end() :].lstrip()
    return len(text) - len(rest) if rest else None


def _pushed_away(text: str) -> _Found:
    """Text that stands where nobody looks: behind a void, or at the end of a book."""
    if (begin := _void(text)) is not None:
        after = excerpt(text, begin, begin + 80, around=0)
        yield "padding", Severity.MEDIUM, after, "It has text behind a void, out of sight."
    if len(text) > LONG:
        why = f"It has {len(text):,} characters, more than anybody reads."
        yield "length", Severity.MEDIUM, "", why

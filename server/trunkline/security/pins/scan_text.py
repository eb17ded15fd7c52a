"""
Text as a model reads it, and text as a person can see it.

A description is written by somebody nobody has vetted. `escaped` shows what it holds where a screen
would show nothing; `unmasked` undoes what hides words from a search: invisible characters between
letters, letters of other scripts that look alike, full-width and mathematical alphabets.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

_THEIRS: Final = (
    "аеіјорсухѕһԁԛԝкмтвнгьАВЕЅІЈКМНОРСТУХЗӀ"  # Cyrillic
    "ανορυχγικτΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"  # Greek
    "օոսցզհյ"  # Armenian
    "ıɑɡɩɪʏʀǀƖ∣٠۰’‘"  # noqa: RUF001 - Latin, signs, digits
)
_OURS: Final = "aeijopcyxshdqwkmtbhrbABESIJKMHOPCTYX3lavopuxyiktABEZHIKMNOPTYXonugqhjiagliyrlll00''"
_LOOKALIKES: Final = str.maketrans(_THEIRS, _OURS)
"""
Letters that look like others, as those: what occurs in names of the UTS #39 confusables.

The whole table has 6,300 entries, most of them in scripts that no Latin name is imitated with.
"""


HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
"""
Runs of characters that are drawn as nothing, or obeyed instead of drawn.

Unicode's Default_Ignorable_Code_Point, the controls, and blanks that are letters or patterns.
"""

_UNSEEN = re.compile(HIDDEN.pattern.removesuffix("+").replace("[", "[\r\ue000-\uf8ff", 1))
_BEYOND = re.compile(_UNSEEN.pattern + r"|[^\x00-\x7f]")
_MARKS = re.compile("[\u0300-\u036f]+")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z]")


def is_variation(character: str) -> bool:
    """Whether it only says how the character before it is drawn."""
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


def is_tag(character: str) -> bool:
    """Whether it is one of the invisible copies of ASCII (U+E0000 to U+E007F)."""
    return "\U000e0000" <= character <= "\U000e007f"


def escaped(text: str, *, all_beyond_ascii: bool = False) -> str:
    """*text* with everything that cannot be seen as its code, such as `\\u200b`."""
    if text.isascii() and text.isprintable():
        return text
    unseen = _BEYOND if all_beyond_ascii else _UNSEEN
    return unseen.sub(lambda found: _code(found[0]), text)


def excerpt(text: str, start: int, end: int, *, around: int = 40) -> str:
    """The part of *text* that something was found in, on one line, with what is hidden in it."""
    begin, stop = max(0, start - around), min(len(text), max(end, start + 1) + around)
    if stop - begin > 4 * around:
        stop = begin + 4 * around
    shown = " ".join(escaped(text[begin:stop]).split())
    return f"{'…' if begin else ''}{shown}{'…' if stop < len(text) else ''}"


def has_mixed_word(text: str) -> str | None:
    """The first word in which letters of another script stand among Latin ones; None if none."""
    for match in _WORD.finditer(text):
        word = match[0]
        if not word.isascii() and _LATIN.search(word) and any(one in _THEIRS for one in word):
            return word
    return None


@lru_cache(maxsize=4096)
def lookalike(name: str) -> str:
    """
    The skeleton of a name: equal for names that look the same (UTS #39, section 4, in small).

    Case and separators count as little as they do to somebody who skims a list.
    """
    name = plain_name(unmasked(name).replace("I", "l").replace("|", "l"))
    name = name.replace("0", "o").replace("1", "l").replace("5", "s")
    return name.replace("rn", "m").replace("vv", "w").replace("i", "l")


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """A name without case and separators: `createIssue` and `create_issue` are one."""
    return re.sub(r"[\s_.\-/:]+", "", name).lower()


def unmasked(text: str) -> str:
    """*text* as words can be looked for in it. Its length may differ."""
    if text.isascii():
        return text
    text = HIDDEN.sub("", unicodedata.normalize("NFKD", text))
    return _MARKS.sub("", text).translate(_LOOKALIKES)


def tag_text(text: str) -> str:
    """What the invisible copies of ASCII in *text* say."""
    return "".join(chr(ord(one) - 0xE0000) for one in text if "\U000e0020" <= one <= "\U000e007e")


def variation_bytes(text: str) -> str:
    """What variation selectors say that are used as bytes, as far as it is text."""
    numbers = [
        ord(one) - (0xFE00 if one <= "\ufe0f" else 0xE0100 - 16)
        for one in text
        if is_variation(one)
    ]
    return bytes(numbers).decode("utf-8", "replace")


def _code(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"

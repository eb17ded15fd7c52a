"""
Words as the lexical side of search counts them, the same for a tool's text and for a query.

    "createIssue for GitHub"  ->  creat, issu, git, hub, github
    "天気予報"                 ->  天気, 気予, 予報, 報

Identifiers are taken apart, since a person asks for "create issue" and not for `createIssue`; a
word of two parts is kept whole as well, since `GitHub` is also written `github`. Scripts that put
no spaces between words are cut into overlapping pairs of characters. English words are reduced to
their Snowball stems (M. F. Porter, 2001); a word of another language loses at most an ending that
looks English, and it loses it on both sides.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

import Stemmer

LONGEST_QUERY: Final = 10_000
"""Characters of a query that are looked at."""

MOST_TERMS: Final = 256
"""Different terms of a query that are looked for: the first ones."""

LONGEST_WORD: Final = 64
"""Characters of a word that are looked at. What is longer is data and no word."""

STOP_WORDS: Final = frozenset(
    """
    a about after all also am an and any are as at be because been before being both but by can
    could did do does doing done each either few for from further had has have having he hello
    help her here hers hey hi him his how i if in into is it its itself just kindly know let
    like me might mine more most much must my myself need needs neither no nor not of off on
    once only or other our ours out over own please same shall she should so some such than
    thank thanks that the their theirs them then there these they this those through to too
    under until up us use used uses using very want wants was we were what when where which
    while who whom whose why will with would you your yours
    """.split()  # noqa: SIM905 - words are read more easily than a list of strings
)
"""English words that say nothing of a tool, and those with which people ask for something."""

_UNSEGMENTED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Han
    "\uac00-\ud7af"  # Hangul: spaced, but its particles stick to the words
)
_INDIC = "\u0900-\u0dff"  # its vowel signs are no letters to `re`, and must not end a word
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05c7\u064b-\u065f]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(rf"(?P<run>[{_UNSEGMENTED}]+)|(?:[^\W_{_UNSEGMENTED}]|[{_INDIC}])+")


def split_terms(text: str) -> Iterator[str]:
    """The terms of *text* in their order, each as often as it occurs."""
    for match in _WORD.finditer(_fold(text)):
        word = match[0]
        if match["run"]:
            yield from (word[start : start + 2] for start in range(len(word)))
            continue
        word = word[:LONGEST_WORD]
        parts = _CAMEL.split(word)
        if len(parts) == 2:
            parts.append(word)
        for part in parts:
            if term := _term(part.casefold()):
                yield term


def query_terms(text: str) -> dict[str, float]:
    """
    The terms of a query, for `Query.terms`. Saying a word again makes it no more important.

    The work is bounded whatever comes: see `LONGEST_QUERY` and `MOST_TERMS`.
    """
    terms = dict.fromkeys(split_terms(text[:LONGEST_QUERY]), 1.0)
    return dict(islice(terms.items(), MOST_TERMS))


def _fold(text: str) -> str:
    """*text* with compatibility forms resolved and without accents."""
    if text.isascii():
        return text
    bare = _MARKS.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare)


@lru_cache(maxsize=65_536)
def _term(word: str) -> str:
    """The stem of a word in lower case; empty for a stop word, or a single character."""
    if len(word) < 2 or word in STOP_WORDS:
        return ""
    # One stemmer is not to be used by two threads, and a new one costs less than a microsecond.
    return Stemmer.Stemmer("english", 0).stemWord(word)

"""
Text to token ids: WordPiece over the vocabulary that comes along, lower case, without accents.

The algorithm is that of BERT (Devlin et al., 2019, arXiv:1810.04805; Wu et al., 2016,
arXiv:1609.08144): the longest piece that the vocabulary knows, then the longest of what is left.
Identifiers are taken apart first, since `createIssue` is two words to whoever looks for it. The
static embedding has no use for punctuation; MiniLM was trained with it.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

LONGEST_TEXT: Final = 10_000
"""Characters of a text that are looked at."""

LONGEST_WORD: Final = 100
"""Characters a word may have; what is longer is data and no word."""

KNOWN_WORDS: Final = 65_536
"""How many words' pieces are kept at hand."""

_HAN: Final = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # the vocabulary knows them one by one
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")
_WORD_OR_SIGN = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+|[^\w\s]|_")


class WordPiece:
    """A tokenizer over one vocabulary. Threads may share it."""

    def __init__(self, vocabulary: Sequence[str], *, signs: bool = False) -> None:
        """*signs*: whether punctuation is read as well."""
        self._ids = {token: number for number, token in enumerate(vocabulary)}
        self._word = _WORD_OR_SIGN if signs else _WORD
        self._pieces = lru_cache(KNOWN_WORDS)(self._split)

    def encode(self, text: str) -> list[int]:
        """The ids of *text* in order. A word that cannot be put together from pieces has none."""
        ids: list[int] = []
        for word in self._word.findall(_fold(_CAMEL.sub(" ", text[:LONGEST_TEXT]))):
            ids += self._pieces(word)
        return ids

    def _split(self, word: str) -> tuple[int, ...]:
        if len(word) > LONGEST_WORD:
            return ()
        pieces: list[int] = []
        start = 0
        while start < len(word):
            piece, start = self._longest(word, start)
            if piece is None:
                return ()
            pieces.append(piece)
        return tuple(pieces)

    def _longest(self, word: str, start: int) -> tuple[int | None, int]:
        """The id of the longest piece that begins at *start*, and where it ends."""
        for end in range(len(word), start, -1):
            piece = word[start:end] if start == 0 else f"##{word[start:end]}"
            if (known := self._ids.get(piece)) is not None:
                return known, end
        return None, len(word)


def _fold(text: str) -> str:
    """*text* in lower case and without accents."""
    if text.isascii():
        return text.lower()
    letters = unicodedata.normalize("NFD", text.lower())
    return "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")

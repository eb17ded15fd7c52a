"""
The several things that one query asks for.

"Find a flight to Oslo. Then put it into my calendar." has no one tool that answers it, and one
vector of the whole lies between the two that do. A vector of each sentence lies near each. So the
dense side is asked for every part, and an item is as near as the part it is nearest to; the lexical
side needs no parts, since terms add up.
"""

import re
from typing import Final

from trunkline.search.terms import LONGEST_QUERY

MOST_PARTS: Final = 8
"""Parts that are asked for: the first ones."""

SHORTEST: Final = 12
"""Characters. What is shorter is a greeting, or the rest of an abbreviation."""

_END = re.compile(r"(?<=[.!?;])\s+|(?<=[\u3002\uff01\uff1f\uff1b])|\n+")
"""The marks that end a sentence, those of Chinese and Japanese with no space behind them."""


def query_parts(text: str) -> list[str]:
    """The sentences of a query, to be embedded one by one; itself, if it is no more than one."""
    text = text[:LONGEST_QUERY]
    sentences = (sentence.strip() for sentence in _END.split(text))
    parts = [sentence for sentence in sentences if len(sentence) >= SHORTEST]
    return parts[:MOST_PARTS] if len(parts) > 1 else [text]

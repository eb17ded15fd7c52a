"""
What the table is taught with: something a person may ask, and the tool that answers it.

Most pairs are made of tools alone: one part of what a tool says of itself asks for the rest, put
the way people put requests. The others come from two public collections of queries, without those
that are asked when the result is measured: `held_out` takes them off.
"""

import csv
import json
import random
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trunkline.search.text import ItemText

Json = dict[str, Any]

REQUESTS: Final = (
    "{}",
    "I want to {}",
    "I need to {}",
    "Can you {}?",
    "Could you please {}?",
    "Please {}",
    "How do I {}?",
    "Help me {}",
    "I'd like to {}",
    "Is there a way to {}?",
    "I'm looking for a tool to {}",
    "Hey, can you help me {}",
    "{} for me please",
    "What is the best way to {}?",
    "My boss asked me to {}",
    "I'm working on a project and need to {}. Thanks!",
    "We are planning something next week and would like to {}",
    "Let's {}",
    "I was wondering if you could {}",
    "Do you know how to {}?",
    "Show me how to {}",
    "For my company, {} and tell me what you find",
    "I'm a student and I have to {} by tomorrow",
    "Additionally, {}",
    "My friend wants to {}. Can you assist with that?",
)

DETAILS: Final = (
    "in London",
    "for my friend Emma",
    "by tomorrow morning",
    "with the id 12345",
    "on 2023-05-14",
    "for the last 7 days",
    "from example.com",
    "in New York",
    "for $500",
    "named 'report'",
    "for user 42",
    "next Friday",
    "at 3 pm",
    "in Tokyo, Japan",
    "with John and Maria",
    "thank you so much",
    "",
)

LONGEST_REQUEST: Final = 400
LONGEST_TEXT: Final = 1_000
SHORTEST_SENTENCE: Final = 12

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_THIRD_PERSON = re.compile(r"([A-Z]?[a-z]+[a-rt-z])s")


@dataclass(frozen=True, slots=True)
class Pair:
    """A request, and the text of the tool it is for."""

    request: str
    text: str
    tool: str
    """Pairs of one tool are never held against each other."""


def read(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def text_of(tool: Json) -> str:
    """What is embedded of a tool: what a running Trunkline would embed."""
    title = tool.get("server_title") or ""
    return ItemText.of("tools", tool, server=tool["server"], server_title=title).dense


def from_tools(tools: Sequence[Json], count: int, seed: int) -> list[Pair]:
    """About *count* pairs made of what the tools say of themselves."""
    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
    distinct = {(tool["name"], (tool["description"] or "")[:200]): tool for tool in tools}
    rounds = max(1, count // len(distinct))
    pairs: list[Pair] = []
    for tool in distinct.values():
        for request, text in (_ask(tool, rng) for _ in range(rounds)):
            if request.strip() and text.strip():
                pairs.append(Pair(_dress(request, rng), text[:LONGEST_TEXT], tool["id"]))
    return pairs


def from_metatool(path: Path, tools: Sequence[Json], held_out: Collection[str]) -> list[Pair]:
    """The queries of MetaTool's `all_clean_data.csv` that are not *held_out*."""
    texts = {tool["id"]: text_of(tool) for tool in tools}
    with path.open(encoding="utf-8", newline="") as file:
        asked = [(row["Query"], [row["Tool"]]) for row in csv.DictReader(file)]
    return list(_known(asked, texts, held_out))


def from_sealtools(path: Path, tools: Sequence[Json], held_out: Collection[str]) -> list[Pair]:
    """The queries of Seal-Tools' `dev.jsonl` that are not *held_out*."""
    texts = {tool["id"]: text_of(tool) for tool in tools}
    asked = [(row["query"], [call["api"] for call in row["calling"]]) for row in read(path)]
    return list(_known(asked, texts, held_out))


def _known(
    asked: Sequence[tuple[str, list[str]]], texts: Mapping[str, str], held_out: Collection[str]
) -> Iterator[Pair]:
    for query, tools in asked:
        if query.strip() not in held_out:
            yield from (Pair(query.strip(), texts[tool], tool) for tool in tools if tool in texts)


def _ask(tool: Json, rng: random.Random) -> tuple[str, str]:
    """One part of a tool, and another part to be found by it."""
    title, name = tool.get("server_title") or tool["server"], _spaced(tool["name"])
    description = (tool["description"] or "").strip()
    sentences = _sentences(description)
    kind = rng.random()
    if kind < 0.35 and sentences:  # a sentence asks for the name and the other sentences
        asked = rng.choice(sentences) if rng.random() < 0.4 else sentences[0]
        rest = " ".join(sentence for sentence in sentences if sentence is not asked)
        server = f"{title}: " if rng.random() < 0.8 else ""
        return _imperative(asked), f"{server}{tool['name']}. {rest}"
    if kind < 0.6:  # the name asks for the description
        extra = _parameters(tool, rng) if rng.random() < 0.3 else ""
        where = _spaced(title) if rng.random() < 0.3 else ""
        server = f"{title}: " if rng.random() < 0.5 else ""
        own = f"{tool['name']}. " if rng.random() < 0.3 else ""
        return " ".join(filter(None, (name, extra, where))), f"{server}{own}{description}"
    if kind < 0.75:  # the parameters ask for a text that does not name them
        extra = _parameters(tool, rng)
        return f"{name} {extra}" if rng.random() < 0.5 or not extra else extra, text_of(tool)
    if kind < 0.85:  # the server's own description asks for one of its tools
        about = _sentences(tool.get("server_description") or "")
        return rng.choice(about) if about else f"{title} {name}", text_of(tool)
    words = re.findall(r"\w+", _spaced(text_of(tool)))  # half of the words ask for the others
    rng.shuffle(words)
    half = min(len(words) // 2, 12)
    return " ".join(words[:half]), " ".join(words[half:])


def _dress(request: str, rng: random.Random) -> str:
    """*request* as people ask, more often than not."""
    request = request[:LONGEST_REQUEST].rstrip(".")
    if rng.random() < 0.6:
        request = rng.choice(REQUESTS).format(request)
        if rng.random() < 0.5:
            request = f"{request} {rng.choice(DETAILS)}"
    return request


def _parameters(tool: Json, rng: random.Random) -> str:
    """One to three of a tool's parameters, by what is said of them or by name."""
    properties = (tool.get("input_schema") or {}).get("properties") or {}
    names = rng.sample(sorted(properties), min(len(properties), rng.randint(1, 3)))
    words: list[str] = []
    for name in names:
        said = properties[name].get("description") if isinstance(properties[name], dict) else ""
        words.append(str(said) if said and rng.random() < 0.7 else _spaced(name))
    return " ".join(words)


def _sentences(text: str) -> list[str]:
    parts = (part.strip() for part in _SENTENCE_END.split(text))
    return [part for part in parts if len(part) > SHORTEST_SENTENCE]


def _spaced(name: str) -> str:
    return re.sub(r"[\W_]+", " ", _CAMEL.sub(" ", name)).strip().lower()


def _imperative(sentence: str) -> str:
    """`Creates an issue` as somebody would ask for it: `create an issue`."""
    first, _, rest = sentence.partition(" ")
    if (verb := _THIRD_PERSON.fullmatch(first)) and first.lower() not in {"this", "as", "its"}:
        first = verb[1]
    return f"{first.lower() if first[1:].islower() else first} {rest}".strip()

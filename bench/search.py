"""
How often the right tools are found, and how fast: Trunkline next to FastMCP's own search transform.

    python -m bench.search [--data DIR] [--embedding default|minilm|none] [--every N] [--no-scale]

Each set is a folder with `tools.jsonl` (id, server, name, description, input_schema) and
`queries.jsonl` (query, relevant ids). Then the same questions are asked of a catalog to which
sixteen thousand other tools were added; what answers among those counts as wrong, even where it
would do. Everything runs on the same queries, one after the other, in one process.
"""

import argparse
import asyncio
import json
import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from fastmcp.server.transforms.search import base, bm25
from fastmcp.tools.base import Tool

from trunkline import logs, naming
from trunkline.index.in_process import InProcessIndex
from trunkline.index.index import Point, Query, Ref
from trunkline.search.embedding.embedding import Embedding
from trunkline.search.parts import query_parts
from trunkline.search.terms import query_terms
from trunkline.search.text import ItemText

SETS: Final = ("stabletoolbench", "metatool", "sealtools")
DISTRACTORS: Final = "toucan_catalogue"
SCALE_EVERY: Final = 5
"""Of so many queries one is asked at scale: the other side needs a tenth of a second for each."""

DEEPEST: Final = 10
BATCH: Final = 512

Json = dict[str, Any]
Set = tuple[list[Json], list[Json]]
"""Tools and queries."""

Finder = Callable[[str], Awaitable[list[str]]]
"""A query in, the ids of the best tools out."""


@dataclass
class Tally:
    """The figures of one contender on one set."""

    recall: dict[int, list[float]] = field(default_factory=lambda: {1: [], 5: [], DEEPEST: []})
    ndcg: list[float] = field(default_factory=list[float])
    seconds: list[float] = field(default_factory=list[float])

    def add(self, found: Sequence[str], relevant: set[str], seconds: float) -> None:
        for depth, values in self.recall.items():
            values.append(len(relevant.intersection(found[:depth])) / len(relevant))
        gains = [1 / math.log2(rank + 2) for rank in range(5)]
        got = sum(gain for gain, one in zip(gains, found, strict=False) if one in relevant)
        self.ndcg.append(got / sum(gains[: len(relevant)]))
        self.seconds.append(seconds)

    def figures(self) -> list[float]:
        """Recall at 1, 5 and 10, nDCG at 5, all of a hundred; milliseconds at the median."""
        means = [statistics.fmean(values) for values in (*self.recall.values(), self.ndcg)]
        return [100 * mean for mean in means] + [1000 * statistics.median(self.seconds)]


def read(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def fastmcp(tools: Sequence[Json]) -> Finder:
    """FastMCP's `BM25SearchTransform`: its text of a tool, its index, its ranking."""
    # It is private there: what is public would first list and authorise every tool, each time.
    index = bm25._BM25Index()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    read = base._extract_searchable_text  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    index.build([read(as_fastmcp(tool)) for tool in tools])

    async def find(query: str) -> list[str]:
        return [tools[place]["id"] for place in index.query(query, DEEPEST)]

    return find


def as_fastmcp(tool: Json) -> Tool:
    """A tool as FastMCP has it when its server is mounted under its name."""
    name = f"{tool['server']}_{tool['name']}" if tool["server"] else tool["name"]
    schema = tool.get("input_schema") or {}
    return Tool(name=naming.fit(name), description=tool["description"], parameters=schema)


async def fill(tools: Sequence[Json], embedding: Embedding | None) -> InProcessIndex:
    index = InProcessIndex(embedding.dimensions if embedding else 1)
    texts = [
        ItemText.of(
            "tools",
            {
                "name": tool["name"],
                "description": tool["description"],
                "inputSchema": tool.get("input_schema"),
            },
            server=tool["server"],
            server_title=tool.get("server_title") or "",
        )
        for tool in tools
    ]
    for start in range(0, len(tools), BATCH):
        batch = texts[start : start + BATCH]
        if embedding:
            vectors = await embedding.embed([text.dense for text in batch])
        else:
            vectors = np.zeros((len(batch), 1), np.float32)
        await index.upsert(
            [
                Point(
                    ref=Ref(None, "tools", tool["server"], tool["id"]),
                    vector=vector,
                    terms=text.count_terms(),
                )
                for tool, text, vector in zip(tools[start:], batch, vectors, strict=False)
            ]
        )
    return index


def trunkline(index: InProcessIndex, embedding: Embedding | None, *, lexical: bool) -> Finder:
    """One of our strategies, from the words of the query to the matches."""

    async def find(query: str) -> list[str]:
        vector = await embedding.embed(query_parts(query), query=True) if embedding else None
        terms = query_terms(query) if lexical else {}
        asked = Query(org=None, vector=vector, terms=terms, limit=DEEPEST)
        return [match.ref.own_name for match in await index.search(asked)]

    return find


async def contenders(tools: Sequence[Json], embedding: Embedding | None) -> dict[str, Finder]:
    index = await fill(tools, embedding)
    finders = {
        "FastMCP BM25": fastmcp(tools),
        "lexical": trunkline(index, None, lexical=True),
    }
    if embedding:
        finders["semantic"] = trunkline(index, embedding, lexical=False)
        finders["hybrid"] = trunkline(index, embedding, lexical=True)
    return finders


async def measure(finder: Finder, queries: Sequence[Json]) -> Tally:
    tally = Tally()
    await finder(queries[0]["query"])  # whatever is loaded at first use
    for query in queries:
        started = time.perf_counter()
        found = await finder(query["query"])
        tally.add(found, set(query["relevant"]), time.perf_counter() - started)
    return tally


def load(name: str) -> Embedding | None:
    """The embedding of that name. Imported here: a run without one needs none of it."""
    if name == "default":
        from trunkline.search.embedding.static import StaticEmbedding

        return StaticEmbedding()
    if name == "minilm":
        from trunkline.search.embedding.minilm import MiniLMEmbedding

        return MiniLMEmbedding()
    return None


def show(name: str, contender: str, figures: Sequence[float]) -> None:
    one, five, ten, ndcg, milliseconds = figures
    line = f"{name:18}{contender:14}{one:7.1f}{five:7.1f}{ten:7.1f}{ndcg:8.1f}{milliseconds:9.2f}"
    print(line, flush=True)  # noqa: T201 - this is what it is for


async def compare(
    sets: Mapping[str, Set], more: Sequence[Json], embedding: Embedding | None, every: int
) -> None:
    """Ask every contender the queries of each set, with *more* tools beside the set's own."""
    print(f"{'':32}{'R@1':>7}{'R@5':>7}{'R@10':>7}{'nDCG@5':>8}{'ms':>9}")  # noqa: T201 - see above
    columns: defaultdict[str, list[list[float]]] = defaultdict(list)
    for name, (tools, queries) in sets.items():
        for contender, finder in (await contenders([*tools, *more], embedding)).items():
            figures = (await measure(finder, queries[::every])).figures()
            show(name, contender, figures)
            columns[contender].append(figures)
    for contender, of_sets in columns.items():
        show("mean", contender, [statistics.fmean(one) for one in zip(*of_sets, strict=True)])


async def run(data: Path, embedding: Embedding | None, every: int, *, scale: bool) -> None:
    sets = {
        name: (read(data / name / "tools.jsonl"), read(data / name / "queries.jsonl"))
        for name in SETS
    }
    print("Each set by itself")  # noqa: T201 - see above
    await compare(sets, [], embedding, every)
    if scale:
        more, every = read(data / DISTRACTORS / "tools.jsonl"), every * SCALE_EVERY
        print(f"\nAmong {len(more)} other tools, one query of {every}")  # noqa: T201 - see above
        await compare(sets, more, embedding, every)


def default_data() -> Path:
    named = os.environ.get("TRUNKLINE_RETRIEVAL")
    return Path(named) if named else Path(__file__).parents[2] / "shared" / "retrieval"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how well tools are found.")
    parser.add_argument("--data", type=Path, default=default_data(), help="folder of the sets")
    parser.add_argument("--embedding", choices=["default", "minilm", "none"], default="default")
    parser.add_argument("--every", type=int, default=1, help="ask one query of so many")
    parser.add_argument("--no-scale", action="store_true", help="leave out the large catalog")
    asked = parser.parse_args()
    missing = [name for name in (*SETS, DISTRACTORS) if not (asked.data / name).is_dir()]
    if missing:
        where = f"{asked.data} has no {', '.join(missing)}"
        print(f"Nothing measured: {where}. Name the folder with --data.")  # noqa: T201 - see above
        return
    logs.configure("error")
    asyncio.run(run(asked.data, load(asked.embedding), asked.every, scale=not asked.no_scale))


if __name__ == "__main__":
    main()

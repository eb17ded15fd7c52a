"""
How well tables find tools: the sets of `bench.search`, through the index that serves.

    python -m tools.embedding.evaluate --data DIR TABLES... [--distractors] [--every N]

TABLES are folders that `train` wrote. One line for each, and in it for each set Recall@5 by terms
alone, by vectors alone, and by both.
"""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from bench import search

from trunkline import logs
from trunkline.search.embedding.static import StaticEmbedding


async def recall(
    tools: Sequence[search.Json], queries: Sequence[search.Json], folder: Path
) -> list[float]:
    """Recall@5 by terms, by vectors, and by both."""
    embedding = StaticEmbedding(folder)
    index = await search.fill(tools, embedding)
    finders = (
        search.trunkline(index, None, lexical=True),
        search.trunkline(index, embedding, lexical=False),
        search.trunkline(index, embedding, lexical=True),
    )
    return [(await search.measure(finder, queries)).figures()[1] for finder in finders]


async def compare(asked: argparse.Namespace) -> None:
    distractors = asked.data / search.DISTRACTORS / "tools.jsonl"
    more = search.read(distractors) if asked.distractors else []
    print(f"{'':40}" + "".join(f"{name:>24}" for name in search.SETS) + f"{'mean':>24}")  # noqa: T201
    for folder in asked.tables:
        rows: list[list[float]] = []
        for name in search.SETS:
            tools = search.read(asked.data / name / "tools.jsonl")
            queries = search.read(asked.data / name / "queries.jsonl")
            rows.append(await recall([*tools, *more], queries[:: asked.every], folder))
        rows.append([sum(column) / len(column) for column in zip(*rows, strict=True)])
        cells = (f"{terms:8.1f}{vectors:8.1f}{both:8.1f}" for terms, vectors, both in rows)
        print(f"{folder!s:40}" + "".join(cells), flush=True)  # noqa: T201 - this is what it is for


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure tables of the static embedding.")
    parser.add_argument("tables", type=Path, nargs="+", help="folders that train wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--distractors", action="store_true", help="add the large catalogue")
    parser.add_argument("--every", type=int, default=1, help="ask one query of so many")
    logs.configure("error")
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()

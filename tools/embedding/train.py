"""
Make the tables of the static embedding.

    python -m tools.embedding.train \\
        --start DIR --retrieval DIR --metatool FILE --sealtools FILE --out DIR

README.md says where the inputs come from and what to expect. Every seed is fixed: the same inputs
give the same tables, up to the rounding of the machine's arithmetic.
"""

import argparse
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from tools.embedding import pairs
from tools.embedding.pairs import Pair
from tools.embedding.table import REQUEST, TOOL, Bags, Floats, Table, count, unit

from trunkline.search.embedding.static import MATRIX, VOCABULARY, WEIGHTS
from trunkline.search.embedding.wordpiece import WordPiece
from trunkline.search.parts import query_parts

EVALUATED: Final = ("stabletoolbench", "metatool", "sealtools")
"""The sets whose queries are for measuring, and never for learning."""

SEED: Final = 1
PAIRS_FROM_TOOLS: Final = 45_000
SHARE_FROM_TOOLS: Final = 0.7
"""Of the batches. The others are divided evenly among the collections."""

STEPS: Final = 600
BATCH: Final = 400
RATE: Final = 8e-3
WEIGHT_RATE: Final = 3e-3
WARM_UP: Final = 50
"""Steps until the rates are full; from then on they fall to nothing."""

LEFT_OUT: Final = 0.1
"""Of a text's tokens, in every batch others: so that none is relied on."""

KEPT: Final = 0.5
"""How far the result goes from the start to what was learnt: see `Table.between`."""


@dataclass(frozen=True, slots=True)
class Start:
    """The tokens and rows to begin with."""

    tokens: list[str]
    rows: Floats

    @classmethod
    def read(cls, folder: Path) -> Self:
        """A model2vec folder: one matrix in safetensors, and a WordPiece vocabulary."""
        data = (folder / "model.safetensors").read_bytes()
        header = 8 + int.from_bytes(data[:8], "little")
        shape = json.loads(data[8:header])["embeddings"]["shape"]
        rows = np.frombuffer(data[header:], np.float32).reshape(shape)
        ids = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
        return cls(sorted(ids, key=ids.__getitem__), rows)


class Lessons:
    """Pairs as bags, to draw batches from."""

    def __init__(self, taught: Sequence[Pair], tokenizer: WordPiece, start: Start) -> None:
        width = len(start.tokens)
        texts = count(tokenizer, [pair.text for pair in taught], width)
        asked = [query_parts(pair.request) for pair in taught]
        near = unit(texts @ start.rows)[0]
        for number, parts in enumerate(asked):
            if len(parts) > 1:  # of several sentences, the one that is about this tool
                rows = unit(count(tokenizer, parts, width) @ start.rows)[0]
                asked[number] = [parts[int(np.argmax(rows @ near[number]))]]
        requests = count(tokenizer, [part for (part,) in asked], width)
        kept = (np.diff(texts.indptr) > 0) & (np.diff(requests.indptr) > 0)
        self._texts, self._requests = texts[kept], requests[kept]
        self._tools = np.unique([pair.tool for pair in taught], return_inverse=True)[1][kept]
        self._said = np.unique([pair.text for pair in taught], return_inverse=True)[1][kept]

    def draw(self, rng: np.random.Generator) -> tuple[Bags, Bags, NDArray[np.bool_]]:
        """The texts and the requests of a batch, and which pairs are no mistakes."""
        size = len(self._tools)
        drawn = rng.choice(size, min(BATCH, size), replace=False)
        tools, said = self._tools[drawn], self._said[drawn]
        same = (tools[:, None] == tools) | (said[:, None] == said)
        np.fill_diagonal(same, val=False)
        return _thin(self._texts[drawn], rng), _thin(self._requests[drawn], rng), same


def teach(table: Table, lessons: Sequence[Lessons]) -> None:
    """Draw from the first of *lessons* most of the time, and from the others evenly."""
    rng = np.random.default_rng(SEED)
    others = [(1 - SHARE_FROM_TOOLS) / max(1, len(lessons) - 1)] * (len(lessons) - 1)
    shares = [1 - sum(others), *others]
    for step in range(STEPS):
        speed = min(1.0, (step + 1) / WARM_UP) * (1 - step / STEPS)
        texts, requests, same = lessons[rng.choice(len(lessons), p=shares)].draw(rng)
        table.learn(texts, requests, same, rate=RATE * speed, weight_rate=WEIGHT_RATE * speed)


def write(table: Table, tokens: Sequence[str], folder: Path) -> None:
    """The three files that `StaticEmbedding` reads."""
    steps = np.maximum(np.abs(table.rows).max(1), 1e-9) / 127
    weights = np.exp(table.weights[[TOOL, REQUEST]]) * steps
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / MATRIX, np.round(table.rows / steps[:, None]).astype(np.int8))
    np.save(folder / WEIGHTS, (weights / weights.mean()).astype(np.float32))
    (folder / VOCABULARY).write_text("\n".join(tokens), "utf-8")


def _thin(bags: Bags, rng: np.random.Generator) -> Bags:
    thinned = bags.copy()
    thinned.data = thinned.data * (rng.random(len(thinned.data)) >= LEFT_OUT)
    return thinned


def _held_out(retrieval: Path) -> set[str]:
    files = [retrieval / name / "queries.jsonl" for name in EVALUATED]
    return {query["query"].strip() for file in files for query in pairs.read(file)}


def _lessons(asked: argparse.Namespace, held_out: Collection[str]) -> list[list[Pair]]:
    """What to teach: the tools themselves, then each collection that is not left out."""

    def tools(name: str) -> list[pairs.Json]:
        return pairs.read(asked.retrieval / name / "tools.jsonl")

    lessons = [pairs.from_tools(tools("toucan_catalogue"), PAIRS_FROM_TOOLS, SEED)]
    if "metatool" not in asked.without:
        lessons.append(pairs.from_metatool(asked.metatool, tools("metatool"), held_out))
    if "sealtools" not in asked.without:
        lessons.append(pairs.from_sealtools(asked.sealtools, tools("sealtools"), held_out))
    return lessons


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the tables of the static embedding.")
    parser.add_argument("--start", type=Path, required=True, help="folder of potion-base-8M")
    parser.add_argument("--retrieval", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--metatool", type=Path, required=True, help="MetaTool: all_clean_data.csv")
    parser.add_argument("--sealtools", type=Path, required=True, help="Seal-Tools: dev.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tables")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["metatool", "sealtools"],
        help="teach nothing of this collection: to measure on it as on one never seen",
    )
    parser.add_argument("--plain", action="store_true", help="teach nothing at all")
    asked = parser.parse_args()

    start = Start.read(asked.start)
    table = Table(start.rows)
    if not asked.plain:
        tokenizer = WordPiece(start.tokens)
        taught = _lessons(asked, _held_out(asked.retrieval))
        print("pairs:", *map(len, taught))  # noqa: T201 - this is what it is for
        teach(table, [Lessons(some, tokenizer, start) for some in taught])
    write(table.between(start.rows, KEPT), start.tokens, asked.out)


if __name__ == "__main__":
    main()

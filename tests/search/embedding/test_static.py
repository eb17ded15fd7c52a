"""The embedding that comes along."""

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trunkline.search.embedding.embedding import Embedding
from trunkline.search.embedding.static import DATA, MATRIX, VOCABULARY, WEIGHTS, StaticEmbedding
from trunkline.search.embedding.wordpiece import WordPiece

pytestmark = pytest.mark.anyio

TOOLS = [
    "GitHub: create_issue. Create a new issue in a repository.",
    "GitHub: merge_pull_request. Merge a pull request.",
    "Gmail: sendMessage. Send an email to one or more recipients.",
    "Calendar: create_event. Create an event and invite attendees.",
    "Weather: getForecast. Temperature and rain for the coming days.",
    "Postgres: run_query. Execute a SQL statement against the database.",
    "Slack: post_message. Post to a channel.",
    "Filesystem: read_file. Read the contents of a file from disk.",
    "Maps: directions. Find the route between two places.",
    "Stripe: create_refund. Refund a charge to the customer.",
    "Translate: translate_text. Translate text into another language.",
    "Spotify: search_tracks. Find songs by title or artist.",
]

REQUESTS = {
    "Hi, could you please report a bug for me in our repo?": "create_issue",
    "Write an e-mail to Anna and tell her I will be late": "sendMessage",
    "put a meeting with Bob on Thursday at 3 pm": "create_event",
    "will I need an umbrella in Lyon tomorrow?": "getForecast",
    "give the client his money back": "create_refund",
    "how do I get from the station to the museum": "directions",
    "what does this say in French": "translate_text",
    "play something by Miles Davis": "search_tracks",
}
"""Everyday requests that share no telling word with the tool they need."""


@pytest.fixture(scope="module")
def embedding() -> StaticEmbedding:
    return StaticEmbedding()


async def test_it_is_an_embedding(embedding: Embedding) -> None:
    rows = await embedding.embed(TOOLS)

    assert rows.shape == (len(TOOLS), embedding.dimensions)
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("request_", REQUESTS)
async def test_an_everyday_request_finds_its_tool(
    request_: str, embedding: StaticEmbedding
) -> None:
    tools = await embedding.embed(TOOLS)
    asked = await embedding.embed([request_], query=True)

    best = np.argsort(-(tools @ asked[0]))[:3]

    assert any(REQUESTS[request_] in TOOLS[n] for n in best)


async def test_an_identifier_is_read_as_its_words(embedding: StaticEmbedding) -> None:
    rows = await embedding.embed(
        ["createPullRequest", "create_pull_request", "create-pull-request", "Create pull request"]
    )

    assert np.allclose(rows, rows[0], atol=1e-6)


async def test_words_of_politeness_weigh_little_in_a_query(embedding: StaticEmbedding) -> None:
    asked = await embedding.embed(
        ["refund a charge", "Hi, could you please help me to refund a charge? Thanks!"], query=True
    )

    assert asked[0] @ asked[1] > 0.8


async def test_a_query_and_a_tool_are_weighted_differently(embedding: StaticEmbedding) -> None:
    text = ["Please find the latest invoices of the customer"]

    as_tool, as_query = await embedding.embed(text), await embedding.embed(text, query=True)

    assert not np.allclose(as_tool, as_query)


@pytest.mark.parametrize("text", ["", " \n\t", "😀🎉🔥", "!?...", "\x00", "a" * 100_000, "ყველა"])
async def test_a_text_that_says_nothing_is_a_row_of_zeros(
    text: str, embedding: StaticEmbedding
) -> None:
    rows = await embedding.embed([text, "send an email"], query=True)

    assert not rows[0].any()
    assert np.isclose(np.linalg.norm(rows[1]), 1)


@pytest.mark.parametrize(
    "text",
    [
        "send mail " * 10_000,
        "créer une tâche",
        "天気予報を教えて",
        "Отправить письмо",
        "🔥 send 🔥 mail 🔥",
        "\ud800 lone surrogate",
        "İstanbul ﬁle ①②③",
    ],
)
async def test_no_text_breaks_it(text: str, embedding: StaticEmbedding) -> None:
    rows = await embedding.embed([text])

    assert np.isclose(np.linalg.norm(rows[0]), 1)


def test_a_word_is_put_together_from_its_longest_pieces() -> None:
    tokenizer = WordPiece(["play", "##ing", "ing", "##i", "天"])

    assert tokenizer.encode("Playing ing") == [0, 1, 2]
    assert tokenizer.encode("playin, 天天") == [4, 4]


async def test_accents_and_case_make_no_difference(embedding: StaticEmbedding) -> None:
    rows = await embedding.embed(["café MENU", "cafe menu"])

    assert np.allclose(rows[0], rows[1])


async def test_no_texts_are_no_rows(embedding: StaticEmbedding) -> None:
    assert (await embedding.embed([])).shape == (0, embedding.dimensions)


async def test_a_text_has_one_vector_however_many_come_with_it(embedding: StaticEmbedding) -> None:
    alone = [(await embedding.embed([text]))[0] for text in TOOLS]

    together = await embedding.embed(TOOLS * 100)

    assert np.array_equal(together, np.tile(np.stack(alone), (100, 1)))


async def test_many_texts_leave_the_event_loop_to_others() -> None:
    """One turn of the loop is all another task asks for: it must get it before the work is done."""
    finished: list[str] = []

    async def index() -> None:
        await StaticEmbedding().embed(TOOLS * 400)
        finished.append("index")

    async def call() -> None:
        await asyncio.sleep(0)
        finished.append("call")

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(index())
        group.create_task(call())

    assert finished == ["call", "index"]


async def test_tasks_may_share_one_that_has_read_nothing_yet() -> None:
    embedding = StaticEmbedding()
    rows: list[NDArray[np.float32]] = []

    async def ask() -> None:
        rows.append(await embedding.embed(TOOLS))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ask())

    assert all(np.array_equal(row, rows[0]) for row in rows)


def test_making_one_reads_nothing(tmp_path: Path) -> None:
    StaticEmbedding(tmp_path / "missing")


def test_it_needs_nothing_of_the_other_two() -> None:
    """Whoever uses the default pays for no HTTP client and for no runtime of networks."""
    program = (
        "import sys, trunkline.search.embedding.static; "
        "sys.exit(not {'httpx', 'onnxruntime', 'stamina'}.isdisjoint(sys.modules))"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_tables_fit_each_other_and_into_the_wheel() -> None:
    tokens = (DATA / VOCABULARY).read_text("utf-8").split("\n")
    matrix, weights = np.load(DATA / MATRIX), np.load(DATA / WEIGHTS)

    assert matrix.dtype == np.int8
    assert matrix.shape == (len(tokens), StaticEmbedding.dimensions)
    assert weights.shape == (2, len(tokens))
    assert np.isfinite(weights).all()
    assert len(set(tokens)) == len(tokens)
    assert sum(file.stat().st_size for file in DATA.iterdir()) < 10_000_000


def test_other_tables_have_another_name() -> None:
    """Vectors are kept by `model`: under the old name, old ones would be compared with new ones."""
    files = [DATA / name for name in (VOCABULARY, MATRIX, WEIGHTS)]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    assert (StaticEmbedding.model, digest[:16]) == ("trunkline-static-1", "eb2556eca9a9ac2c")

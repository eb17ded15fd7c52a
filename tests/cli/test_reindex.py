"""`trunkline reindex` and what `check` says of the index, run as programs beside Qdrant."""

import asyncio
import json
import os
import pty
import subprocess
from collections.abc import AsyncIterator

import anyio
import pytest
from tests.cli.conftest import LIMIT, Workplace
from tests.cli.test_search import POST
from tests.index.qdrant_stand_in import StandIn, Status, stand_in

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # in local mode
]

ITEMS = 3
"""What the plugin has: two tools and a prompt."""


@pytest.fixture
def post(workplace: Workplace) -> Workplace:
    """A place with one plugin and no server."""
    workplace.configure({})
    workplace.add_plugin("post", POST)
    return workplace


@pytest.fixture
async def qdrant() -> AsyncIterator[StandIn]:
    async with stand_in() as qdrant:
        yield qdrant


async def run(
    place: Workplace, qdrant: StandIn, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """A command beside the stand-in, which lives in this process and has to answer meanwhile."""
    return await asyncio.to_thread(place.run, *arguments, QDRANT_URL=qdrant.url)


async def collection(qdrant: StandIn) -> str:
    """The one that searches find."""
    (alias,) = (await qdrant.store.get_aliases()).aliases
    return alias.collection_name


async def count(qdrant: StandIn) -> int:
    return (await qdrant.store.count(await collection(qdrant))).count


def test_without_qdrant_there_is_nothing_to_do_and_that_is_said(workplace: Workplace) -> None:
    workplace.configure({})

    shown, told = workplace.run("reindex"), workplace.run("reindex", "--json")

    assert (shown.returncode, told.returncode) == (0, 0)
    assert "without QDRANT_URL" in shown.stdout
    assert json.loads(told.stdout) == {"items": None, "drift": None}


async def test_what_somebody_took_out_of_qdrant_is_filled_in_again(
    post: Workplace, qdrant: StandIn
) -> None:
    assert (await run(post, qdrant, "check")).returncode == 0
    await qdrant.store.delete(await collection(qdrant), [1])
    before = await count(qdrant)

    done = await run(post, qdrant, "reindex")

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ITEMS} items in the index. Drift: none.\n"
    assert (before, await count(qdrant)) == (ITEMS - 1, ITEMS)


async def test_an_index_that_does_not_agree_afterwards_is_a_failure_that_names_the_drift(
    post: Workplace, qdrant: StandIn
) -> None:
    assert (await run(post, qdrant, "check")).returncode == 0
    await qdrant.store.delete(await collection(qdrant), [1])
    lost = Status(200, body=b'{"result":{"operation_id":0,"status":"completed"}}')
    qdrant.always_fail("upsert", lost)

    done = await run(post, qdrant, "reindex", "--json")

    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["items"] == ITEMS
    assert told["drift"].startswith("1 missing (the first is post: ")


async def test_a_qdrant_that_does_not_answer_is_a_sentence(
    post: Workplace, qdrant: StandIn
) -> None:
    await qdrant.stop()
    done = await run(post, qdrant, "reindex")
    await qdrant.start()

    assert done.returncode == 1
    assert "Qdrant does not answer" in done.stderr
    assert "[index_unavailable]" in done.stderr
    assert "Traceback" not in done.stderr


async def test_without_the_embedding_nothing_is_filled_in_and_that_is_said(
    post: Workplace, qdrant: StandIn
) -> None:
    variables = {"QDRANT_URL": qdrant.url, "EMBEDDING_URL": "http://127.0.0.1:1/v1"}
    done = await asyncio.to_thread(post.run, "reindex", **variables)

    assert done.returncode == 1
    assert "The index was not filled: the embedding does not answer" in done.stderr
    assert qdrant.seen("switch") == []


async def test_somebody_who_watches_sees_how_far_it_is(post: Workplace, qdrant: StandIn) -> None:
    assert (await run(post, qdrant, "check")).returncode == 0

    shown = await on_terminal(post, qdrant, "reindex")

    assert "Indexing" in shown
    assert "100%" in shown


async def on_terminal(place: Workplace, qdrant: StandIn, *arguments: str) -> str:
    """What a command writes to the terminal that its stderr is."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(  # noqa: ASYNC220 - it is only started here
        place.command(*arguments),
        cwd=place.folder,
        env=place.environment | {"QDRANT_URL": qdrant.url, "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        with anyio.fail_after(LIMIT):
            while True:
                await anyio.wait_readable(ours)
                shown += os.read(ours, 65536)
    except OSError:  # how the end of a terminal is told
        pass
    finally:
        os.close(ours)
        process.kill()
        await asyncio.to_thread(process.wait)
    return shown.decode()


# -- check ----------------------------------------------------------------------------------------


def test_check_tells_how_much_can_be_found(post: Workplace) -> None:
    shown, told = post.run("check"), json.loads(post.run("check", "--json").stdout)

    assert f"Search (in process): {ITEMS} items can be found" in shown.stdout
    assert (told["index"], told["found"], told["index_trouble"]) == ("in process", ITEMS, None)


async def test_check_waits_for_what_is_on_its_way_to_qdrant(
    post: Workplace, qdrant: StandIn
) -> None:
    done = await run(post, qdrant, "check")

    assert done.returncode == 0, done.stdout
    assert f"Search (Qdrant): {ITEMS} items can be found" in done.stdout
    assert await count(qdrant) == ITEMS


async def test_check_names_how_qdrant_differs_from_the_catalog(
    post: Workplace, qdrant: StandIn
) -> None:
    await run(post, qdrant, "check")
    await qdrant.store.delete(await collection(qdrant), [1])

    done = await run(post, qdrant, "check")

    assert done.returncode == 1
    assert "It differs from the catalog: 1 missing (the first is post: " in done.stdout


async def test_check_says_that_qdrant_is_away(post: Workplace, qdrant: StandIn) -> None:
    await qdrant.stop()
    done = await run(post, qdrant, "check", "--json")
    await qdrant.start()

    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["verdict"] == "degraded"
    assert "[index_unavailable]" in told["index_trouble"]
    assert told["found"] == ITEMS


async def test_a_search_goes_on_without_qdrant_and_says_so(
    post: Workplace, qdrant: StandIn
) -> None:
    await qdrant.stop()
    done = await run(post, qdrant, "search", "send a letter")
    await qdrant.start()

    assert done.returncode == 0
    assert "post__send_letter" in done.stdout
    assert "did not answer" in done.stdout

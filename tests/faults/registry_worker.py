"""
A process that stores one listing, to be killed while it does.

    python -m tests.faults.registry_worker FOLDER ROUND

It takes part in the server of the folder, as its owner if nobody else is. It prints a line when it
begins, and a line when the database has said that all of it is stored.
"""

import asyncio
import random
import sys
from pathlib import Path
from typing import Final

from trunkline import logs
from trunkline.models import KINDS
from trunkline.settings import DatabaseSettings
from trunkline.storage.embedded import embedded_postgres
from trunkline.storage.pool import Database, open_pool
from trunkline.storage.repositories.listings import Listed, ListingRepository
from trunkline.storage.rows import Item

TOOLS: Final = 5_000
OTHERS: Final = 100
"""Items of each of the other kinds."""

SETTINGS: Final = DatabaseSettings(connect_timeout=60, statement_timeout=120)


def listing(turn: int) -> Listed:
    """
    What the server lists in a round: of every kind some stay, come, go, move and change.

    Nothing changes into what it was in the round before, so an outbox that was empty has to end
    with exactly one errand for each difference.
    """
    return Listed(
        name="mail",
        origin="file",
        config={"source": "/mcp.json"},
        position=0,
        about={"instructions": f"This is round {turn}."},
        items={kind: _items(turn, TOOLS if kind == "tools" else OTHERS) for kind in KINDS},
    )


def _items(turn: int, count: int) -> list[Item]:
    """A tenth comes and a tenth goes with every round, and some are elsewhere in the list."""
    first = turn % 2 * count // 10
    dice = random.Random(turn)
    items = [_item(number, turn) for number in range(first, first + count)]
    for _ in range(count // 100):
        items.insert(dice.randrange(count), items.pop(dice.randrange(count)))
    return items


def _item(number: int, turn: int) -> Item:
    """Half of them stay as they are; a third of the others has another name in every round."""
    own = f"item{number}"
    said = 0 if number % 2 else turn
    name = f"{own}_{turn}" if number % 6 == 0 else own
    return Item(own, name, {"name": own, "description": f"Said in round {said}. " * 10})


async def store(database: Database, turn: int) -> None:
    """Store the list of one round."""
    await ListingRepository(database).sync(None, listing(turn))


async def main(folder: Path, turn: int) -> None:
    logs.configure("error")
    async with embedded_postgres(folder) as dsn, open_pool(dsn, SETTINGS) as database:
        await database.wait_available(SETTINGS.connect_timeout)
        say("begins")
        await store(database, turn)
        say("has ended")


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

"""Every statement of sql/queries, against the real schema."""

import asyncpg
import pytest

from trunkline.models import KINDS
from trunkline.storage.queries import SQL, load, load_for

pytestmark = pytest.mark.anyio


async def test_every_statement_can_be_prepared(pool: asyncpg.Pool) -> None:
    files = sorted(path.name for path in (SQL / "queries").glob("*.sql"))
    statements = {
        f"{file}: {name}": text
        for file in files
        if file != "items.sql"
        for name, text in load(file).items()
    }
    for kind in KINDS:
        statements |= {f"{kind}: {name}": text for name, text in load_for(kind).items()}
    broken: dict[str, str] = {}

    async with pool.acquire() as connection:
        for name, text in statements.items():
            try:
                await connection.prepare(text)
            except asyncpg.PostgresError as error:
                broken[name] = str(error)

    assert len(statements) > 60
    assert broken == {}

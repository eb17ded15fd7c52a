"""A server for the session, a template that is migrated once, and a database for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.storage.postgres import Cluster, cluster
from trunkline.storage import migrations


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    with cluster() as running:
        yield running


@pytest.fixture(scope="session")
def template(postgres: Cluster) -> str:
    """A database with the whole schema, to be copied."""

    async def migrate() -> None:
        admin = await asyncpg.connect(postgres.dsn("postgres"))
        await admin.execute("CREATE DATABASE trunkline_template")
        await admin.close()
        connection = await asyncpg.connect(postgres.dsn("trunkline_template"))
        await migrations.up(connection)
        await connection.close()

    asyncio.run(migrate())
    return "trunkline_template"


@pytest.fixture
async def empty_dsn(postgres: Cluster) -> AsyncIterator[str]:
    """The address of a database without a schema."""
    async with postgres.database() as dsn:
        yield dsn


@pytest.fixture
async def connection(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database without a schema."""
    connection = await asyncpg.connect(empty_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def pool(postgres: Cluster, template: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on a migrated database of this test's own."""
    async with (
        postgres.database(template) as dsn,
        asyncpg.create_pool(dsn, min_size=1, max_size=8) as pool,
    ):
        yield pool

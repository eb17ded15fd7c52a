"""An office for each test."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.api.office import Office, open_office


@pytest.fixture
async def office(tmp_path: Path) -> AsyncGenerator[Office]:
    async with open_office(tmp_path) as opened:
        yield opened

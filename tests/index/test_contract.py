"""The index in this process keeps the promises of every index."""

import pytest

from tests.index.contract import DIMENSIONS, IndexContract
from trunkline.index.in_process import InProcessIndex
from trunkline.index.index import Index


class TestInProcessIndex(IndexContract):
    @pytest.fixture
    def index(self) -> Index:
        return InProcessIndex(DIMENSIONS)

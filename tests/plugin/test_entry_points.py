"""Plugins of installed distributions, found through their entry points."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from tests.plugin.conftest import Open

pytestmark = pytest.mark.anyio


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[None]:
    """A distribution with three entry points, on the import path as `pip install` leaves it."""
    site = tmp_path / "site"
    metadata = site / "trunkline_shop-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: trunkline-shop\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(
        dedent("""
            [trunkline.plugins]
            shop = trunkline_shop_for_tests:plugin
            till = trunkline_shop_for_tests:register_till
            gone = trunkline_shop_for_tests:nothing
        """)
    )
    (site / "trunkline_shop_for_tests.py").write_text(
        dedent("""
            from trunkline import Plugin

            plugin = Plugin("shop")

            @plugin.tool
            def buy() -> str: return "bought"

            async def register_till(mcp):
                @mcp.tool
                def pay() -> str: return "paid"
        """)
    )
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    yield
    sys.path.remove(str(site))
    sys.modules.pop("trunkline_shop_for_tests", None)


@pytest.mark.usefixtures("installed")
async def test_entry_points_offer_plugins_and_functions(open_host: Open) -> None:
    async with open_host() as watched:
        names = [plugin.name for plugin in watched.host.plugins]
        answers = [await watched.call("shop", "buy"), await watched.call("till", "pay")]
        failure = watched.failure("gone")

    assert names == ["shop", "till"]
    assert answers == ["bought", "paid"]
    assert failure is not None
    assert "the entry point gone = trunkline_shop_for_tests:nothing" in failure.sentence

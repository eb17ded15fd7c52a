"""
The tools of 38 real servers.

Their names are here, in tests/data. Their full definitions are looked for beside the checkout, or
where `TRUNKLINE_REAL_CATALOGUE` says.
"""

import json
import os
from pathlib import Path

from tests.catalog.shelf import tool
from trunkline.models import Json

ROOT = Path(__file__).parents[2]
NAMES = ROOT / "tests" / "data" / "real_names.json"
LISTS = Path(os.environ.get("TRUNKLINE_REAL_CATALOGUE", ROOT.parent / "shared/real_catalogue"))


def load_names() -> dict[str, list[Json]]:
    servers: dict[str, list[str]] = json.loads(NAMES.read_text())
    return {server: [tool(name) for name in own] for server, own in servers.items()}


def load_lists() -> dict[str, list[Json]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(LISTS.glob("*.json"))}


def real_lists() -> dict[str, list[Json]]:
    """The full definitions where there are any, else tools of the same names."""
    return load_lists() or load_names()

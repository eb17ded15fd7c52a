"""The threat model says how each threat is met, and names a test that exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.partition("## Threats")[2].splitlines()
    if line.startswith("|") and not re.match(r"\|[-| ]+\|$|\| threat ", line)
]
TESTS = [test for row in ROWS for test in re.findall(r"`(tests/[^`]+)`", row[-1])]


def test_every_row_has_a_threat_a_defence_and_a_test() -> None:
    assert len(ROWS) > 30
    for row in ROWS:
        assert len(row) == 3, row
        assert all(row), row
        assert re.search(r"`tests/", row[-1]), row


@pytest.mark.parametrize("named", TESTS)
def test_every_test_that_is_named_exists(named: str) -> None:
    file, _, name = named.partition("::")
    path = ROOT / file

    assert path.is_file()
    functions = {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name in functions if name else any(one.startswith("test_") for one in functions)

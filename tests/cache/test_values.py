"""How a value lies in Redis."""

import json
import zlib
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.cache.values import COMPRESSED, HEADER, decode, encode, stamp_of

STAMP: Final = b"sixteen bytes ok"

JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_every_json_value_comes_back_as_it_was(value: Any) -> None:
    data = encode(value, STAMP)

    assert stamp_of(data) == STAMP
    assert json.dumps(decode(data)) == json.dumps(value)


@given(st.binary(max_size=200))
def test_whatever_bytes_are_found_the_worst_is_an_error_that_is_caught(data: bytes) -> None:
    try:
        decode(data)
    except ValueError:
        pass


def test_long_values_are_compressed_and_short_ones_are_not() -> None:
    assert len(encode("x" * 100_000, STAMP)) < 1000
    assert encode("short", STAMP)[HEADER:] == b'"short"'


def test_a_value_that_would_unfold_without_end_is_refused() -> None:
    bomb = zlib.compress(b"0" * 200_000_000)

    with pytest.raises(ValueError, match="larger than any"):
        decode(bytes((COMPRESSED,)) + STAMP + bomb)


def test_a_compressed_value_that_was_cut_off_is_refused() -> None:
    data = encode("".join(map(str, range(10_000))), STAMP)

    with pytest.raises(ValueError, match="cut off"):
        decode(data[:-10])


def test_real_lists_of_tools_are_kept_whole() -> None:
    for path in (Path(__file__).parents[1] / "data").rglob("*.json"):
        value = json.loads(path.read_text())
        assert decode(encode(value, STAMP)) == value

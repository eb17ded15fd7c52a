"""
How a value lies in Redis: what it was made under, and JSON.

    1 byte    the schema, 1 for JSON and 2 for compressed JSON
    16 bytes  the stamp: the generations that were there when it was computed
    the rest  the value

JSON, because `pydantic_core` is here, keeps integers of any size, and is as fast as msgpack for
what is kept here, with 12 % more bytes. Long values are compressed: a list of tools to a quarter.
Whatever bytes are found, nothing is run and nothing larger than `LARGEST` is made of them.
"""

import zlib
from typing import Any, Final

from trunkline import wire

STAMP_SIZE: Final = 16
PLAIN: Final = 1
COMPRESSED: Final = 2
HEADER: Final = 1 + STAMP_SIZE

WORTHWHILE: Final = 16 * 1024
"""Bytes from which on a value is compressed: below, time counts for more than room."""

LARGEST: Final = 64 * 1024 * 1024
"""Bytes a compressed value may unfold to."""


def encode(value: Any, stamp: bytes) -> bytes:
    """The bytes to keep. Raises `ValueError` for what JSON cannot say."""
    data = wire.encode(value)
    if len(data) < WORTHWHILE:
        return bytes((PLAIN,)) + stamp + data
    return bytes((COMPRESSED,)) + stamp + zlib.compress(data, 1)


def is_ours(data: bytes) -> bool:
    """Whether it looks like something that `encode` has made."""
    return len(data) > HEADER and data[0] in {PLAIN, COMPRESSED}


def stamp_of(data: bytes) -> bytes:
    """What the value was made under. Any bytes have a stamp; only ours have the right one."""
    return data[1:HEADER]


def decode(data: bytes) -> Any:
    """The value again. Raises `ValueError` if the bytes are not ours."""
    if not is_ours(data):
        raise ValueError("not a value of this schema")
    body = data[HEADER:]
    return wire.decode(body if data[0] == PLAIN else _unfold(body))


def _unfold(body: bytes) -> bytes:
    machine = zlib.decompressobj()
    try:
        data = machine.decompress(body, LARGEST)
    except zlib.error as error:
        raise ValueError("not what we compressed") from error
    if not machine.eof:
        raise ValueError("cut off, or larger than any value of ours")
    return data

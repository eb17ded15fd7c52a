"""
The content of a tool's result for a person: text as text, everything else as a note or a file.
"""

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trunkline.cli.screen import put, put_json, say
from trunkline.errors import UsageError
from trunkline.models import Json


def show_result(result: Json, output: Path | None) -> None:
    """
    Print a result; with *output*, images, audio and other binary data are written there instead.

    Raises `UsageError` if that file cannot be written.
    """
    blocks = [block for block in result.get("content") or () if isinstance(block, dict)]
    binary = sum(_data_of(block) is not None for block in blocks)
    if output is not None and not binary:
        say(f"The result holds no binary data: there is nothing to write to {output}.")
    files = _names(output, binary)
    for block in blocks:
        data = _data_of(block)
        if data is None:
            put(_text_of(block))
        elif output is None:
            put(f"[{_label(block)}, {_size(len(data))}; --output FILE saves it]")
        else:
            _write(next(files), data, block)
    if not blocks and "structuredContent" in result:
        put_json(result["structuredContent"])


def _text_of(block: Json) -> str:
    kind = block.get("type")
    if kind == "text":
        return str(block.get("text", ""))
    if kind == "resource":
        resource = block.get("resource")
        if isinstance(resource, dict) and isinstance(resource.get("text"), str):
            return resource["text"]
    if kind == "resource_link":
        return f"[link to {block.get('uri')}: {block.get('title') or block.get('name')}]"
    return f"[{_label(block)}]"


def _data_of(block: Json) -> bytes | None:
    """The binary data in a block; None if it holds none, or none that can be read."""
    resource = block.get("resource")
    data: Any = block.get("data")
    if block.get("type") == "resource" and isinstance(resource, dict):
        data = resource.get("blob")
    if not isinstance(data, str):
        return None
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return None


def _label(block: Json) -> str:
    resource = block.get("resource")
    source = resource if isinstance(resource, dict) else block
    return str(source.get("mimeType") or block.get("type") or "unknown content")


def _size(length: int) -> str:
    if length < 1000:
        return f"{length} bytes"
    return f"{length / 1e3:.1f} kB" if length < 1e6 else f"{length / 1e6:.1f} MB"


def _names(output: Path | None, number: int) -> Iterator[Path]:
    """*output*, or as many numbered files beside it."""
    if output is None or number < 2:
        return iter(() if output is None else (output,))
    return (output.with_stem(f"{output.stem}-{index + 1}") for index in range(number))


def _write(path: Path, data: bytes, block: Json) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(
            f"Cannot write {path}: {error.strerror}. Choose another --output."
        ) from error
    say(f"Wrote {path} ({_label(block)}, {_size(len(data))}).")

"""
How large a result is, and how it is cut.

What is measured is what a result holds: texts in UTF-8, base64 as it stands, everything else as
JSON. A text is cut between two characters; what is no text stays whole, on one side or the other.
"""

from collections.abc import Iterable
from typing import Any, Final

from trunkline.models import Json
from trunkline.wire import encode

SMALL: Final = frozenset({"type", "mimeType"})
"""What says of which kind an item is, and is not counted."""


def size_of(result: Json) -> int:
    """Bytes of what a result holds. Long texts are measured and not encoded."""
    size = 0
    for key, value in result.items():
        if key in ("content", "contents") and isinstance(value, list):
            size += sum(map(item_size, value))
        else:
            size += json_size(value)
    return size


def item_size(item: Any) -> int:
    """Bytes of one item of a content."""
    if not isinstance(item, dict):
        return json_size(item)
    size = 0
    for key, value in item.items():
        if isinstance(value, str):
            size += 0 if key in SMALL else _size(value)
        elif key == "resource":
            size += item_size(value)
        else:
            size += json_size(value)
    return size


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def json_size(value: Any) -> int:
    """Bytes of a value as JSON."""
    if value is None or isinstance(value, bool):
        return 4
    try:
        return len(encode(value))
    except ValueError:  # half a surrogate pair
        return len(repr(value))


def split(content: Iterable[Any], limit: int) -> tuple[list[Any], list[Json]]:
    """Items of a result that fit, the last one perhaps in part; and the rest, as contents."""
    shown: list[Any] = []
    rest: list[Json] = []
    left = limit
    for item in content:
        size = item_size(item)
        if size <= left and not rest:
            shown.append(item)
            left -= size
        elif is_text(item) and not rest:
            head, tail = _cut_text(item["text"], left)
            shown.append({"type": "text", "text": head})
            rest.append({"mimeType": "text/plain", "text": tail})
        else:
            rest.append(as_contents(item))
    return shown, rest


def _cut_text(text: str, size: int) -> tuple[str, str]:
    """A text in two, the first part of *size* bytes at most, no character in both."""
    if text.isascii():
        return text[:size], text[size:]
    data = text.encode(errors="surrogatepass")
    while size and data[size] & 0xC0 == 0x80:  # within a character (RFC 3629, section 3)
        size -= 1
    head = data[:size].decode(errors="surrogatepass")
    return head, text[len(head) :]


def as_contents(item: Any) -> Json:
    """An item of a tool's result as one of a resource's contents."""
    if isinstance(item, dict):
        if is_text(item):
            return {"mimeType": "text/plain", "text": item["text"]}
        if isinstance(item.get("data"), str):
            return {"mimeType": item.get("mimeType", ""), "blob": item["data"]}
        if isinstance(inner := item.get("resource"), dict):
            return {key: value for key, value in inner.items() if key != "uri"}
    return as_json(item)


def is_text(item: Any) -> bool:
    """Whether an item of a content is a text."""
    return (
        isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str)
    )


def as_json(value: Any) -> Json:
    """Any value as one of a resource's contents."""
    try:
        text = encode(value).decode()
    except ValueError:  # half a surrogate pair
        text = repr(value)
    return {"mimeType": "application/json", "text": text}

"""
Server-sent events: bytes in, events out, by the book (WHATWG HTML, "Server-sent events").

Lines are cut before anything is decoded, so a chunk may end anywhere, in the middle of a UTF-8
sequence or between CR and LF. An event of many megabytes costs time in proportion to its length:
every byte is looked at once and joined once.
"""

from dataclasses import dataclass
from typing import Any, Final

from trunkline.wire import decode

EVENT_LIMIT: Final = 256 * 1024 * 1024
"""Bytes one event may have: far beyond any real result, and short of exhausting memory."""

RESUME_PAUSE: Final = 1.0
"""Seconds before a stream is continued, unless the server says otherwise."""

SHORTEST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 60.0
"""Seconds before a stream is continued, whatever the server says."""

BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `data` stays undecoded: the JSON parser wants bytes."""

    type: str
    data: bytes

    def message(self) -> Any:
        """The JSON it carries. None, which no channel takes for a message, if it is no JSON."""
        try:
            return decode(self.data)
        except ValueError:
            return None


class EventParser:
    """Turns the chunks of one stream, or of one stream and its continuations, into events."""

    def __init__(self, limit: int = EVENT_LIMIT) -> None:
        self.last_id: str | None = None
        """The id to continue after; None while the stream has named none."""

        self.retry: float | None = None
        """Seconds the server wants us to wait before we continue."""

        self._limit = limit
        self.restart()

    @property
    def pause(self) -> float:
        """Seconds to wait before the stream is continued."""
        wanted = RESUME_PAUSE if self.retry is None else self.retry
        return min(max(wanted, SHORTEST_PAUSE), LONGEST_PAUSE)

    def restart(self) -> None:
        """A new stream begins. An unfinished event of the old one is forgotten."""
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._type, self._id = "", self.last_id
        self._size = 0
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[Event]:
        """
        Take the next bytes and return the events they complete.

        Raises `ValueError` when one event is longer than the limit.
        """
        if not chunk:
            return []
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF
        events: list[Event] = []
        for piece in chunk.splitlines(keepends=True):
            self._size += len(piece)
            if self._size > self._limit:
                raise ValueError(f"it sent an event of more than {self._limit} bytes.")
            self._line.append(piece)
            if piece.endswith((b"\n", b"\r")):
                line = b"".join(self._line).rstrip(b"\r\n")
                self._line.clear()
                if (event := self._take(line)) is not None:
                    events.append(event)
        self._after_cr = chunk.endswith(b"\r")
        return events

    def _take(self, line: bytes) -> Event | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(BOM)
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._type = value.decode("utf-8", "replace")
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit() and len(value) < 10:
            self.retry = int(value) / 1000
        return None

    def _dispatch(self) -> Event | None:
        """A blank line: the event is complete. Without data it only sets the id."""
        event = None
        if self._data:
            event = Event(self._type or "message", b"\n".join(self._data))
        self.last_id = self._id or None
        self._data.clear()
        self._type, self._size = "", 0
        return event

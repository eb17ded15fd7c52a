"""Server-sent events, however they are cut into chunks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.downstream.sse_events import Event, EventParser

ENDS = st.sampled_from([("\n", "\r\n"), ("\r", "\r\n")])
"""How the lines of one stream end; CR and LF as ends of their own would read as CRLF together."""

WORDS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
PLAIN = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event], str | None]:
    """A stream, the events it holds, and the last id it names."""
    text, events, last_id = draw(st.sampled_from(["", "\ufeff"])), list[Event](), ""
    end = st.sampled_from(draw(ENDS))
    for _ in range(draw(st.integers(0, 5))):
        lines: list[str] = []
        kind, data = draw(PLAIN), draw(st.lists(WORDS, max_size=3))
        if draw(st.booleans()):
            lines.append(f":{draw(WORDS)}")
        if draw(st.booleans()):
            last_id = draw(PLAIN)
            lines.append(f"id: {last_id}")
        if draw(st.booleans()):
            lines.append("id: with a \0 is ignored")
        lines += [f"event: {kind}", f"unknown: {draw(WORDS)}"]
        lines += [f"data: {line}" for line in data]
        text += "".join(line + draw(end) for line in [*lines, ""])
        if data:
            events.append(Event(kind or "message", "\n".join(data).encode()))
    return text.encode(), events, last_id or None


@given(streams(), st.data())
def test_events_are_the_same_wherever_the_chunks_end(
    stream: tuple[bytes, list[Event], str | None], data: st.DataObject
) -> None:
    text, expected, last_id = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parser = EventParser()

    events: list[Event] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        events += parser.feed(text[start:end])

    assert events == expected
    assert parser.last_id == last_id


@given(st.lists(st.binary(max_size=20)))
def test_no_bytes_are_too_strange(chunks: list[bytes]) -> None:
    whole, pieces = EventParser(), EventParser()

    in_pieces = [event for chunk in chunks for event in pieces.feed(chunk)]

    assert in_pieces == whole.feed(b"".join(chunks))


def test_an_event_is_complete_at_its_carriage_return_already() -> None:
    parser = EventParser()

    assert parser.feed(b"data: a\r\r") == [Event("message", b"a")]
    assert parser.feed(b"\ndata: b\r\n\r\n") == [Event("message", b"b")]


def test_fields_without_a_space_or_without_a_colon_count() -> None:
    assert EventParser().feed(b"data:a\ndata\ndata:  b\n\n") == [Event("message", b"a\n\n b")]


def test_an_event_without_data_sets_the_id_only() -> None:
    parser = EventParser()

    assert parser.feed(b"id: 7\n\n") == []
    assert parser.last_id == "7"


def test_an_event_that_was_not_finished_does_not_count() -> None:
    parser = EventParser()
    parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")

    parser.restart()

    assert parser.last_id == "1"
    assert parser.feed(b"data: c\n\n") == [Event("message", b"c")]
    assert parser.last_id == "1"


@pytest.mark.parametrize(("value", "seconds"), [("1500", 1.5), ("0", 0.0), ("soon", None)])
def test_retry_is_a_number_of_milliseconds(value: str, seconds: float | None) -> None:
    parser = EventParser()

    parser.feed(f"retry: {value}\n".encode())

    assert parser.retry == seconds


def test_an_endless_event_is_refused() -> None:
    parser = EventParser(limit=1_000)
    for _ in range(100):
        parser.feed(b"data: short\n\n")

    with pytest.raises(ValueError, match="more than 1000 bytes"):
        parser.feed(b"data: for ever\n" * 100)

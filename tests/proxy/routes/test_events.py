"""Events are told the same however their bytes are cut, and none is longer than fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.routes.events import BrokenStream, EventReader


def told(pieces: list[bytes], most: int = 2**20) -> list[bytes]:
    reader = EventReader(most)
    return [event for piece in pieces for event in reader.feed(piece)]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\r\n\r\ndata:  b\r\n\r\n", [b"a", b" b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": a comment\nevent: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"event: x\n\n\n\n", []),
        (b"data: a\n", []),  # it never ended
        (b"datax: a\n\n", []),
    ],
)
def test_events_are_read_as_the_standard_says(raw: bytes, events: list[bytes]) -> None:
    assert told([raw]) == events
    assert told([raw[place : place + 1] for place in range(len(raw))]) == events


@given(st.lists(st.sampled_from([b"data: a", b": c", b"\r", b"\n", b"\r\n", b"", b"data:", b"x"])))
def test_how_a_stream_is_cut_changes_nothing(parts: list[bytes]) -> None:
    raw = b"".join(parts)
    whole = told([raw])
    for size in (1, 2, 3):
        assert told([raw[place : place + size] for place in range(0, len(raw), size)]) == whole


@pytest.mark.parametrize(
    "piece", [b"a" * 10, b"data: aaa\n", b": aaaaaaa"], ids=["a line", "an event", "a comment"]
)
def test_what_has_no_end_is_refused(piece: bytes) -> None:
    with pytest.raises(BrokenStream) as caught:
        told([piece] * 100, most=100)
    assert caught.value.error_type == "too_large"


def test_comments_without_end_take_no_memory() -> None:
    assert told([b": keep-alive\n\n"] * 1000, most=100) == []

"""From pieces to text: whole characters, and nothing of a stop string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.local.spelling import Speller, piece_bytes


@pytest.mark.parametrize(
    ("piece", "byte_level", "expected"),
    [
        ("Ġthe", True, b" the"),
        ("Ã©", True, "é".encode()),
        ("Ċ", True, b"\n"),
        ("▁the", False, b" the"),
        ("<0x0A>", False, b"\n"),
    ],
)
def test_a_piece_stands_for_its_bytes(piece: str, byte_level: bool, expected: bytes) -> None:
    assert piece_bytes(piece, byte_level=byte_level) == expected


@given(st.text(), st.integers(1, 5))
def test_text_comes_out_whole_however_its_bytes_are_cut(text: str, size: int) -> None:
    data = text.encode()
    speller = Speller()
    told = [speller.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert "\ufffd" not in "".join(told).replace("\ufffd", "" if "\ufffd" in text else "\ufffd")
    assert "".join(told) + speller.finish() == text


@given(
    text=st.text(alphabet="abc", max_size=30),
    stops=st.lists(st.text(alphabet="abc", min_size=1, max_size=4), max_size=3),
    size=st.integers(1, 4),
)
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str], size: int) -> None:
    speller = Speller(stops)
    told = ""
    for at in range(0, len(text), size):
        told += speller.feed(text[at : at + size].encode())
        if speller.stopped:
            break
    told += speller.finish()
    assert text.startswith(told)
    assert not any(stop in told for stop in stops)
    assert speller.stopped == any(stop in text for stop in stops)
    if not speller.stopped:
        assert told == text


def test_a_torn_character_at_the_end_is_marked() -> None:
    speller = Speller()
    assert speller.feed("é".encode()[:1]) == ""
    assert speller.finish() == "\ufffd"

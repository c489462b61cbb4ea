"""Reading segments: windows, failures, places in the original."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.detector import Detector
from proxy.inspection.reading import OVERLAP_CHARS, WINDOW_CHARS, read_segments, windows
from proxy.types import Finding, Origin, Role, Segment, UnscannableReason
from tests.proxy.inspection.fakes import FakeDetector, LyingDetector, RaisingDetector


def a_segment(text: str, index: int = 0) -> Segment:
    return Segment(index, "messages[0].content", Role.USER, Origin.VALUE, text=text)


def read(text: str, word: str = "4111111111111111") -> tuple[Finding, ...]:
    readings, failed = read_segments([a_segment(text)], [FakeDetector(word)], ("en",))
    assert failed == ()
    return readings[0].findings


@pytest.mark.parametrize("start", [0, WINDOW_CHARS - 5, WINDOW_CHARS - OVERLAP_CHARS - 3, 20_000])
def test_finds_a_value_wherever_windows_begin_and_end(start: int) -> None:
    text = "x" * start + "NEEDLE" + "x" * 20_000
    (found,) = read(text, "NEEDLE")
    assert (found.start, found.end, found.view) == (start, start + 6, "raw")


@given(st.integers(0, 60_000))
def test_windows_cover_every_stretch_of_a_text(size: int) -> None:
    text = "ab" * (size // 2)
    made = list(windows(text))
    assert all(text[offset : offset + len(part)] == part for offset, part in made)
    ends = [offset + len(part) for offset, part in made]
    assert ends[-1] == len(text)
    for end, (following, _) in zip(ends, made[1:], strict=False):
        assert end - following == OVERLAP_CHARS


def test_places_a_decoded_value_at_its_encoding() -> None:
    run = base64.b64encode(b"card 4111111111111111").decode()
    (found,) = read(f"see {run} there")
    assert (found.start, found.end, found.view) == (4, 4 + len(run), "decode")


def test_places_a_disguised_value_at_its_characters() -> None:
    text = "card 4111\u200b1111\u200b1111\u200b1111 ok"
    (found,) = read(text)
    assert text[found.start : found.end] == "4111\u200b1111\u200b1111\u200b1111"


def test_a_detector_that_raises_leaves_its_segments_unread() -> None:
    detectors: list[Detector] = [FakeDetector("word"), RaisingDetector()]
    readings, failed = read_segments([a_segment("a word")], detectors, ("en",))
    assert failed == ("raising",)
    assert readings[0].reason is UnscannableReason.DETECTOR_FAILED


def test_a_detector_that_names_a_place_outside_the_text_has_failed() -> None:
    readings, failed = read_segments([a_segment("a word")], [LyingDetector()], ("en",))
    assert failed == ("lying",)
    assert readings[0].findings == ()
    assert readings[0].reason is UnscannableReason.DETECTOR_FAILED


def test_a_language_without_names_is_unread() -> None:
    text = "Je m'appelle Marie Dupont et j'habite \u00e0 Lyon avec ma famille."
    readings, _ = read_segments([a_segment(text)], [FakeDetector("x")], ("en",))
    assert readings[0].reason is UnscannableReason.LANGUAGE
    readings, _ = read_segments([a_segment(text)], [FakeDetector("x")], ("en", "fr"))
    assert readings[0].reason is None
    assert readings[0].language == "fr"


def test_a_long_run_that_is_no_text_is_unread() -> None:
    run = base64.b64encode(bytes(range(256)) * 4).decode()
    readings, _ = read_segments([a_segment(f"what is {run}?")], [FakeDetector("x")], ("en",))
    assert readings[0].reason is UnscannableReason.UNDECODABLE

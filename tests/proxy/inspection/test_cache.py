"""The cache of readings: keyed, bounded, and never a memory of failures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.inspection.cache import ReadingCache
from proxy.inspection.reading import Reading
from proxy.types import Origin, Role, Segment, UnscannableReason
from tests.factories import a_finding

SEGMENT = Segment(0, "messages[3].content", Role.USER, Origin.VALUE, text="Hello there.")


def test_gives_back_what_it_was_given() -> None:
    cache = ReadingCache()
    reading = Reading((a_finding(),))
    cache.put(cache.digest(SEGMENT, "v1"), reading)
    assert cache.get(cache.digest(SEGMENT, "v1")) is reading


def test_knows_a_text_again_at_another_position_of_the_list() -> None:
    cache = ReadingCache()
    moved = replace(SEGMENT, index=7, path="messages[1].content")
    assert cache.digest(SEGMENT, "v1") == cache.digest(moved, "v1")


@pytest.mark.parametrize(
    "other",
    [
        replace(SEGMENT, text="Hello there!"),
        replace(SEGMENT, role=Role.SYSTEM),
        replace(SEGMENT, origin=Origin.KEY),
        replace(SEGMENT, path="metadata.ssn"),
    ],
    ids=["text", "role", "origin", "path"],
)
def test_takes_no_other_segment_for_it(other: Segment) -> None:
    cache = ReadingCache()
    assert cache.digest(SEGMENT, "v1") != cache.digest(other, "v1")


def test_forgets_when_a_detector_changes_or_the_process_does() -> None:
    cache = ReadingCache()
    assert cache.digest(SEGMENT, "v1") != cache.digest(SEGMENT, "v2")
    assert cache.digest(SEGMENT, "v1") != ReadingCache().digest(SEGMENT, "v1")


@pytest.mark.parametrize(
    "reason", [UnscannableReason.DETECTOR_FAILED, UnscannableReason.DETECTOR_TIMEOUT]
)
def test_never_remembers_a_failure(reason: UnscannableReason) -> None:
    cache = ReadingCache()
    cache.put(b"k", Reading(reason=reason))
    assert cache.get(b"k") is None


def test_stays_within_its_bound_and_drops_what_was_used_longest_ago() -> None:
    cache = ReadingCache(max_weight=10)
    for number in range(50):
        cache.put(bytes([number]), Reading((a_finding(),)))
        cache.get(bytes([0]))
    assert len(cache) == 5
    assert cache.get(bytes([0])) is not None
    assert cache.get(bytes([49])) is not None
    assert cache.get(bytes([20])) is None

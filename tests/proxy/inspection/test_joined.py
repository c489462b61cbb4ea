"""Neighboring texts read as one: findings fall into the segments they span."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.inline import inspect_with
from proxy.inspection.joined import MAX_STRETCHES, stretches
from proxy.inspection.plan import plan
from proxy.inspection.surface import surface
from proxy.types import JSONObject, Origin, UnscannableReason
from tests.proxy.inspection.fakes import FakeDetector


def a_talk(*texts: str) -> JSONObject:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": t} for i, t in enumerate(texts)]}


def test_places_a_split_value_in_the_segments_it_spans() -> None:
    inspection = inspect_with((FakeDetector("12345678"),), ("en",), a_talk("see 1234", "5678 ok"))
    places = {(f.segment, f.start, f.end, f.view) for f in inspection.findings}
    texts = {segment.index: segment.text for segment in inspection.segments}
    assert {(texts[index] or "")[start:end] for index, start, end, _ in places} == {"1234", "5678"}
    assert {view for *_, view in places} == {"joined"}


def test_joins_what_one_speaker_said_over_another() -> None:
    body = a_talk("it is 1234", "yes?", "5678 now")
    inspection = inspect_with((FakeDetector("12345678"),), ("en",), body)
    assert len(inspection.findings) == 2


def test_numbers_too_short_to_be_segments_are_named_as_a_joined_one() -> None:
    body: JSONObject = {"messages": [], "x": [1234, 5678]}
    inspection = inspect_with((FakeDetector("12345678"),), ("en",), body)
    (finding,) = inspection.findings
    segment = inspection.segments[finding.segment]
    assert segment.origin is Origin.JOINED
    assert (segment.text or "")[finding.start : finding.end] == "12345678"
    assert segment.index == finding.segment


def test_a_talk_without_fragments_is_not_read_twice() -> None:
    body = a_talk("Name the longest river.", "It is the Volga.", "And in Asia?")
    assert stretches(body, surface(body).segments) == ()


@given(st.lists(st.text(st.sampled_from("a1@ .\n"), max_size=40), max_size=8))
def test_each_part_shows_the_text_of_its_segment(texts: list[str]) -> None:
    body: JSONObject = {"messages": [{"role": "user", "content": t} for t in texts], "x": [*texts]}
    segments = surface(body).segments
    for stretch in stretches(body, segments):
        for part in stretch.parts:
            if part.segment is not None:
                text = segments[part.segment].text or ""
                size = part.end - part.start
                own = text[part.offset : part.offset + size]
                assert stretch.text[part.start : part.end] == own


@pytest.mark.parametrize("num", [MAX_STRETCHES + 10])
def test_more_joints_than_can_be_read_make_the_request_too_long(num: int) -> None:
    planned = plan({"messages": [{"role": "user", "content": f"{n}1"} for n in range(num)]})
    assert UnscannableReason.TOO_LONG in {entry.reason for entry in planned.unscannable}
    assert len(planned.stretches) == MAX_STRETCHES

"""Neighboring texts read as one: findings fall into the segments they span."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.inline import inspect_with
from proxy.inspection.joined import MAX_STRETCHES, stretches
from proxy.inspection.plan import plan
from proxy.inspection.surface import surface
from proxy.types import JSON, JSONObject, Origin, UnscannableReason
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


def _called(*arguments: JSONObject) -> JSONObject:
    calls: list[JSON] = [
        {"type": "function", "function": {"name": "f", "arguments": json.dumps(one)}}
        for one in arguments
    ]
    return {"messages": [{"role": "assistant", "tool_calls": calls}]}


#: A card number in two pieces; the digits are a published test number's.
LEFT, RIGHT = "41111111", "11111111"

SPLIT_AT_KEYS: dict[str, JSONObject] = {
    "key and value": {"x": {LEFT: RIGHT}},
    "key and value before digits": {"x": {LEFT: RIGHT, "year": "2025"}},
    "key and value behind digits": {"x": {"12": "7", LEFT: RIGHT}},
    "two keys": {"x": {LEFT: 1, RIGHT: 1}},
    "a key below a key": {"x": {LEFT: {RIGHT: 1}}},
    "four keys below each other": {"x": {"4111": {"1111": {"1112": "1111"}}}},
    "key and number": {"x": {LEFT: int(RIGHT)}},
    "two numbers": {"x": {"a": int(LEFT), "b": int(RIGHT)}},
    "arguments": _called({"a": LEFT, "b": RIGHT}),
    "key and value of arguments": _called({LEFT: RIGHT}),
    "keys of arguments": _called({LEFT: {RIGHT: 1}}),
    "a list in arguments": _called({"a": [{"b": LEFT}, {"b": RIGHT}]}),
    "two calls": _called({"q": LEFT}, {"q": RIGHT}),
}


@pytest.mark.parametrize("body", SPLIT_AT_KEYS.values(), ids=SPLIT_AT_KEYS.keys())
def test_a_value_that_keys_or_arguments_split_is_read_as_one(body: JSONObject) -> None:
    found = stretches(body, surface(body).segments)
    assert any(re.search("41111111(11111111|11121111)", stretch.text) for stretch in found)


def test_a_result_of_many_numbers_is_not_read_twice() -> None:
    rows = [{"id": 10_000 + n, "day": f"2025-01-{n % 28 + 1:02}", "sum": n / 7} for n in range(800)]
    body: JSONObject = {"messages": [{"role": "tool", "content": json.dumps(rows)}]}
    assert len(stretches(body, surface(body).segments)) < 40


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
    body = {"messages": [{"role": "user", "content": f"{n}1"} for n in range(num)]}
    planned = plan(body, surface(body), {})
    assert UnscannableReason.TOO_LONG in {entry.reason for entry in planned.unscannable}
    assert len(planned.stretches) == MAX_STRETCHES

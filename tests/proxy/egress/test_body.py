"""The leaving bytes: every string in them was inspected, or is a word of the API."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.egress.body import build_body, count_uncleared, num_cleared
from proxy.errors import EgressDenied
from proxy.inspection.inline import inspect_with
from proxy.inspection.surface import surface
from proxy.types import Coverage, Inspection, JSONObject, Origin, Unscannable, UnscannableReason
from tests.factories import a_body


def inspected(body: JSONObject, *unscannable: Unscannable) -> Inspection:
    """An inspection that read every segment of ``body``."""
    found = surface(body)
    coverage = Coverage(found.num_strings, len(found.segments), found.num_structural, 0)
    return Inspection(found.segments, (), unscannable, coverage, ("en",), (), 1.0)


def test_asks_for_the_model_of_policy_and_leaves_bookkeeping_out() -> None:
    body = a_body(user="u1", metadata={"a": "b"}, store=True, stream=True, temperature=0.5)
    data = build_body(body, "gpt-4o-mini", inspected(body))
    assert json.loads(data) == {
        "model": "gpt-4o-mini",
        "messages": body["messages"],
        "temperature": 0.5,
    }


def test_no_client_chooses_another_model_or_recipient_at_a_gateway() -> None:
    body = a_body(
        models=["other/model"],
        provider={"order": ["somebody"]},
        route="fallback",
        plugins=[{"id": "web"}],
        fallbacks=["other/model"],
        api_base="https://example.com/v1",
    )
    data = build_body(body, "gpt-4o-mini", inspected(body))
    assert json.loads(data) == {"model": "gpt-4o-mini", "messages": body["messages"]}


@pytest.mark.parametrize(
    "more",
    [{"x": "not inspected"}, {"not inspected": 1}, {"x": 4111111111111111}, {"x": [{"y": "z z"}]}],
    ids=["value", "key", "long number", "deep"],
)
def test_refuses_what_was_not_inspected(more: dict[str, Any]) -> None:
    inspection = inspected(a_body())
    with pytest.raises(EgressDenied) as caught:
        build_body(a_body(**more), "gpt-4o-mini", inspection)
    assert "not inspected" not in str(caught.value).replace("was not inspected", "")


def test_refuses_a_text_that_was_unscannable() -> None:
    body = a_body()
    (index,) = [s.index for s in surface(body).segments if s.path.endswith("content")]
    unread = inspected(body, Unscannable(index, UnscannableReason.DETECTOR_FAILED))
    with pytest.raises(EgressDenied):
        build_body(body, "gpt-4o-mini", unread)


def test_a_file_leaves_only_where_every_text_of_it_was_read() -> None:
    body = a_body(file_data="data:text/plain;base64,SGVsbG8gdGhlcmUu")
    whole = inspect_with((), ("en",), body)
    assert json.loads(build_body(body, "gpt-4o-mini", whole))["file_data"] == body["file_data"]
    (text,) = [s.index for s in whole.segments if s.origin is Origin.FILE]
    (file,) = [s.index for s in whole.segments if s.blob is not None]
    assert text != file
    unread = replace(whole, unscannable=(Unscannable(file, UnscannableReason.LANGUAGE),))
    with pytest.raises(EgressDenied):
        build_body(body, "gpt-4o-mini", unread)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(extra=st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4))
def test_all_that_was_inspected_is_cleared_and_nothing_else(extra: dict[str, Any]) -> None:
    body = a_body(**{f"x{name}": value for name, value in extra.items()})
    data = build_body(body, "gpt-4o-mini", inspected(body))
    assert count_uncleared(data, "gpt-4o-mini", inspected(body)) == 0
    nothing = Inspection((), (), (), Coverage(0, 0, 0, 0), (), (), 0.0)
    assert count_uncleared(data, "gpt-4o-mini", nothing) > 0
    assert num_cleared(data) > 0

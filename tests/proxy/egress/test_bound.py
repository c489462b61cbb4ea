"""The bound on a request's tokens: never below what may come, and none where nobody can say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.egress.body import build_body
from proxy.egress.bound import bound
from proxy.routes.registry import ROUTES
from proxy.types import JSONObject
from tests.factories import a_body
from tests.proxy.egress.test_body import inspected

MOST = 1000
ASKED = {
    "chat.completions": a_body(),
    "completions": {"model": "ringfence", "prompt": "Name a river."},
    "responses": {"model": "ringfence", "input": "Name a river."},
    "embeddings": {"model": "ringfence", "input": ["a", "b"]},
}
OUT = {"chat.completions": MOST, "completions": 16, "responses": MOST, "embeddings": 0}


def completion_tokens(route: str = "chat.completions", **more: Any) -> int | None:
    call = ROUTES[route].abroad
    assert call is not None
    found = bound({**ASKED[route], **more}, "gpt-4o", call, MOST)
    return None if found is None else found.completion_tokens


@pytest.mark.parametrize("route", ASKED)
def test_every_route_that_leaves_is_bounded_and_what_is_forced_may_leave(route: str) -> None:
    call = ROUTES[route].abroad
    assert call is not None
    found = bound(ASKED[route], "gpt-4o", call, MOST)
    assert found is not None
    assert found.completion_tokens == OUT[route]
    forced = {**call.forced, **dict(found.forced)}
    data = build_body(ASKED[route], "gpt-4o", inspected(ASKED[route]), forced)
    assert len(data) < found.prompt_tokens
    assert {name: json.loads(data)[name] for name, _ in found.forced} == dict(found.forced)


def test_no_route_that_leaves_was_forgotten() -> None:
    assert {name for name, route in ROUTES.items() if route.abroad is not None} == set(ASKED)


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 7}, 7),
        ({"max_completion_tokens": 7, "max_tokens": 9}, 9),
        ({"max_tokens": 10**9}, MOST),
        ({"max_tokens": None}, MOST),
        ({"max_tokens": 0}, MOST),
        ({"max_tokens": 7, "n": 3}, 21),
        ({"n": 2**53}, None),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, MOST),
        ({"tools": [{"type": "web_search"}]}, None),
        ({"tools": [{"function": {"name": "f"}}]}, None),
        ({"prediction": {"type": "content", "content": "x"}}, None),
        ({"modalities": ["audio"]}, None),
        ({"something_new": 1}, None),
        ({"user": "u", "metadata": {"a": "b"}, "stream": True}, MOST),  # these do not leave
    ],
    ids=str,
)
def test_an_answer_is_no_longer_than_the_least_that_was_said(
    more: dict[str, Any], tokens: int | None
) -> None:
    assert completion_tokens(**more) == tokens


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "text", "text": "x", "image_url": "y"},
        {"type": "something_new"},
        {"type": 7},
        {"file_id": "f"},
    ],
    ids=str,
)
def test_what_is_not_text_has_no_bound(part: JSONObject) -> None:
    said = [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]
    assert completion_tokens(messages=said) is None
    assert completion_tokens("responses", input=said) is None


def test_each_prompt_and_each_try_counts() -> None:
    assert completion_tokens("completions", prompt=["a", "b"], max_tokens=5) == 10
    assert completion_tokens("completions", max_tokens=5, best_of=4, n=2) == 20
    assert completion_tokens("completions", echo=True) is None


@given(st.text(), st.lists(st.text(max_size=20), max_size=5))
@settings(max_examples=60)
def test_no_byte_of_a_request_is_forgotten(text: str, others: list[str]) -> None:
    call = ROUTES["chat.completions"].abroad
    assert call is not None
    messages = [{"role": "user", "content": said} for said in (text, *others)]
    found = bound(a_body(messages=messages), "gpt-4o", call, MOST)
    assert found is not None
    size = sum(len(said.encode("utf-8", "surrogatepass")) + 7 for said in (text, *others))
    assert found.prompt_tokens > size

"""What a chunk says: all its texts, by where they stand, whoever taught whom about the member."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.routes.saying import said_in

FRAME: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "model": "m", "created": 1}


def call(index: int, arguments: str) -> dict[str, Any]:
    function = {"name": "send", "arguments": arguments}
    return {"index": index, "id": "c1", "type": "function", "function": function}


LAST = (0, 2**31)
CHUNKS: dict[
    str, tuple[dict[str, Any], list[tuple[tuple[int, int], tuple[str | int, ...], str]]]
] = {
    "who speaks": ({"index": 0, "delta": {"role": "assistant", "content": ""}}, []),
    "content": ({"index": 1, "delta": {"content": "Hi"}}, [((1, 0), ("delta", "content"), "Hi")]),
    "refusal": ({"index": 0, "delta": {"refusal": "No"}}, [((0, 1), ("delta", "refusal"), "No")]),
    "tool calls": (
        {"index": 0, "delta": {"tool_calls": [call(0, "a"), call(2, "b")]}},
        [
            ((0, 2), ("delta", "tool_calls", 0, "function", "arguments"), "a"),
            ((0, 4), ("delta", "tool_calls", 2, "function", "arguments"), "b"),
        ],
    ),
    "a custom tool": (
        {"index": 0, "delta": {"tool_calls": [{"index": 0, "custom": {"input": "x"}}]}},
        [((0, 2), ("delta", "tool_calls", 0, "custom", "input"), "x")],
    ),
    "reasoning": (
        {"index": 0, "delta": {"reasoning_content": "Hm"}},
        [(LAST, ("delta", "reasoning_content"), "Hm")],
    ),
    "a text": (
        {"index": 3, "text": "Hi", "logprobs": {"a": "x"}},
        [((3, 0), ("text",), "Hi")],
    ),
    "a list of texts": (
        {"index": 0, "delta": {"a": ["b"]}},
        [(LAST, ("delta", "a", 0), "b")],
    ),
    "the end": ({"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "x"}, []),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_each_text_is_told_with_its_place(name: str) -> None:
    choice, told = CHUNKS[name]
    assert list(said_in({**FRAME, "choices": [choice]})) == told


def test_a_member_beside_the_choices_says_something_too() -> None:
    chunk = {**FRAME, "choices": [], "usage": {"note": "x"}, "more": {"text": "Hi"}}
    assert list(said_in(chunk)) == [((-1, 0), ("more", "text"), "Hi")]

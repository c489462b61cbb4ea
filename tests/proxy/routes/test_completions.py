"""Text completions: what is asked, read, and told as a stream."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.api.wire import parse_request
from proxy.errors import RequestError
from proxy.routes.completions import COMPLETIONS, answer, ask, check, events, read
from proxy.types import JSON, Caller, JSONObject

ANSWER: dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "small",
    "choices": [
        {
            "index": 0,
            "text": " is the Volga.",
            "logprobs": {"tokens": [" is", " the"], "token_logprobs": [-0.5, -1.5]},
            "finish_reason": "stop",
        },
        {"index": 1, "text": " is long.", "logprobs": None, "finish_reason": "length"},
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
}


def test_scores_are_asked_for_and_told_only_to_who_wants_them() -> None:
    assert ask({"prompt": "a", "user": "u", "stream": True}) == {"prompt": "a", "logprobs": 1}
    assert ask({"prompt": "a", "logprobs": 4})["logprobs"] == 4
    assert answer(ANSWER, {"logprobs": 1}) == ANSWER
    assert [one["logprobs"] for one in answer(ANSWER, {})["choices"]] == [None, None]  # type: ignore[index,union-attr,call-overload]


def test_the_draft_is_scored_only_if_every_choice_is() -> None:
    reading = read({"choices": ANSWER["choices"][:1]})
    assert reading is not None
    assert reading.token_logprobs == (-0.5, -1.5)
    both = read(ANSWER)
    assert both is not None
    assert (both.token_logprobs, both.text) == ((), " is the Volga.\n is long.")
    assert read({"choices": [{"message": {}}]}) is None
    assert COMPLETIONS.texts(ANSWER) == (" is the Volga.", " is long.")


def test_the_pieces_spell_the_text() -> None:
    body: JSONObject = {"stream": True, "stream_options": {"include_usage": True}}
    told = b"".join(events(ANSWER, body)).split(b"\n\n")
    assert told[-2:] == [b"data: [DONE]", b""]
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in told[:-2]]
    for index, choice in enumerate(ANSWER["choices"]):
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert "".join(c["text"] for c in mine) == choice["text"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        assert [c["logprobs"] for c in mine if c["logprobs"]] == (
            [choice["logprobs"]] if choice["logprobs"] else []
        )
    assert chunks[-1]["usage"] == ANSWER["usage"]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_takes_texts_and_token_ids(prompt: JSON) -> None:
    request = parse_request(
        COMPLETIONS,
        {"model": "m", "prompt": prompt},
        Caller("a", "t", "e", "k"),
        request_id="req_1",
        received_at=datetime.now(UTC),
    )
    assert (request.route, request.body["prompt"]) == ("completions", prompt)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [[1], []]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": ["a"] * 2049}, "prompt"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "a", "stream_options": {}}, "stream_options"),
    ],
)
def test_names_the_parameter_that_is_wrong(body: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        check(body)
    assert caught.value.param == param

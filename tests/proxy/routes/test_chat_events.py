"""A chat completion told as chunks: nothing of it is lost."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.routes.chat_events import chunks, events
from tests.proxy.api.front_door import completion

texts = st.text(st.characters(exclude_categories=["Cs"]))


def deltas(body: dict[str, Any], **options: bool) -> list[dict[str, Any]]:
    told = chunks(body, logprobs=options.get("logprobs", False), usage=options.get("usage", False))
    return [choice for chunk in told for choice in chunk["choices"]]


def joined(choices: list[dict[str, Any]], field: str = "content") -> str:
    return "".join(choice["delta"].get(field) or "" for choice in choices)


@given(texts)
def test_the_pieces_spell_the_text(text: str) -> None:
    choices = deltas(completion(text))
    assert joined(choices) == text
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


@given(st.lists(texts.filter(bool), min_size=1, max_size=20))
def test_scores_travel_with_the_tokens_they_belong_to(tokens: list[str]) -> None:
    body = completion("".join(tokens))
    content = [{"token": token, "logprob": -0.1, "bytes": None} for token in tokens]
    body["choices"][0]["logprobs"] = {"content": content, "refusal": None}
    told = deltas(body, logprobs=True)
    scored = [choice for choice in told if choice["logprobs"]]
    assert [score for choice in scored for score in choice["logprobs"]["content"]] == content
    for choice in scored:
        spelled = "".join(score["token"] for score in choice["logprobs"]["content"])
        assert spelled == choice["delta"]["content"]
    assert not any(choice["logprobs"] for choice in deltas(body))


def test_scores_that_do_not_spell_the_text_are_kept() -> None:
    body = completion("a long answer in some more words than one piece holds, surely")
    body["choices"][0]["logprobs"] = {"content": [{"token": "other", "logprob": -1.0}]}
    scored = [choice for choice in deltas(body, logprobs=True) if choice["logprobs"]]
    assert scored[0]["logprobs"]["content"] == [{"token": "other", "logprob": -1.0}]


@given(texts)
def test_tool_calls_come_back_whole(arguments: str) -> None:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": arguments}}
        for n in range(2)
    ]
    choices = deltas(completion("", content=None, tool_calls=calls))
    told = [call for choice in choices for call in choice["delta"].get("tool_calls", ())]
    for index, call in enumerate(calls):
        mine = [part for part in told if part["index"] == index]
        assert mine[0]["id"] == call["id"]
        assert mine[0]["function"]["name"] == "f"
        assert "".join(part["function"]["arguments"] for part in mine) == arguments


def test_other_kinds_of_calls_and_fields_are_kept() -> None:
    custom = {"id": "call_1", "type": "custom", "custom": {"name": "f", "input": "x"}}
    message = {
        "tool_calls": [custom],
        "refusal": "I will not do that.",
        "annotations": [{"type": "url_citation"}],
        "function_call": {"name": "g", "arguments": '{"a": 1}'},
    }
    choices = deltas(completion("hi", **message))
    assert joined(choices, "refusal") == message["refusal"]
    assert choices[0]["delta"]["annotations"] == message["annotations"]
    assert {"tool_calls": [{"index": 0, **custom}]} in [choice["delta"] for choice in choices]
    legacy = [
        choice["delta"]["function_call"] for choice in choices if "function_call" in choice["delta"]
    ]
    assert legacy[0]["name"] == "g"
    assert "".join(part["arguments"] for part in legacy) == '{"a": 1}'


def test_every_choice_is_told_under_its_index() -> None:
    body = completion("one")
    body["choices"].append({**completion("two")["choices"][0], "index": 1})
    choices = deltas(body)
    assert joined([choice for choice in choices if choice["index"] == 0]) == "one"
    assert joined([choice for choice in choices if choice["index"] == 1]) == "two"


def test_usage_is_told_only_when_asked_for() -> None:
    plain = list(chunks(completion("hi"), logprobs=False, usage=False))
    assert not any("usage" in chunk for chunk in plain)
    told = list(chunks(completion("hi"), logprobs=False, usage=True))
    assert [chunk["usage"] for chunk in told[:-1]] == [None] * (len(told) - 1)
    assert told[-1]["choices"] == []
    assert told[-1]["usage"]["total_tokens"] == 3


@given(texts | st.text("a\r\n\x0b\x0c\x1c\x85\u2028\u2029"))
def test_each_event_is_one_line_of_json(text: str) -> None:
    stream = b"".join(events(completion(text), {}))
    lines = stream.split(b"\n\n")
    assert lines[-1] == b""
    assert lines[-2] == b"data: [DONE]"
    assert json.loads(lines[0].removeprefix(b"data: "))["choices"][0]["delta"]["content"] == ""
    for line in lines[:-2]:
        assert len(line.decode().splitlines()) == 1
        assert b"\n" not in line
        assert b"\r" not in line
        assert json.loads(line.removeprefix(b"data: "))["object"] == "chat.completion.chunk"


def test_an_answer_of_an_odd_form_ends_all_the_same() -> None:
    odd: list[dict[str, Any]] = [{}, {"choices": None}, {"choices": []}, {"choices": [{}]}]
    for body in odd:
        assert list(events(body, {}))[-1] == b"data: [DONE]\n\n"

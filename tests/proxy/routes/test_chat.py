"""What a chat request must look like, and what is read of an answer."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import RequestError
from proxy.routes.chat import CHAT, answer, check, read
from tests.proxy.api.front_door import CANARY, completion


def checked(**more: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    body = {name: value for name, value in body.items() if value != "ABSENT"}
    check(body)
    return body


def user(**more: Any) -> list[dict[str, Any]]:
    message = {"role": "user", "content": "hi", **more}
    return [{name: value for name, value in message.items() if value != "ABSENT"}]


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no messages": ({"messages": "ABSENT"}, "messages", "missing_required_parameter"),
    "empty messages": ({"messages": []}, "messages", "invalid_value"),
    "text as messages": ({"messages": "hi"}, "messages", "invalid_type"),
    "text as message": ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
    "null message": ({"messages": [None]}, "messages[0]", "invalid_type"),
    "a search by the provider": (
        {"web_search_options": {}},
        "web_search_options",
        "unsupported_parameter",
    ),
    "no role": (
        {"messages": user(role="ABSENT")},
        "messages[0].role",
        "missing_required_parameter",
    ),
    "unknown role": ({"messages": user(role=CANARY)}, "messages[0].role", "invalid_value"),
    "list as role": ({"messages": user(role=["user"])}, "messages[0].role", "invalid_type"),
    "no content": (
        {"messages": user(content="ABSENT")},
        "messages[0].content",
        "missing_required_parameter",
    ),
    "number as content": ({"messages": user(content=4)}, "messages[0].content", "invalid_type"),
    "object as content": ({"messages": user(content={})}, "messages[0].content", "invalid_type"),
    "text as part": ({"messages": user(content=["a"])}, "messages[0].content[0]", "invalid_type"),
    "part without type": (
        {"messages": user(content=[{"text": "a"}])},
        "messages[0].content[0].type",
        "missing_required_parameter",
    ),
    "text part without text": (
        {"messages": user(content=[{"type": "text"}])},
        "messages[0].content[0].text",
        "missing_required_parameter",
    ),
    "tool without id": (
        {"messages": user(role="tool")},
        "messages[0].tool_call_id",
        "missing_required_parameter",
    ),
    "tool calls as text": (
        {"messages": user(role="assistant", tool_calls="x")},
        "messages[0].tool_calls",
        "invalid_type",
    ),
    "stream as text": ({"stream": "yes"}, "stream", "invalid_type"),
    "stream as number": ({"stream": 1}, "stream", "invalid_type"),
    "options without stream": (
        {"stream_options": {"include_usage": True}},
        "stream_options",
        "invalid_value",
    ),
    "usage as text": (
        {"stream": True, "stream_options": {"include_usage": "x"}},
        "stream_options.include_usage",
        "invalid_type",
    ),
    "bool as max_tokens": ({"max_tokens": True}, "max_tokens", "invalid_type"),
    "no tokens": ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    "float as n": ({"n": 1.5}, "n", "invalid_type"),
    "many choices": ({"n": 1000}, "n", "invalid_value"),
    "hot": ({"temperature": 3}, "temperature", "invalid_value"),
    "number as stop": ({"stop": [4]}, "stop", "invalid_type"),
    "text as tool": ({"tools": ["a"]}, "tools", "invalid_type"),
    "a provider's search": (
        {"tools": [{"type": "web_search"}]},
        "tools[0].type",
        "unsupported_parameter",
    ),
    "a server of somebody's": (
        {"tools": [{"type": "function"}, {"type": "mcp", "server_url": "https://example.com"}]},
        "tools[1].type",
        "unsupported_parameter",
    ),
    "list as metadata": ({"metadata": []}, "metadata", "invalid_type"),
    "object as user": ({"user": {}}, "user", "invalid_type"),
    "top logprobs alone": ({"top_logprobs": 3}, "top_logprobs", "invalid_value"),
    "many top logprobs": (
        {"logprobs": True, "top_logprobs": 99},
        "top_logprobs",
        "invalid_value",
    ),
}


@pytest.mark.parametrize(("more", "param", "code"), WRONG.values(), ids=WRONG.keys())
def test_names_the_parameter_that_is_wrong(more: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        checked(**more)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert CANARY not in str(caught.value.body)


@pytest.mark.parametrize(
    "more",
    [
        {"stream": None, "stop": None, "n": None, "tools": None, "stream_options": None},
        {"stop": "x"},
        {"stop": ["x", "y"]},
        {"temperature": 0, "top_p": 1, "max_completion_tokens": 1},
        {"logprobs": True, "top_logprobs": 0},
        {"messages": user(role="assistant", content=None)},
        {"messages": user(role="developer")},
        {"messages": user(role="tool", tool_call_id="call_1")},
        {"messages": user(content=[])},
        {"messages": user(content=[{"type": "image_url", "image_url": {"url": "x"}}])},
        {"api_base": "http://evil.example", "unheard_of": {"deep": [1, None]}},
    ],
)
def test_takes_valid_requests(more: dict[str, Any]) -> None:
    assert {name: checked(**more)[name] for name in more} == more


def test_every_choice_and_every_call_is_a_text_of_the_answer() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    custom = {"id": "d", "type": "custom", "custom": {"name": "g", "input": "free text"}}
    body = completion("one", refusal="two", tool_calls=[call, custom])
    body["choices"].append(completion("three")["choices"][0])
    assert CHAT.texts(body) == ("one", "two", '{"a":1}', "free text", "three")


def test_an_old_function_call_is_a_text_of_the_answer() -> None:
    body = completion("", content=None, function_call={"name": "f", "arguments": "{}"})
    assert CHAT.texts(body) == ("{}",)


@pytest.mark.parametrize(
    "more",
    [
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
        {"audio": {"transcript": "Hm"}},
    ],
)
def test_a_member_that_nobody_taught_us_is_a_text_of_the_answer(more: dict[str, Any]) -> None:
    body = {**completion("one", **more), "id": "c", "model": "m", "usage": {"note": "x"}}
    assert CHAT.texts(body) == ("one", "Hm")
    assert CHAT.texts({**body, "thoughts": {"text": "Ah"}}) == ("Ah", "one", "Hm")


def scored(*values: object) -> dict[str, Any]:
    entries = [{"token": "x", "logprob": value} for value in values]
    return {**completion("x")["choices"][0], "logprobs": {"content": entries}}


def test_the_scores_of_all_choices_count() -> None:
    reading = read({"choices": [scored(-0.5), scored(-1.0, -2.0)]})
    assert reading is not None
    assert reading.token_logprobs == (-0.5, -1.0, -2.0)


def test_one_choice_without_scores_makes_the_draft_unknown() -> None:
    reading = read({"choices": [scored(-0.5), completion("y")["choices"][0]]})
    assert reading is not None
    assert reading.token_logprobs == ()


def test_what_is_no_completion_is_not_read() -> None:
    assert read({"object": "list", "data": []}) is None


def test_scores_are_told_only_to_who_asked_for_them() -> None:
    told = {"choices": [scored(-0.5)]}
    assert answer(told, {"logprobs": True}) == told
    assert answer(told, {})["choices"][0]["logprobs"] is None  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    "said",
    [
        {"tool_calls": CANARY},
        {"tool_calls": [CANARY]},
        {"tool_calls": [{"id": "1", "function": CANARY}]},
        {"function_call": CANARY},
    ],
)
def test_an_answer_whose_calls_cannot_be_told_is_none(said: dict[str, Any]) -> None:
    told = completion("hi")
    assert read(told) is not None
    told["choices"][0]["message"] |= said
    assert read(told) is None


@pytest.mark.parametrize(
    "scores", [CANARY, [CANARY], {"content": CANARY}, {"content": [CANARY]}, {"content": [{}]}]
)
def test_scores_of_another_form_keep_no_answer_from_being_told(scores: object) -> None:
    told = completion("hi")
    told["choices"][0]["logprobs"] = scores
    assert CHAT.tell is not None
    events = list(CHAT.tell(told, {"logprobs": True}))
    assert b'"content":"hi"' in b"".join(events)
    assert CANARY.encode() not in b"".join(events)

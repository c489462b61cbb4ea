"""The Responses API: what is taken, asked at home, told back, and told as events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RequestError
from proxy.routes.responses import (
    RESPONSES,
    ask_scores,
    check,
    hide_scores,
    is_response,
    read_scores,
    texts,
)
from proxy.routes.responses_events import events
from proxy.routes.responses_home import from_chat, to_chat
from tests.proxy.api.front_door import completion

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
CALL: dict[str, Any] = {
    "type": "function_call",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Lagos"}',
}

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "background": ({"background": True}, "background", "unsupported_parameter"),
    "conversation": ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    "stored prompt": ({"prompt": {"id": "p"}}, "prompt", "unsupported_parameter"),
    "truncation": ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
    "tool calls at most": ({"max_tool_calls": 3}, "max_tool_calls", "unsupported_parameter"),
    "web search": ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
    "mcp": ({"tools": [WEATHER, {"type": "mcp"}]}, "tools[1].type", "unsupported_parameter"),
    "tool without name": (
        {"tools": [{"type": "function"}]},
        "tools[0].name",
        "missing_required_parameter",
    ),
    "choice": ({"tool_choice": {"type": "mcp"}}, "tool_choice", "unsupported_parameter"),
    "include": ({"include": ["web_search_call.results"]}, "include", "unsupported_parameter"),
    "format": (
        {"text": {"format": {"type": "grammar"}}},
        "text.format.type",
        "unsupported_parameter",
    ),
    "schema without name": (
        {"text": {"format": {"type": "json_schema", "schema": {}}}},
        "text.format.name",
        "missing_required_parameter",
    ),
    "item": (
        {"input": [{"type": "item_reference", "id": "x"}]},
        "input[0].type",
        "unsupported_parameter",
    ),
    "part": (
        {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "input[0].content[0].type",
        "unsupported_parameter",
    ),
    "role": ({"input": [{"role": "robot", "content": "a"}]}, "input[0].role", "invalid_value"),
    "no content": ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
    "call without id": (
        {"input": [{**CALL, "call_id": None}]},
        "input[0].call_id",
        "missing_required_parameter",
    ),
    "output without id": (
        {"input": [{"type": "function_call_output", "output": "a"}]},
        "input[0].call_id",
        "missing_required_parameter",
    ),
    "text as item": ({"input": ["a"]}, "input[0]", "invalid_type"),
    "no input": ({"input": None}, "input", "missing_required_parameter"),
    "empty input": ({"input": []}, "input", "invalid_value"),
    "number as store": ({"store": 1}, "store", "invalid_type"),
    "no tokens": ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
    "options": ({"stream_options": {}}, "stream_options", "invalid_value"),
}


@pytest.mark.parametrize(("more", "param", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_it_cannot_do_is_refused_by_name(more: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        check({"model": "m", "input": "hi", **more})
    assert (caught.value.param, caught.value.code) == (param, code)


CONVERSATION: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"role": "developer", "content": "Use tools."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Weather?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
                {"type": "input_file", "filename": "a.txt", "file_data": "data:,a"},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        CALL,
        {**CALL, "call_id": "call_2"},
        {"type": "function_call_output", "call_id": "call_1", "output": "Rain."},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "Sun."}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Rain and sun."}],
        },
    ],
    "tools": [WEATHER],
    "tool_choice": {"type": "function", "name": "weather"},
    "parallel_tool_calls": False,
    "max_output_tokens": 5,
    "temperature": 0.5,
    "reasoning": {"effort": "low"},
    "include": ["message.output_text.logprobs"],
    "top_logprobs": 2,
    "text": {
        "verbosity": "low",
        "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}},
    },
}


def test_the_local_tier_is_asked_the_same() -> None:
    check(CONVERSATION)
    function = {name: value for name, value in WEATHER.items() if name != "type"}
    call = {"name": "weather", "arguments": '{"city":"Lagos"}'}
    assert to_chat(CONVERSATION) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Use tools."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Weather?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"},
                    },
                    {"type": "file", "file": {"filename": "a.txt", "file_data": "data:,a"}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": call},
                    {"id": "call_2", "type": "function", "function": call},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
            {"role": "tool", "tool_call_id": "call_2", "content": "Sun."},
            {"role": "assistant", "content": "Rain and sun."},
        ],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "reasoning_effort": "low",
        "top_logprobs": 2,
        "verbosity": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
    }


def test_it_is_asked_for_log_probabilities_without_the_clients_bookkeeping() -> None:
    asked = RESPONSES.at_home.ask({"model": "m", "input": "hi", "user": "u", "metadata": {}})
    assert asked["logprobs"] is True
    assert asked["messages"] == [{"role": "user", "content": "hi"}]
    assert "user" not in asked


def test_a_chat_answer_is_told_as_a_response() -> None:
    told = from_chat(completion("Hello."), {"input": "hi", "store": False, "temperature": 0.1})
    assert is_response(told)
    assert (told["status"], told["store"], told["temperature"]) == ("completed", False, 0.1)
    (message,) = told["output"]
    assert message["content"][0] == {
        "type": "output_text",
        "text": "Hello.",
        "annotations": [],
        "logprobs": [],
    }
    assert told["usage"]["input_tokens"] == 1
    assert told["usage"]["total_tokens"] == 3
    assert texts(told) == ("Hello.",)


def a_cloud_answer(*parts: Any) -> dict[str, Any]:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    message = {"type": "message", "role": "assistant", "content": list(parts)}
    return {"status": "completed", "output": [call, message]}


def a_part(text: str, *logprobs: float) -> dict[str, Any]:
    top = [{"token": "b", "logprob": -1.0}, {"token": "a", "logprob": -0.5}]
    told = [{"token": "a", "logprob": one, "top_logprobs": top} for one in logprobs]
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": told}


def test_a_cloud_is_asked_how_sure_it_is_beside_what_the_client_wants() -> None:
    logprobs, encrypted = "message.output_text.logprobs", "reasoning.encrypted_content"
    assert ask_scores({}) == {"include": [logprobs], "top_logprobs": 5}
    asked = ask_scores({"include": [logprobs, encrypted], "top_logprobs": 9})
    assert asked == {"include": [encrypted, logprobs], "top_logprobs": 9}


def test_how_sure_a_response_is_is_read_over_all_its_texts() -> None:
    told = read_scores(a_cloud_answer(a_part("Rain.", -0.1, -0.2), a_part("Sun.", -0.3)))
    assert told is not None
    assert (told.text, told.token_logprobs) == ("Rain.\nSun.", (-0.1, -0.2, -0.3))
    assert told.top_logprobs[0] == (("a", -0.5), ("b", -1.0))
    partly = read_scores(a_cloud_answer(a_part("Rain.", -0.1, -0.2), a_part("Sun.")))
    assert partly is not None
    assert partly.token_logprobs == ()
    called = read_scores(a_cloud_answer())
    assert called is not None
    assert called.token_logprobs == ()
    assert read_scores({"status": "failed", "output": []}) is None


def test_a_client_sees_the_log_probabilities_of_a_response_that_it_asked_for() -> None:
    answer = a_cloud_answer(a_part("Rain.", -0.1), a_part("Sun.", -0.2))
    hidden: Any = hide_scores(answer, {"input": "hi"})
    assert [part["logprobs"] for part in hidden["output"][1]["content"]] == [[], []]
    assert hidden["output"][0] == answer["output"][0]
    wish: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    shown: Any = hide_scores(answer, wish)
    tokens = [part["logprobs"][0] for part in shown["output"][1]["content"]]
    assert [(one["logprob"], len(one["top_logprobs"])) for one in tokens] == [(-0.1, 1), (-0.2, 1)]


def test_tool_calls_are_items_of_their_own() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    told = from_chat(completion("", content=None, tool_calls=[call]), {"input": "hi"})
    (item,) = told["output"]
    assert (item["type"], item["call_id"], item["name"]) == ("function_call", "call_1", "f")
    assert texts(told) == ("{}",)


def test_a_cut_answer_says_why() -> None:
    body = completion("Hel")
    body["choices"][0]["finish_reason"] = "length"
    told = from_chat(body, {"input": "hi"})
    assert (told["status"], told["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert is_response(told)


def read(stream: bytes) -> list[dict[str, Any]]:
    found = []
    for told in stream.split(b"\n\n")[:-1]:
        name, _, data = told.partition(b"\ndata: ")
        found.append(json.loads(data))
        assert name == b"event: " + found[-1]["type"].encode()
    return found


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text())
def test_the_events_spell_the_whole_in_order(text: str, arguments: str) -> None:
    arguments = arguments.encode("utf-8", "replace").decode()
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    body = from_chat(completion(text, refusal="No.", tool_calls=[call]), {"input": "hi"})
    told = read(b"".join(events(body, {})))
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    assert [one["type"] for one in told[:2]] == ["response.created", "response.in_progress"]
    assert told[0]["response"]["output"] == []
    assert told[-1]["type"] == "response.completed"
    assert told[-1]["response"] == body
    for kind, whole in (
        ("response.output_text", text),
        ("response.refusal", "No."),
        ("response.function_call_arguments", arguments),
    ):
        deltas = [one["delta"] for one in told if one["type"] == f"{kind}.delta"]
        assert "".join(deltas) == whole
        assert sum(one["type"] == f"{kind}.done" for one in told) == 1
    done = [one["item"] for one in told if one["type"] == "response.output_item.done"]
    assert done == body["output"]


def test_a_cut_answer_ends_its_stream_as_such() -> None:
    body = {**from_chat(completion("Hel"), {"input": "hi"}), "status": "incomplete"}
    assert read(b"".join(events(body, {})))[-1]["type"] == "response.incomplete"


def test_what_is_unfinished_is_no_answer() -> None:
    odd: list[dict[str, Any]] = [{}, {"output": []}, {"output": [], "status": "failed"}]
    for body in [*odd, {"status": "completed"}]:
        assert not is_response(body)


@pytest.mark.parametrize("usage", [{"prompt_tokens": "nine"}, {"completion_tokens": [9]}, "nine"])
def test_counts_and_scores_of_another_form_keep_no_answer_from_being_told(usage: object) -> None:
    told: Any = completion("hi") | {"usage": usage}
    told["choices"][0]["logprobs"] = ["nine"]
    response = from_chat(told, {"include": ["message.output_text.logprobs"]})
    assert response["output"][0]["content"][0]["text"] == "hi"
    assert isinstance(response["usage"]["total_tokens"], int)

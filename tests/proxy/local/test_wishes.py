"""What the embedded model is asked for, and what it refuses by name."""

from __future__ import annotations

import pytest

from proxy.errors import RequestError
from proxy.local.wishes import nth, read_continuations, read_wishes
from proxy.types import JSON, JSONObject
from tests.factories import a_body

REFUSED: dict[str, JSON] = {
    "suffix": "and so on",
    "tools": [{"type": "function"}],
    "tool_choice": "required",
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "logit_bias": {"1": 100},
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "response_format": {"type": "json_object"},
    "modalities": ["audio"],
    "audio": {"voice": "alloy"},
    "web_search_options": {},
    "guided_json": {},
    "top_k": 5,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_wishes({**a_body(), name: REFUSED[name]})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_completion_tokens", "8"),
        ("temperature", 2.1),
        ("top_p", -1),
        ("top_logprobs", 21),
        ("logprobs", 1),
        ("stream", "yes"),
        ("stream_options", 3),
        ("seed", 0.5),
        ("stop", ["a", "b", "c", "d", "e"]),
        ("stop", [""]),
        ("messages", []),
        ("messages", ["hi"]),
    ],
)
def test_a_wrong_value_is_named(name: str, value: JSON) -> None:
    with pytest.raises(RequestError) as caught:
        read_wishes({**a_body(), name: value})
    expected = "max_tokens" if name == "max_tokens" else name
    assert (caught.value.code, caught.value.param) == ("invalid_value", expected)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x", "tool_call_id": "c"},
        {"role": "assistant", "tool_calls": [{"id": "c"}]},
        {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        {"role": "user", "content": [{"type": "input_audio"}]},
        {"role": "user", "content": 7},
    ],
)
def test_a_message_it_cannot_read_is_refused(message: JSON) -> None:
    with pytest.raises(RequestError) as caught:
        read_wishes({**a_body(), "messages": [message]})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "messages")


def test_bookkeeping_and_an_apps_own_fields_change_nothing() -> None:
    more: JSONObject = {
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "x": 1,
    }
    assert read_wishes({**a_body(), **more}) == read_wishes(a_body())


def test_reads_every_wish() -> None:
    wishes = read_wishes(
        {
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            ],
            "max_tokens": None,
            "max_completion_tokens": 7,
            "temperature": 0.5,
            "top_p": 0.9,
            "seed": 3,
            "stop": "END",
            "logprobs": True,
            "top_logprobs": 2,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    how = wishes.sampling
    assert wishes.messages == (("system", "Be brief."), ("user", "Hi"))
    assert (how.max_tokens, how.temperature, how.top_p, how.seed) == (7, 0.5, 0.9, 3)
    assert (how.stop, how.num_top) == (("END",), 2)
    assert (wishes.logprobs, wishes.stream, wishes.stream_usage) == (True, True, True)


def test_takes_the_likeliest_token_unless_asked_otherwise() -> None:
    assert read_wishes(a_body()).sampling.temperature == 0


def test_its_repr_holds_no_word_of_the_request() -> None:
    wishes = read_wishes(a_body("canary-4711", stop=["canary-4712"]))
    assert "canary" not in repr(wishes)


def test_several_answers_have_seeds_of_their_own() -> None:
    wishes = read_wishes(a_body(n=3, seed=7))
    assert wishes.num_choices == 3
    assert [nth(wishes.sampling, which).seed for which in range(3)] == [7, 8, 9]


def test_a_stream_tells_one_answer_only() -> None:
    with pytest.raises(RequestError) as caught:
        read_wishes(a_body(n=2, stream=True))
    assert caught.value.param == "n"


def test_prompts_are_carried_on() -> None:
    wishes = read_continuations({"prompt": ["a", "b"], "n": 2, "logprobs": 3, "stop": "x"})
    assert (wishes.prompts, wishes.num_choices, wishes.logprobs) == (("a", "b"), 2, True)
    assert (wishes.sampling.num_top, wishes.sampling.max_tokens) == (3, 16)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"prompt": [1, 2]}, "unsupported_parameter", "prompt"),
        ({"prompt": "a", "echo": True}, "unsupported_parameter", "echo"),
        ({"prompt": "a", "stream": True}, "unsupported_parameter", "stream"),
        ({"prompt": []}, "invalid_value", "prompt"),
        ({}, "invalid_value", "prompt"),
    ],
    ids=["token ids", "echo", "stream", "nothing", "absent"],
)
def test_a_prompt_it_cannot_carry_on_is_refused(body: JSONObject, code: str, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_continuations(body)
    assert (caught.value.code, caught.value.param) == (code, param)

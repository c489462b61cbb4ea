"""Strict reading (C01-C05) and the types of a chat request."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api.wire import parse_chat, read_json
from proxy.canonical import canonical_bytes
from proxy.errors import RequestError
from proxy.types import Caller, Request
from tests.proxy.api.front_door import CANARY

CALLER = Caller("app", "team", "test", "key")
CLEAN = '"messages":[{"role":"user","content":"hi"}]'

REFUSED = {
    "duplicate": (f'{{"model":"m",{CLEAN},{CLEAN}}}', "duplicate_key"),
    "duplicate as escape": (rf'{{{CLEAN},"mess\u0061ges":[]}}', "duplicate_key"),
    "duplicate, nested": ('{"a":[{"b":{"c":1,"d":2,"c":3}}]}', "duplicate_key"),
    "empty key twice": ('{"":1,"":2}', "duplicate_key"),
    "NaN": ('{"a":NaN}', "invalid_json"),
    "Infinity": ('{"a":Infinity}', "invalid_json"),
    "-Infinity": ('{"a":[-Infinity]}', "invalid_json"),
    "1e400": ('{"a":1e400}', "number_out_of_range"),
    "-1e400": ('{"a":-1e400}', "number_out_of_range"),
    "2^53+1": ('{"a":9007199254740993}', "number_out_of_range"),
    "-2^53-1": ('{"a":-9007199254740993}', "number_out_of_range"),
    "5000 digits": ('{"a":' + "7" * 5000 + "}", "number_out_of_range"),
    "leading zero": ('{"a":01}', "invalid_json"),
    "plus": ('{"a":+1}', "invalid_json"),
    "hex": ('{"a":0x1}', "invalid_json"),
    "bare dot": ('{"a":.5}', "invalid_json"),
    "trailing comma": ('{"a":1,}', "invalid_json"),
    "comment": ('{"a":1/**/}', "invalid_json"),
    "single quotes": ("{'a':1}", "invalid_json"),
    "trailing object": ('{"a":1}{"a":2}', "invalid_json"),
    "trailing text": ('{"a":1} x', "invalid_json"),
    "trailing NUL": ('{"a":1}\x00', "invalid_json"),
    "raw newline in string": ('{"a":"b\nc"}', "invalid_json"),
    "raw NUL in string": ('{"a":"b\x00c"}', "invalid_json"),
    "bad escape": (r'{"a":"\x41"}', "invalid_json"),
    "array": ("[]", "invalid_json"),
    "string": ('"a"', "invalid_json"),
    "null": ("null", "invalid_json"),
    "empty": ("", "invalid_json"),
    "blank": ("  \n ", "invalid_json"),
    "half pair": (r'{"a":"\ud800"}', "invalid_encoding"),
    "half pair, low": (r'{"a":["x",{"b":"\udfff"}]}', "invalid_encoding"),
    "half pair as key": (r'{"\ud83d":1}', "invalid_encoding"),
    "pair the wrong way": (r'{"a":"\udc00\ud800"}', "invalid_encoding"),
    "deep": ("[" * 100_000 + "]" * 100_000, "too_deep"),
    "deep in object": ('{"a":' + "[" * 64 + "]" * 64 + "}", "too_deep"),
    "unclosed deep": ('{"a":' * 100_000, "too_deep"),
}
BYTES = {
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16-LE": '{"a":1}'.encode("utf-16-le"),
    "UTF-16-BE": '{"a":1}'.encode("utf-16-be"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "latin-1": b'{"a":"\xe9"}',
    "overlong": b'{"a":"\xc0\xaf"}',
    "raw surrogate": b'{"a":"\xed\xa0\x80"}',
    "beyond Unicode": b'{"a":"\xf5\x80\x80\x80"}',
    "cut sequence": b'{"a":"\xf0\x9f\x98',
}


@pytest.mark.parametrize(("text", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_what_readers_disagree_on(text: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_json(text.encode(), max_depth=64)
    assert caught.value.code == code
    assert caught.value.http_status == 400


@pytest.mark.parametrize("raw", BYTES.values(), ids=BYTES.keys())
def test_refuses_other_encodings(raw: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_json(raw, max_depth=64)
    assert caught.value.code in ("invalid_encoding", "invalid_json")


def test_keeps_what_is_odd_but_plain() -> None:
    odd = {"nul": "a\x00b", "pair": "\U0001f600", "2^53": 2**53, "nonchar": "\ufffe", "": ""}
    assert read_json(json.dumps(odd).encode(), max_depth=64) == odd


@pytest.mark.parametrize("text", [pair[0] for pair in REFUSED.values()])
def test_errors_hold_nothing_of_the_input(text: str) -> None:
    planted = text.replace('"a"', f'"{CANARY}"').replace("'a'", f"'{CANARY}'")
    fault: RequestError | None = None
    try:
        read_json(planted.encode(), max_depth=64)
    except RequestError as error:
        fault = error
    assert fault is not None
    assert CANARY not in repr(fault.body) + repr(fault) + repr(vars(fault))
    assert fault.__cause__ is None
    assert fault.__context__ is None


texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(texts, values))
def test_what_is_written_reads_the_same(body: dict[str, Any]) -> None:
    read = read_json(canonical_bytes(body), max_depth=64)
    assert read == body
    assert canonical_bytes(read) == canonical_bytes(body)


@given(st.binary(max_size=300) | texts.map(str.encode))
def test_any_bytes_are_an_object_or_a_refusal(raw: bytes) -> None:
    read: object = None
    try:
        read = read_json(raw, max_depth=8)
    except RequestError as error:
        read = error
    assert isinstance(read, dict | RequestError)


def parse(**more: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    body = {name: value for name, value in body.items() if value != "ABSENT"}
    return parse_chat(body, CALLER, request_id="req_1", received_at=datetime.now(UTC))


def user(**more: Any) -> list[dict[str, Any]]:
    message = {"role": "user", "content": "hi", **more}
    return [{name: value for name, value in message.items() if value != "ABSENT"}]


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no model": ({"model": "ABSENT"}, "model", "missing_required_parameter"),
    "null model": ({"model": None}, "model", "missing_required_parameter"),
    "number as model": ({"model": 4}, "model", "invalid_type"),
    "empty model": ({"model": ""}, "model", "invalid_value"),
    "long model": ({"model": "m" * 300}, "model", "invalid_value"),
    "no messages": ({"messages": "ABSENT"}, "messages", "missing_required_parameter"),
    "empty messages": ({"messages": []}, "messages", "invalid_value"),
    "text as messages": ({"messages": "hi"}, "messages", "invalid_type"),
    "text as message": ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
    "null message": ({"messages": [None]}, "messages[0]", "invalid_type"),
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
        parse(**more)
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
def test_takes_valid_requests_and_keeps_every_field(more: dict[str, Any]) -> None:
    request = parse(**more)
    assert {name: request.body[name] for name in more} == more
    assert request.stream is False


def test_a_request_says_what_it_is() -> None:
    request = parse(stream=True, stream_options={"include_usage": True})
    assert (request.route, request.model, request.stream) == ("chat.completions", "m", True)
    assert request.caller == CALLER
    assert "hi" not in repr(request)

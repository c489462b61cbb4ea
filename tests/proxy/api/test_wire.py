"""Strict reading (C01-C05), and what every request must say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api.wire import parse_request, read_json
from proxy.canonical import canonical_bytes
from proxy.errors import RequestError
from proxy.routes.chat import CHAT
from proxy.types import JSON, Caller, JSONObject
from tests.factories import a_body
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


def test_a_request_says_what_it_is() -> None:
    body = {**a_body("hi"), "stream": True, "stream_options": {"include_usage": True}}
    request = parse_request(CHAT, body, CALLER, request_id="req_1", received_at=datetime.now(UTC))
    assert (request.route, request.model, request.stream) == ("chat.completions", "ringfence", True)
    assert request.caller == CALLER
    assert "hi" not in repr(request)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (None, "missing_required_parameter"),
        (4, "invalid_type"),
        ("", "invalid_value"),
        ("m" * 300, "invalid_value"),
    ],
    ids=["null", "number", "empty", "long"],
)
def test_a_model_is_asked_for_by_name(model: JSON, code: str) -> None:
    body: JSONObject = {**a_body("hi"), "model": model}
    with pytest.raises(RequestError) as caught:
        parse_request(CHAT, body, CALLER, request_id="req_1", received_at=datetime.now(UTC))
    assert (caught.value.param, caught.value.code) == ("model", code)


def test_a_route_that_does_not_stream_says_so() -> None:
    still = replace(CHAT, tell=None)
    body = {**a_body("hi"), "stream": True}
    with pytest.raises(RequestError) as caught:
        parse_request(still, body, CALLER, request_id="req_1", received_at=datetime.now(UTC))
    assert caught.value.param == "stream"

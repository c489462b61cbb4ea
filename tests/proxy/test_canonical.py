"""The strict reader and its writer."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.canonical import canonical_bytes, parse_object
from proxy.errors import RequestError


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key"),
        (b'{"x":{"canary":1,"canary":2}}', "duplicate_key"),
        (b"\xef\xbb\xbf{}", "invalid_encoding"),
        ('{"a":1}'.encode("utf-16"), "invalid_encoding"),
        (b'{"a":"\xff"}', "invalid_encoding"),
        (b'{"a":"\xed\xa0\x80"}', "invalid_encoding"),
        (b'{"a":"\\ud800"}', "invalid_encoding"),
        (b'{"\\udfff":1}', "invalid_encoding"),
        (b'{"a":NaN}', "invalid_json"),
        (b'{"a":-Infinity}', "invalid_json"),
        (b'{"a":1e400}', "number_out_of_range"),
        (b'{"a":9007199254740993}', "number_out_of_range"),
        (b'{"a":' + b"9" * 5000 + b"}", "number_out_of_range"),
        (b'{"a":0.' + b"1" * 5000 + b"}", "number_out_of_range"),
        (b"[]", "invalid_json"),
        (b'"canary"', "invalid_json"),
        (b"", "invalid_json"),
        (b'{"a":1} {}', "invalid_json"),
        (b'{"canary":1', "invalid_json"),
        (b"{'a':1}", "invalid_json"),
        (b'{"a":' + b"[" * 70 + b"]" * 70 + b"}", "too_deep"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
    ],
)
def test_refuses_what_readers_disagree_on(raw: bytes, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_object(raw)
    assert caught.value.code == code
    assert caught.value.__context__ is None
    assert "canary" not in str(caught.value)


def test_keeps_a_nul_and_a_surrogate_pair() -> None:
    assert parse_object(b'{"a":"x\\u0000y","b":"\\ud83d\\ude00"}') == {"a": "x\0y", "b": "😀"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(value=st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_written_reads_the_same(value: dict[str, object]) -> None:
    written = canonical_bytes(value)  # type: ignore[arg-type]
    assert parse_object(written) == value
    assert json.loads(written) == value


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_clear_refusal(raw: bytes) -> None:
    outcome: object
    try:
        outcome = parse_object(raw)
    except RequestError as error:
        outcome = error.http_status
    assert outcome == 400 or isinstance(outcome, dict)

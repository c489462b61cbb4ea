"""Depth and number of values, measured on bytes, against what a reader would build."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api.shape import check_shape
from proxy.errors import RequestError

leaves = st.none() | st.booleans() | st.integers() | st.text()
trees = st.recursive(
    leaves,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=30,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(trees, st.booleans())
def test_depth_is_exact(tree: object, ascii_only: bool) -> None:
    raw = json.dumps(tree, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    depth = depth_of(tree)
    check_shape(raw, max_depth=depth)
    if depth:
        with pytest.raises(RequestError) as caught:
            check_shape(raw, max_depth=depth - 1)
        assert caught.value.code == "too_deep"


@pytest.mark.parametrize(
    "text", ["[" * 500, '"' * 500, "\\" * 500, '\\"[' * 300, "," * 300, "}{][" * 99]
)
def test_brackets_within_strings_do_not_count(text: str) -> None:
    check_shape(json.dumps({"a": text, text: 1}).encode(), max_depth=1, max_values=10)


@pytest.mark.parametrize(
    "value",
    [
        [0] * 12,
        [[]] * 12,
        {str(key): 0 for key in range(12)},
        ["a"] * 50,
        [{}, {}] * 6,
    ],
)
def test_refuses_too_many_values(value: object) -> None:
    with pytest.raises(RequestError) as caught:
        check_shape(json.dumps(value).encode(), max_depth=9, max_values=10)
    assert caught.value.code == "too_many_values"


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_verdict(raw: bytes) -> None:
    verdict = "fine"
    try:
        check_shape(raw, max_depth=3, max_values=5)
    except RequestError as error:
        verdict = error.code
    assert verdict in ("fine", "too_deep", "too_many_values")

"""In how many strings of JSON a place stands, told as the text comes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.egress.nesting import Nesting, escaped


def depth_after(text: str) -> int:
    nesting = Nesting()
    nesting.feed(text)
    return nesting.depth


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        ("", 0),
        ('say "', 0),
        ('{"a": ', 0),
        ('{"a": "', 1),
        (' [1, "', 1),
        ('{"a": "x\\"', 1),
        ('{"a": "{\\"b\\": \\"', 2),
        ('{"a": "\\u007b\\u0022b\\u0022: \\u0022', 2),
        ('{"a": "plain \\"', 1),
        ('[1] "', 0),
        ('[Note] "', 0),
    ],
)
def test_depth(text: str, depth: int) -> None:
    assert depth_after(text) == depth


@given(st.text(), st.integers(0, 4))
def test_what_is_escaped_reads_as_it_was(text: str, depth: int) -> None:
    written = f'"{escaped(text, depth)}"' if depth else json.dumps(text)
    for _ in range(max(depth - 1, 0)):
        written = f'"{json.loads(written)}"'
    assert json.loads(written) == text

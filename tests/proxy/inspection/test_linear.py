"""A set of patterns finds what each of its patterns finds alone, and never fails in silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.linear import LinearSet, compile_linear

PATTERNS = {"number": r"\d+", "word": r"(?i)b[a-z]*", "end": r"c$"}
SET = LinearSet(list(PATTERNS.items()))


@given(st.text("abc1 2\n"))
def test_finds_what_each_pattern_finds_alone(text: str) -> None:
    alone = [
        (name, match.span())
        for name, pattern in PATTERNS.items()
        for match in compile_linear(pattern).finditer(text)
    ]
    assert [(name, match.span()) for name, match in SET.finditer(text)] == alone


def test_a_pattern_runs_where_its_sign_stands() -> None:
    found = LinearSet([("code", r"code (\d+)"), ("none", r"x(\d)")], ["code", "x"])
    assert [(name, match[1]) for name, match in found.finditer("a code 42")] == [("code", "42")]


def test_a_pass_that_tells_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def Match(self, text: str) -> None:
            return None  # what RE2 answers when it runs out of memory

    broken = LinearSet([("number", r"\d")])
    monkeypatch.setattr(broken, "_set", Silent())
    with pytest.raises(MemoryError):
        list(broken.finditer("1"))

"""Words of the API need no inspection: few, fixed, and none that could be data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.inspection.structural import (
    MIN_NUMBER_DIGITS,
    STRUCTURAL_WORDS,
    is_structural,
    is_structural_number,
    number_text,
)


@pytest.mark.parametrize("word", sorted(STRUCTURAL_WORDS))
def test_a_word_is_short_plain_and_has_no_number_in_it(word: str) -> None:
    assert len(word) <= 28
    assert word.isascii()
    assert word.isidentifier() or word.startswith("$") or "-" in word or "." in word
    assert sum(char.isdigit() for char in word) < 3


@given(st.text(min_size=1, max_size=12))
def test_nothing_is_structural_but_those_words_and_a_little_white_space(text: str) -> None:
    assert is_structural(text) == (text in STRUCTURAL_WORDS or not text.strip(" \t\r\n"))


@given(st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_structural_only_with_few_digits(number: float) -> None:
    digits = sum(char.isdigit() for char in number_text(number))
    assert is_structural_number(number) == (digits < MIN_NUMBER_DIGITS)
    assert float(number_text(number)) == pytest.approx(number)

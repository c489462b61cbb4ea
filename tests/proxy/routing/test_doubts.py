"""Hedging phrases and unknown tokens."""

from __future__ import annotations

import pytest

from proxy.routing.doubts import doubts_of
from tests.factories import a_draft


@pytest.mark.parametrize(
    "text",
    [
        "I don't know who did that.",
        "I DON\u2019T KNOW",
        "Well, I\u02bcm not sure.",
        "It is unclear from the text.",
    ],
)
def test_hedging_is_a_doubt(text: str) -> None:
    (doubt,) = doubts_of(a_draft(text))
    assert doubt.startswith("hedge:")


def test_an_unknown_token_is_a_doubt() -> None:
    assert doubts_of(a_draft("The <unk> river")) == ("special_token:<unk>",)


@pytest.mark.parametrize("text", ["As I knowingly said", "Mimi don't knowledge", "The Volga."])
def test_other_words_are_no_hedge(text: str) -> None:
    assert doubts_of(a_draft(text)) == ()


def test_doubts_hold_no_word_of_the_draft() -> None:
    assert doubts_of(a_draft("Zanzibar? I don't know.")) == ("hedge:i don't know",)

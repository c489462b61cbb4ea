"""Hedging phrases and unknown tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.routing.doubts import doubts_of
from proxy.types import Draft
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


def an_answer(**message: object) -> Draft:
    choice: Any = {"index": 0, "message": {"role": "assistant", "content": None, **message}}
    return replace(a_draft(""), body={"object": "chat.completion", "choices": [choice]})


CALL = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": ""}}


def test_an_answer_that_says_nothing_is_a_doubt_however_sure_its_end_was() -> None:
    for nothing in (an_answer(), an_answer(content=""), an_answer(content=" \n")):
        assert doubts_of(nothing) == ("empty_answer",)
    for something in (
        an_answer(content="0"),
        an_answer(tool_calls=[CALL]),
        an_answer(refusal="No."),
        an_answer(audio={"id": "a"}),
    ):
        assert doubts_of(something) == ()
    assert doubts_of(replace(a_draft(""), body={})) == ()  # on record, or given up

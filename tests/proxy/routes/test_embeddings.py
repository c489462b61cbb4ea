"""Embeddings: the input's types, and what counts as an answer."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.errors import RequestError
from proxy.routes.embeddings import EMBEDDINGS, ask, check, is_list, read
from proxy.routes.moderations import MODERATIONS


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": None}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [1.5]}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "64"}, "dimensions"),
        ({"user": 4}, "user"),
    ],
)
def test_names_the_parameter_that_is_wrong(more: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        check({"input": "a", **more})
    assert caught.value.param == param


def test_who_asks_is_left_out() -> None:
    assert ask({"input": "a", "user": "u1"}) == {"input": "a"}


@pytest.mark.parametrize("answer", [{}, {"data": []}, {"data": [{}]}, {"data": [1]}, {"data": {}}])
def test_what_holds_no_vectors_is_no_answer(answer: Any) -> None:
    assert not is_list(answer)
    assert read(answer) is None


def test_vectors_have_no_confidence_and_no_words() -> None:
    answer: Any = {"data": [{"embedding": [0.1]}]}
    reading = read(answer)
    assert reading is not None
    assert (reading.token_logprobs, reading.text) == ((), "")
    assert EMBEDDINGS.texts(answer) == ()
    assert EMBEDDINGS.tell is None


def test_moderations_never_leave() -> None:
    assert MODERATIONS.abroad is None
    assert MODERATIONS.at_home.read({"results": []}) is not None
    assert MODERATIONS.at_home.read({"choices": []}) is None
    with pytest.raises(RequestError):
        MODERATIONS.check({"input": ""})

"""Log-probabilities read with distrust, and cut to what a client asked for."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.routes.chat import CHAT
from proxy.routes.completions import COMPLETIONS
from proxy.routes.logprobs import as_asked, is_evidence, read_logprobs


def entry(word: str = "x", logprob: object = -0.5, **top: object) -> dict[str, Any]:
    told = [{"token": name, "logprob": value} for name, value in top.items()]
    return {"token": word, "logprob": logprob, "top_logprobs": told}


def test_reads_alternatives_best_first() -> None:
    told = read_logprobs({"content": [entry("a", -0.5, b=-2, a=-0.5), entry("c", -1, c=-1)]})
    assert told.logprobs == (-0.5, -1.0)
    assert told.top == ((("a", -0.5), ("b", -2.0)), (("c", -1.0),))


@pytest.mark.parametrize(
    "second",
    [entry(), entry(a=0.7), entry(a="1"), {"token": "x", "logprob": -1}, entry(a=0, b=0, c=0)],
    ids=["none", "above zero", "no number", "no list", "zeros"],
)
def test_alternatives_that_one_token_lacks_are_left_out_whole(second: dict[str, Any]) -> None:
    told = read_logprobs({"content": [entry("a", -0.7, a=-0.7), second]})
    assert len(told.logprobs) == 2
    assert told.top == ()


@pytest.mark.parametrize(
    ("logprobs", "evident"),
    [((-1.0,), True), ((0.0,), True), ((-1.0, -2.0), True), ((), False), ((-1.0, -1.0), False)],
)
def test_constants_are_no_evidence(logprobs: tuple[float, ...], evident: bool) -> None:
    assert is_evidence(logprobs) is evident


@pytest.mark.parametrize(
    ("wish", "kept"),
    [({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 1}, 1)],
)
def test_a_client_gets_as_many_as_it_asked_for(wish: dict[str, Any], kept: int | None) -> None:
    logprobs = {"content": [entry("a", -0.5, a=-0.5, b=-2)], "refusal": None}
    cut: Any = as_asked({"id": "1", "choices": [{"index": 0, "logprobs": logprobs}]}, wish)
    told = cut["choices"][0]["logprobs"]
    assert (None if told is None else len(told["content"][0]["top_logprobs"])) == kept


@pytest.mark.parametrize("odd", [{"choices": None}, {"choices": [7]}, {"choices": [{}]}])
def test_an_odd_answer_does_not_break_the_cut(odd: dict[str, Any]) -> None:
    assert "choices" in as_asked(odd, {"logprobs": True})


@pytest.mark.parametrize(
    ("text", "tokens", "counts"),
    [
        ("The Volga.", ["The", " Volga", "."], True),
        ("The Volga flows into the sea", ["The", " Volga"], False),
        ("The Volga flows far", ["think", "ing", "The", " Volga", " flows", " far"], True),
        ("supercalifragilistic", ["supercalifragilistic", "<end>"], True),
        ("\u4f0f\u5c14\u52a0\u6cb3", ["", "", "", "\ufffd", "", ""], True),  # parts of characters
        ("", ["<end>", "x"], True),
        (None, ["<end>", "x"], True),
    ],
)
def test_tokens_that_do_not_spell_the_text_are_no_evidence_of_it(
    text: str | None, tokens: list[str], counts: bool
) -> None:
    content = [entry(token, -0.1 * n) for n, token in enumerate(tokens)]
    assert bool(read_logprobs({"content": content}, text).logprobs) is counts


TEXT = "The Volga flows into the Caspian Sea."


@pytest.mark.parametrize("num", [2, 7])
def test_a_list_that_broke_off_leaves_the_confidence_unknown_on_every_route(num: int) -> None:
    words = TEXT.split()[:num]
    told: Any = {"content": [entry(f" {word}", -0.1 * n) for n, word in enumerate(words)]}
    old: Any = {
        "tokens": [f" {word}" for word in words],
        "token_logprobs": [-0.1 * n for n in range(num)],
    }
    chat: Any = {"index": 0, "message": {"content": TEXT}, "logprobs": told}
    completion: Any = {"index": 0, "text": TEXT, "logprobs": old}
    for route, choice in ((CHAT, chat), (COMPLETIONS, completion)):
        reading = route.at_home.read({"choices": [choice]})
        assert reading is not None
        assert len(reading.token_logprobs) == (num if num == 7 else 0)

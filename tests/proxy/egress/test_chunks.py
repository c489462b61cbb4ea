"""A streamed answer says the same as a whole one, and each text is at its end when it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.egress.chunks import MAX_TEXTS, ChunkRestorer
from proxy.egress.placeholders import Vault
from proxy.routes.events import BrokenStream

VAULT = Vault("")
JANE = VAULT.token_for("PERSON", 'Jane "JD" Doe')
MAIL = VAULT.token_for("EMAIL_ADDRESS", "jane.doe@mail.example")


def delta(said: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": said, "logprobs": {"content": []}, "finish_reason": finish}


def call(place: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **more.pop("function", {})}
    return {"tool_calls": [{"index": place, **more, "function": function}]}


def told(restorer: ChunkRestorer, *chunks: dict[str, Any]) -> list[Any]:
    return [
        choice for chunk in chunks for choices in restorer.choices([chunk]) for choice in choices
    ]


def said(choices: list[Any], index: int = 0) -> str:
    own = [choice["delta"] for choice in choices if choice["index"] == index]
    return "".join(one.get("content") or "" for one in own)


def arguments(choices: list[Any], place: int) -> str:
    return "".join(
        piece["function"]["arguments"]
        for choice in choices
        for piece in choice["delta"].get("tool_calls", ())
        if piece["index"] == place
    )


@given(st.lists(st.integers(1, 9), min_size=1))
def test_a_placeholder_comes_back_however_it_is_cut(sizes: list[int]) -> None:
    text = f"Ask {JANE} or <{MAIL[1:-1].lower()}> of PERSON, e.g. {JANE}"
    restorer, shown, place, number = ChunkRestorer(VAULT), [], 0, 0
    while place < len(text):
        size = sizes[number % len(sizes)]
        shown += told(restorer, delta({"content": text[place : place + size]}))
        place, number = place + size, number + 1
    shown += told(restorer, delta({}, "stop"))
    name, mail = 'Jane "JD" Doe', "jane.doe@mail.example"
    assert said(shown) == f"Ask {name} or {mail} of PERSON, e.g. {name}"
    assert shown[-1]["finish_reason"] == "stop"
    assert [one["finish_reason"] for one in shown[:-1]] == [None] * (len(shown) - 1)
    assert (restorer.num_restored, restorer.num_unknown) == (3, 0)


def test_log_probabilities_are_left_out() -> None:
    assert told(ChunkRestorer(VAULT), delta({"content": "a b "}))[0]["logprobs"] is None


def test_what_is_held_back_comes_before_the_end_and_before_another_text_begins() -> None:
    restorer = ChunkRestorer(VAULT)
    first = told(restorer, delta({"content": "to p"}))
    assert said(first) == "to "
    then = told(restorer, delta(call(0, '{"a": "<PERS', id="call_1", function={"name": "send"})))
    assert [one["delta"].get("content") for one in then] == ["p", None]
    next_ = told(restorer, delta(call(1, "{}", id="call_2", function={"name": "other"})))
    assert arguments(next_, 0) == "<PERS"
    assert "tool_calls" in next_[0]["delta"]
    assert [one["delta"]["tool_calls"][0]["index"] for one in next_] == [0, 1]
    last = told(restorer, delta({"content": "e"}), delta({}, "stop"))
    assert [said([one]) for one in last] == ["", "e", ""]
    assert [one["finish_reason"] for one in last] == [None, None, "stop"]


def test_a_chunk_that_ends_a_choice_holds_the_end_of_its_text() -> None:
    shown = told(
        ChunkRestorer(VAULT), delta({"content": JANE[:9]}), delta({"content": "e"}, "stop")
    )
    assert said(shown) == JANE[:9] + "e"
    assert shown[-1]["delta"]["content"].endswith("e")


def test_choices_are_told_apart() -> None:
    restorer = ChunkRestorer(VAULT)
    half = len(JANE) // 2
    shown = told(
        restorer,
        delta({"content": JANE[:half]}, index=0),
        delta({"content": JANE[half:]}, index=1),
        delta({"content": JANE[half:]}, index=0),
        delta({}, "stop", 0),
        delta({}, "stop", 1),
    )
    assert said(shown, 0) == 'Jane "JD" Doe'
    assert said(shown, 1) == JANE[half:]


@pytest.mark.parametrize("size", [1, 3, 7, 500])
def test_arguments_stay_json_and_calls_with_values_in_them_are_named(size: int) -> None:
    text = json.dumps({"to": JANE, "more": json.dumps({"name": JANE})})
    restorer = ChunkRestorer(VAULT)
    head = delta(call(0, "", id="call_1", type="function", function={"name": "send"}))
    shown = told(restorer, head, delta(call(1, "{}", id="call_2", function={"name": "other"})))
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    shown += told(restorer, *(delta(call(0, piece)) for piece in pieces))
    shown += told(restorer, delta({}, "tool_calls"))
    got = json.loads(arguments(shown, 0))
    assert got["to"] == 'Jane "JD" Doe'
    assert json.loads(got["more"]) == {"name": 'Jane "JD" Doe'}
    assert arguments(shown, 1) == "{}"
    assert restorer.marked == ["call_1"]
    assert shown[0]["delta"]["tool_calls"][0]["id"] == "call_1"


def test_a_call_of_the_old_form_is_named_by_its_function() -> None:
    restorer = ChunkRestorer(VAULT)
    told(
        restorer,
        delta({"function_call": {"name": "send", "arguments": ""}}),
        delta({"function_call": {"arguments": JANE}}),
        delta({}, "function_call"),
    )
    assert restorer.marked == ["send"]


def test_a_placeholder_of_nobody_is_left_and_counted() -> None:
    restorer = ChunkRestorer(VAULT)
    shown = told(restorer, delta({"content": "<PERSON_zzzzz9>"}), delta({}, "stop"))
    assert said(shown) == "<PERSON_zzzzz9>"
    assert (restorer.num_restored, restorer.num_unknown) == (0, 1)


def test_what_never_ended_is_told_at_the_end() -> None:
    restorer = ChunkRestorer(VAULT)
    shown = told(restorer, delta({"content": "to p"}))
    shown += [choice for choices in restorer.rests() for choice in choices]
    assert said(shown) == "to p"


@pytest.mark.parametrize("member", ["content", "words"])
def test_more_texts_than_any_answer_has_are_refused(member: str) -> None:
    chunks = [
        delta(call(number, "a") if member == "content" else {f"x{number}": {"id": "a"}})
        for number in range(5 * MAX_TEXTS)
    ]
    with pytest.raises(BrokenStream) as caught:
        told(ChunkRestorer(VAULT), *chunks)
    assert caught.value.error_type == "garbage"
